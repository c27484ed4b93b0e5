"""Apply a patch to a document (`docs/internals/json-patch.md` 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from patches.errors import PatchError
from patches.json_patch.handlers import HANDLERS, PLAIN_TEXT, Handler, TextRules, custom_handler
from patches.json_patch.javascript import ABSENT, is_falsy
from patches.json_patch.kinds import CustomOps, exists_below, is_soft, like_of, path_of
from patches.json_patch.pointer import holder_keys
from patches.json_patch.working_copy import WorkingCopy
from patches.model.json_values import Json, Op


def apply_patch(
    state: Json,
    ops: Sequence[Op],
    *,
    strict: bool = False,
    rigid: bool = False,
    partial: bool = False,
    at_path: str = "",
    legacy_text_overrun_padding: bool = False,
    on_error: Callable[[str, int], None] | None = None,
    on_text_overrun: Callable[[int], None] | None = None,
    custom_ops: CustomOps | None = None,
) -> Json:
    """The document after `ops`. It shares with `state` whatever they did not touch.

    `state` and `ops` are not changed. If nothing changes, `state` itself comes back; a removed root
    is `ABSENT`.

    An operation that fails is skipped, and a failing `test` ends the patch and gives back `state`.
    With `strict` the first failure raises `PatchError` instead; with `rigid` any failure ends the
    patch; with `partial` an end gives what was built so far. `on_error(message, index)` gets each
    failure that is not raised. A write below a text, a number or `true`, and an operation
    without a usable path, raise `PatchError` in any case.

    `at_path` goes before all paths. `on_text_overrun(length)` gets the length of what ran past
    the end of a text and was dropped; `legacy_text_overrun_padding` is for the history of very old
    releases.
    """
    if not ops:
        return state
    doc = WorkingCopy(state)
    rules = PLAIN_TEXT
    if legacy_text_overrun_padding or on_text_overrun is not None:
        rules = TextRules(legacy_text_overrun_padding, on_text_overrun)
    for index, op in enumerate(ops):
        message = _apply_op(doc, op, at_path, rules, custom_ops)
        if message is None:
            continue
        if strict:
            raise PatchError(message)
        if on_error is not None:
            on_error(message, index)
        if rigid or like_of(op, custom_ops) == "test":
            # as in @dabble/patches 0.28.1, where a falsy document counts as none
            return doc.state if partial or is_falsy(state) else state
    return doc.state


def apply_to_copy(doc: WorkingCopy, ops: Sequence[Op]) -> bool:
    """Apply a patch to a working copy that lives on; whether it changed anything.

    As `apply_patch` with `strict`: the first failure raises `PatchError`. Then the copy is as it
    was.
    """
    for op in ops:
        if isinstance(op.get("value"), (dict, list)):
            doc.share_all(op["value"])
    doc.is_written = False
    if len(ops) == 1 and ops[0].get("op") != "move":  # it fails before it writes
        _apply_strictly(doc, ops)
    else:
        with doc.atomic():
            _apply_strictly(doc, ops)
    return doc.is_written


def _apply_strictly(doc: WorkingCopy, ops: Sequence[Op]) -> None:
    for op in ops:
        message = _apply_op(doc, op, "", PLAIN_TEXT, None)
        if message is not None:
            raise PatchError(message)


def apply_op(
    doc: WorkingCopy, op: Op, custom_ops: CustomOps | None = None, at_path: str = ""
) -> str | None:
    """Apply one operation to a working copy; returns the message of what failed."""
    return _apply_op(doc, op, at_path, PLAIN_TEXT, custom_ops)


def _apply_op(
    doc: WorkingCopy, op: Op, at_path: str, rules: TextRules, custom_ops: CustomOps | None
) -> str | None:
    path = op.get("path")
    if not isinstance(path, str):
        path = path_of(op)  # which raises
    source = op.get("from")
    value = source if isinstance(source, str) and source else op.get("value", ABSENT)
    if at_path:
        path = at_path + path
        if isinstance(source, str):
            value = at_path + source
    name = op.get("op")
    may_be_soft = name == "add" or "soft" in op
    if may_be_soft and is_soft(op) and exists_below(doc.holder, holder_keys(path)):
        return None
    handler: Handler | None = None
    if isinstance(name, str):
        if custom_ops and name in custom_ops:
            handler = custom_handler(custom_ops[name])
        else:
            handler = HANDLERS.get(name)
    if handler is None:
        return f"[op:{op.get('op', 'undefined')}] unknown"
    return handler(doc, path, value, rules)

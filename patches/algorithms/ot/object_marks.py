"""Mark the operations of an edit that lead to a member of an object under a key like `"5"`.

The walk has no state and takes such a key for the index of a list. Where the edit is made the
state is at hand, so this is where the mark is set (`json_patch/object_keys.py`).
"""

from __future__ import annotations

from typing import Final

from patches.errors import PatchError
from patches.json_patch.apply import apply_op
from patches.json_patch.javascript import is_falsy
from patches.json_patch.kinds import INSERT_LIKES
from patches.json_patch.object_keys import ends_in_index, with_mark
from patches.json_patch.pointer import holder_keys, last_key, member
from patches.json_patch.working_copy import WorkingCopy
from patches.model.json_values import Json, Op


def mark_object_keys(state: Json, ops: list[Op]) -> list[Op]:
    """`ops`, which were made for `state`, with the marks they need; the same list if none does.

    An operation that cannot be applied ends it: the edit will be refused.
    """
    last = -1
    for at, op in enumerate(ops):
        if _may_need_a_mark(op):
            last = at
    if last < 0:
        return ops
    doc = WorkingCopy(state)
    result = list(ops)
    try:
        for at, op in enumerate(ops[: last + 1]):
            if _may_need_a_mark(op):
                source = isinstance(op.get("from"), str) and _is_member(doc, op["from"], op)
                if op.get("op") == "move" and op["from"] != op["path"]:
                    # Its path is meant as it is once the value has been taken out.
                    _require(apply_op(doc, {"op": "copy", "from": op["from"], "path": _ASIDE}))
                    _require(apply_op(doc, {"op": "remove", "path": op["from"]}))
                    op = {**op, "from": _ASIDE}
                path = _is_member(doc, op["path"], op)
                result[at] = with_mark(ops[at], path=path, source=source)
            if at < last:
                _require(apply_op(doc, op))
    except (PatchError, KeyError):
        return ops
    return ops if all(map(_is, result, ops)) else result


#: Where a moved value is between the two ends of its move: beside the document.
_ASIDE: Final = "aside"


def _require(message: str | None) -> None:
    if message is not None:
        raise PatchError(message)


def _may_need_a_mark(op: Op) -> bool:
    return ends_in_index(op.get("path")) or ("from" in op and ends_in_index(op["from"]))


def _is_member(doc: WorkingCopy, pointer: str, op: Op) -> bool:
    """Whether the container of a pointer is an object, or becomes one by the write of `op`."""
    container: Json = doc.holder
    for key in holder_keys(pointer)[:-1]:
        container = member(container, key)
    if is_falsy(container):
        return op.get("op") not in INSERT_LIKES or last_key(pointer) != "0"
    return isinstance(container, dict)


def _is(a: Op, b: Op) -> bool:
    return a is b

"""Operations that no draft recorded: JSON Patch lists and `jsonpatch.JsonPatch` objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from patches.errors import InvalidValueError, PatchError
from patches.json_patch import ABSENT, apply_patch, pointer
from patches.model.json_values import Json, Op, checked_copy


def plain_ops(state: Json, ops: Any, *, max_depth: int = 60) -> list[Op]:
    """`ops` as a list of its own, to be applied to `state`. Raises `PatchError` for what is none.

    An `add` of an empty container is a soft write here, an insertion in RFC 6902: into a list it
    becomes an insertion that is not skipped, and in a `jsonpatch.JsonPatch` on a member a
    `replace`.
    """
    foreign = not isinstance(ops, Sequence) and isinstance(getattr(ops, "patch", None), list)
    listed = ops.patch if foreign else ops
    if isinstance(listed, (str, bytes, Mapping)) or not isinstance(listed, Sequence):
        raise PatchError(
            f"apply() takes a list of operations or a jsonpatch.JsonPatch, not {type(ops).__name__}"
        )
    taken = [_taken(op, index, max_depth) for index, op in enumerate(listed)]
    if any(_adds_empty(op) for op in taken):
        return _hardened(state, taken, members=foreign)
    return taken


def _taken(op: Any, index: int, max_depth: int) -> Op:
    if not isinstance(op, Mapping):
        raise PatchError(f"ops[{index}]: expected an operation object, got {type(op).__name__}")
    try:
        taken: Op = checked_copy(op, max_depth=max_depth + 1)
    except InvalidValueError as exc:
        raise InvalidValueError(f"ops[{index}]: {exc}", path=exc.path) from None
    return taken


def _adds_empty(op: Op) -> bool:
    return op.get("op") == "add" and op.get("value") in ([], {}) and op.get("soft") is not True


def _hardened(state: Json, ops: list[Op], *, members: bool) -> list[Op]:
    """Whether a target is a list can depend on the operations before."""
    hardened: list[Op] = []
    for op in ops:
        after = [op]
        if _adds_empty(op):
            parent, index = _target(state, op["path"])
            if isinstance(parent, list):
                path = op["path"][: op["path"].rindex("/") + 1] + index
                after = [
                    {**op, "path": path, "value": None},
                    {**op, "path": path, "op": "replace"},
                ]
            elif members:
                after = [{**op, "op": "replace"}]
        hardened += after
        state = apply_patch(state, after, strict=True)
    return hardened


def _target(state: Json, path: Any) -> tuple[Json, str]:
    """The container of a path's last part, `None` if there is none; that part, `-` as an index."""
    if not isinstance(path, str) or not path.startswith("/"):
        return None, ""
    above, key = pointer.parent(path), pointer.unescape(pointer.last_key(path))
    container = pointer.value_at(state, above)
    if isinstance(container, list) and key == "-":
        return container, str(len(container))
    return None if container is ABSENT else container, key

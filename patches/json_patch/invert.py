"""The patch that undoes a patch (`docs/internals/json-patch.md` 10)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from patches.errors import PatchError
from patches.json_patch.apply import apply_op
from patches.json_patch.handlers import delta_of
from patches.json_patch.javascript import ABSENT, to_number
from patches.json_patch.kinds import CustomOps, like_of, path_of
from patches.json_patch.object_keys import (
    OBJECT_KEY,
    is_member_path,
    is_member_source,
    with_mark,
)
from patches.json_patch.pointer import holder_keys, member
from patches.json_patch.working_copy import WorkingCopy
from patches.model.json_values import Json, Op
from patches.text import invert, text_ops_of

_MISMATCH: Final = (
    "Patch mismatch. This patch was not applied to the provided object and cannot be inverted."
)


def invert_patch(
    state: Json, ops: Sequence[Op], *, custom_ops: CustomOps | None = None
) -> list[Op]:
    """The operations that undo `ops`; `state` is the document before them.

    A value that a `move` overwrote does not come back, and a soft operation counts as applied.
    Raises `PatchError` if a path leads through what is not there, or an operation is not known.
    """
    doc = WorkingCopy(state)
    inverse: list[Op] = []
    for op in ops:
        if like_of(op, custom_ops) is None:
            raise PatchError("Unknown patch operation, cannot invert")
        undo = _invert_op(op, _find(doc, path_of(op)), custom_ops)
        if undo is not None:
            if OBJECT_KEY in op:
                undo = _with_mark_of(op, undo)
            if "value" in undo:
                doc.share(undo["value"])  # later operations must not write into it
            inverse.append(undo)
        try:
            apply_op(doc, op, custom_ops)
        except PatchError as error:
            raise PatchError(f"{_MISMATCH} {error}") from error
    return inverse[::-1]


class _Found(NamedTuple):
    """What is at a path before an operation."""

    old: Json
    list_length: int | None  # of the container, if it is a list
    key: str


def _find(doc: WorkingCopy, path: str) -> _Found:
    keys = holder_keys(path)
    container: Json = doc.holder
    for key in keys[:-1]:
        container = member(container, key)
        if container is None or container is ABSENT:
            raise PatchError(f"{_MISMATCH} Nothing at {key!r} in {path!r}")
    length = len(container) if isinstance(container, list) else None
    return _Found(member(container, keys[-1]), length, keys[-1])


def _invert_op(op: Op, found: _Found, custom_ops: CustomOps | None) -> Op | None:
    name, path = op["op"], op["path"]
    if custom_ops and name in custom_ops:
        custom = custom_ops[name]
        if custom.invert is not None:
            return custom.invert(op, found.old)
        return None if custom.like == "test" else _restored(path, found)
    match name:
        case "test":
            return None
        case "remove":
            undo: Op = {"op": "add", "path": path}
            return undo if found.old is ABSENT else {**undo, "value": found.old}
        case "move":
            source = op.get("from")
            if not isinstance(source, str):
                raise PatchError(f"{_MISMATCH} A move needs a source")
            return {"op": "move", "from": path, "path": source}
        case "@txt":
            return _invert_text(op, found)
        case "add" | "copy" if _is_insert(path, found):
            return {"op": "remove", "path": _concrete(path, found)}
        case _:
            return _restored(path, found)


def _with_mark_of(op: Op, undo: Op) -> Op:
    """`undo` with the object marks of `op`; that of a `move` goes the other way."""
    if undo["op"] == "move":
        return with_mark(undo, path=is_member_source(op), source=is_member_path(op))
    return with_mark(undo, path=is_member_path(op))


def _is_insert(path: str, found: _Found) -> bool:
    if path.endswith("/-"):
        return True
    return found.list_length is not None and to_number(found.key) >= 0


def _concrete(path: str, found: _Found) -> str:
    """`path`, an appending one with the index that it stands for.

    In an object `-` is a key like any other, but the inverses recorded of 0.28.1 name the length
    that objects have in JavaScript; these are kept, as they are what its clients send.
    """
    if found.key != "-":
        return path
    return f"{path[:-1]}{'undefined' if found.list_length is None else found.list_length}"


def _restored(path: str, found: _Found) -> Op:
    path = _concrete(path, found)
    if found.old is ABSENT:
        return {"op": "remove", "path": path}
    return {"op": "replace", "path": path, "value": found.old}


def _invert_text(op: Op, found: _Found) -> Op:
    path = op["path"]
    if found.old is ABSENT:
        return {"op": "remove", "path": path}
    change = delta_of(op.get("value"))
    if change is None:
        raise PatchError(f"Cannot invert @txt op at {path}: value is not a Delta ops array")
    base = text_ops_of(found.old)
    if base is None:
        return _restored(path, found)  # it was no text, and gives way to one
    return {"op": "@txt", "path": path, "value": invert(change, base)}

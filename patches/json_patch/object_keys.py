"""The mark on operations whose key looks like an index and is a member of an object.

A transform has no state, so it takes every number that ends a pointer for an index: `remove /y/5`
shifts `/y/7` down, also where `/y` is an object. An operation may therefore carry the member
`"obj"`, which @dabble/patches 0.28.1 does not know and passes on:

- `true`: every end of this operation that looks like an index is a member of an object;
- `"path"` or `"from"`: only that end is; the other one is an index of a list.

Where one operation of a pair is marked, the container is known to be an object for both, and
neither shifts the other. Applying ignores the mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from patches.json_patch.pointer import container_prefix, is_index
from patches.model.json_values import Json, Op

OBJECT_KEY: Final = "obj"


def ends_in_index(pointer: object) -> bool:
    """Whether the last key of a pointer looks like an index."""
    if not isinstance(pointer, str) or not pointer[-1:].isdecimal():
        return False
    return is_index(pointer[pointer.rfind("/") + 1 :])


def is_member_path(op: Op) -> bool:
    """Whether an operation is marked: its path ends at a member of an object."""
    mark = op.get(OBJECT_KEY)
    return (mark is True or mark == "path") and ends_in_index(op.get("path"))


def is_member_source(op: Op) -> bool:
    """Whether an operation is marked: its `from` ends at a member of an object."""
    mark = op.get(OBJECT_KEY)
    return (mark is True or mark == "from") and ends_in_index(op.get("from"))


def has_marks(ops: Iterable[Op]) -> bool:
    """Whether any operation is marked."""
    return any(OBJECT_KEY in op for op in ops)


def with_mark(op: Op, *, path: bool, source: bool = False) -> Op:
    """`op` with the mark for the ends that are members; the same object if it says so already.

    An end that does not look like an index needs no mark.
    """
    path_is_index, source_is_index = ends_in_index(op.get("path")), ends_in_index(op.get("from"))
    mark: Json = None
    if path and path_is_index:
        mark = True if source or not source_is_index else "path"
    elif source and source_is_index:
        mark = "from" if path_is_index else True
    if op.get(OBJECT_KEY) == mark and (mark is not None or OBJECT_KEY not in op):
        return op
    if mark is not None:
        return {**op, OBJECT_KEY: mark}
    return {key: value for key, value in op.items() if key != OBJECT_KEY}


def object_prefixes(ops: Sequence[Op]) -> frozenset[str]:
    """The containers that marks say are objects: their pointers, each with a `/` at its end."""
    found: set[str] = set()
    for op in ops:
        if OBJECT_KEY in op:
            if is_member_path(op):
                found.add(container_prefix(op["path"]))
            if is_member_source(op):
                found.add(container_prefix(op["from"]))
    return frozenset(found)

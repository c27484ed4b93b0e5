"""Programs whose operations cannot meet each other, and so may be walked one by one.

A change of a letter and a counter is two edits of two places. Each of them meets the edits of its
own place only, so each is walked by itself, as a change of one operation is. That gives the same
result as the whole if no operation of the program can touch the place of another: all have plain
names, one pointer and no condition, and no place is another one or lies above it. The place of an
operation on a list element is the list, also for a `replace`, because a `replace` of a removed
element turns into an insertion.
"""

from __future__ import annotations

from typing import Final

from patches.json_patch.pointer import is_index
from patches.model.json_values import Op

#: Operations with one pointer.
_PLAIN: Final = frozenset({"replace", "add", "remove", "@inc", "@bit", "@max", "@min", "@txt"})
#: Two of these at one place leave each other as they are.
_COUNTERS: Final = frozenset({"@inc", "@bit", "@max", "@min"})


def is_plain(op: Op) -> bool:
    """Whether an operation has one pointer below the root, and no condition or mark."""
    path = op.get("path")
    if op.get("op") not in _PLAIN or not isinstance(path, str) or path[:1] != "/":
        return False
    return "from" not in op and "soft" not in op and "obj" not in op


def is_independent(ops: list[Op]) -> bool:
    """Whether every operation of a program may be walked by itself."""
    if len(ops) == 1:
        return is_plain(ops[0])
    if not all(map(is_plain, ops)):
        return False
    places = [_place(op["path"]) for op in ops]
    distinct = set(places)
    if len(distinct) != len(places):
        return False
    for place in places:
        end = place.rfind("/")
        while end > 0:
            if place[:end] in distinct:
                return False
            end = place.rfind("/", 0, end)
        if end == 0 and "" in distinct:
            return False
    return True


def counter_place(ops: list[Op]) -> str | None:
    """The path of a program that is one counter operation; `None` for everything else."""
    if len(ops) == 1 and ops[0].get("op") in _COUNTERS and is_plain(ops[0]):
        path: str = ops[0]["path"]
        return path
    return None


def steady_place(op: Op) -> str:
    """What lies above a plain operation wherever other plain ones shift it: no index is in it."""
    path: str = op["path"]
    start = 0
    while (end := path.find("/", start + 1)) != -1 or start < len(path):
        key = path[start + 1 :] if end == -1 else path[start + 1 : end]
        if is_index(key):
            return path[:start]
        if end == -1:
            break
        start = end
    return path


def _place(path: str) -> str:
    above, _, key = path.rpartition("/")
    return above if is_index(key) else path

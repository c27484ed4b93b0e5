"""Which operations can meet at all: most edits of two people are in different places.

Every rule of transform begins at an operation whose path or source begins with the other's path, or
for an array index with the path of its array. So a committed operation that finds no such pointer
in a list leaves it as it is, and need not be walked over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from patches.json_patch.pointer import is_index
from patches.json_patch.transform.relations import source_of
from patches.model.json_values import Op

_FEW: Final = 4


class TouchedPaths:
    """Where a list of operations reads and writes."""

    __slots__ = ("_everywhere", "_pointers", "_segments", "_text")

    def __init__(self, ops: Sequence[Op]) -> None:
        pointers: list[str] = []
        everywhere = False
        for op in ops:
            path, source = op["path"], source_of(op)
            pointers.append(path)
            if source is not None:
                pointers.append(source)
            if not path or path == source:  # the root is above everything; `x` to `x` is dropped
                everywhere = True
        self._everywhere = everywhere
        self._pointers = pointers
        self._segments: frozenset[str] | None = None
        self._text = ""

    def meets(self, op: Op, *, other_ops_first: bool = False) -> bool:
        """Whether `op` might change the list, or be in doubt about it."""
        if self._everywhere:
            return True
        path, source = op.get("path"), source_of(op)
        if not isinstance(path, str) or not path or source == "":
            return True
        if self._has(_probe(path)):
            return True
        if op.get("op") != "move" or source is None:
            return False  # what a copy reads changes nothing
        if other_ops_first:  # then also operations above the source count
            return self._has_segment(first_segment(source))
        return self._has(_probe(source))

    def _has(self, beginning: str) -> bool:
        if len(self._pointers) <= _FEW:
            return any(pointer.startswith(beginning) for pointer in self._pointers)
        if beginning == "/":
            return True
        if not self._has_segment(first_segment(beginning)):
            return False
        if not self._text:
            self._text = "\n" + "\n".join(self._pointers)
        return "\n" + beginning in self._text  # one search in C; a newline in a key does no harm

    def _has_segment(self, segment: str) -> bool:
        if self._segments is None:
            self._segments = frozenset(map(first_segment, self._pointers))
        return segment in self._segments


def _probe(path: str) -> str:
    """What a pointer begins with that an operation at `path` could touch."""
    cut = path.rfind("/") + 1
    return path[:cut] if cut and is_index(path[cut:]) else path


def first_segment(pointer: str) -> str:
    """A pointer up to its first key: `/items` of `/items/0/name`."""
    end = pointer.find("/", 1)
    return pointer if end < 0 else pointer[:end]

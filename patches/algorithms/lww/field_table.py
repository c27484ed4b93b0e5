"""`FieldTable`: one op per path, with the children of a path found without visiting every path.

Paths are compared as raw strings (`docs/internals/lww.md` 1.6): a child of `/a` starts with `/a/`,
escapes are not decoded. The table keeps, for each path that has something below it, the paths one
step below. So a write costs with the depth of its path and with what it replaces, not with the
number of fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from patches.model.json_values import Op


def is_below(path: str, parent: str) -> bool:
    """Whether `path` is a child of `parent`, at any depth."""
    return path.startswith(parent + "/")


def ancestor_paths(path: str) -> Iterator[str]:
    """The paths above, nearest first. The root is not one of them (`docs/internals/lww.md` 4.3)."""
    end = path.rfind("/")
    while end > 0:
        path = path[:end]
        yield path
        end = path.rfind("/")


class Fields(Protocol):
    """What consolidation reads: a `FieldTable`, or a view of a store."""

    def get(self, path: str) -> Op | None:
        """The op at exactly this path."""

    def below(self, path: str) -> list[str]:
        """The paths of all children, in the order in which they were first put."""

    def has_below(self, path: str) -> bool:
        """Whether there is a child."""


class Rows(Fields, Protocol):
    """Ops by path. `put` keeps the place of a path that is there; `write` moves it to the end."""

    def put(self, op: Op) -> None:
        """Set the op at its path."""

    def write(self, op: Op) -> None:
        """Set the op at its path, after all others."""

    def discard(self, path: str) -> None:
        """Remove the op at exactly this path, if there is one."""

    def ops(self) -> list[Op]:
        """All, in the order they were put."""

    def any(self) -> bool:
        """Whether there is one."""

    def clear(self) -> None:
        """Remove all."""


def put_consolidated(table: Rows, saved: Iterable[Op], removed_paths: Iterable[str]) -> None:
    """Take over what a consolidation gave for a table; a parent comes before its children."""
    for path in removed_paths:
        table.discard(path)
    put: set[str] = set()
    for op in saved:
        path = op["path"]
        # A child that stood before a parent which was written after it moves behind that.
        if put and (("" in put) or any(above in put for above in ancestor_paths(path))):
            table.write(op)
        else:
            table.put(op)
        put.add(path)


class FieldTable:
    """Ops by path, in the order of first insertion. Not thread-safe; never changes an op."""

    __slots__ = ("_names", "_next", "_order", "by_path", "get")

    def __init__(self, ops: Iterable[Op] = ()) -> None:
        #: The ops in order. To be read only.
        self.by_path: dict[str, Op] = {}
        #: The op at exactly a path, or `None`: the dict's own method, since each write asks often.
        self.get: Callable[[str], Op | None] = self.by_path.get
        self._order: dict[str, int] = {}
        self._next = 0
        self._names: dict[str, dict[str, None]] = {}  # path -> full paths one step below it
        for op in ops:
            self.put(op)

    def put(self, op: Op) -> None:
        """Set the op at its path; a path that has one keeps its place."""
        path = op["path"]
        if path not in self.by_path:
            self._order[path] = self._next
            self._next += 1
            end = path.rfind("/")
            siblings = self._names.get(path[:end]) if end >= 0 else None
            if siblings is not None:
                siblings[path] = None
            else:
                self._link(path)
        self.by_path[path] = op

    def discard(self, path: str) -> None:
        """Remove the op at exactly this path, if there is one."""
        if self.by_path.pop(path, None) is not None:
            del self._order[path]
            if path not in self._names:
                self._unlink(path)

    def write(self, op: Op) -> None:
        """Set the op at its path, after all others."""
        path = op["path"]
        if path in self.by_path:  # it stays linked
            del self.by_path[path]
            self.by_path[path] = op
            self._order[path] = self._next
            self._next += 1
        else:
            self.put(op)

    def below(self, path: str) -> list[str]:
        """The paths of all children, in the order in which they were first put."""
        if path not in self._names:
            return []
        found: list[str] = []
        pending = [path]
        while pending:
            for name in self._names.get(pending.pop(), ()):
                pending.append(name)
                if name in self.by_path:
                    found.append(name)
        found.sort(key=self._order.__getitem__)
        return found

    def has_below(self, path: str) -> bool:
        """Whether there is a child."""
        return path in self._names

    def ops(self) -> list[Op]:
        """All, in the order of the paths."""
        return list(self.by_path.values())

    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.by_path)

    def clear(self) -> None:
        """Remove all."""
        self.by_path.clear()
        self._order.clear()
        self._names.clear()

    def __iter__(self) -> Iterator[Op]:
        return iter(self.by_path.values())

    def __len__(self) -> int:
        return len(self.by_path)

    def __contains__(self, path: object) -> bool:
        return path in self.by_path

    def _link(self, path: str) -> None:
        end = path.rfind("/")
        while end >= 0:
            parent = path[:end]
            names = self._names.get(parent)
            if names is not None:  # then everything above is linked already
                names[path] = None
                return
            self._names[parent] = {path: None}
            if parent in self.by_path:
                return
            path, end = parent, parent.rfind("/")

    def _unlink(self, path: str) -> None:
        while path not in self._names and path not in self.by_path:
            end = path.rfind("/")
            if end < 0:
                return
            parent = path[:end]
            names = self._names[parent]
            del names[path]
            if names:
                return
            del self._names[parent]
            path = parent

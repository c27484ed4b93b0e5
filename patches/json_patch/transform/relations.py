"""How operations stand to each other in a transform.

The rules: `docs/internals/json-patch.md` 7.2 and 8.1.
"""

from __future__ import annotations

from typing import Final

from patches.json_patch.javascript import ABSENT, is_falsy
from patches.json_patch.kinds import INSERT_LIKES, CustomOps, Like, like_of
from patches.json_patch.object_keys import object_prefixes
from patches.json_patch.pointer import (
    container_prefix,
    holder_keys,
    is_index,
    is_under,
    last_key,
    member,
)
from patches.model.json_values import Json, Op

#: A number of more digits is no index that a rule could shift.
_MOST_DIGITS: Final = 15


class Context:
    """What one call of `transform_patch` is about: the state, if any, and who comes first."""

    __slots__ = (
        "custom_ops",
        "has_marks",
        "objects",
        "older_inserts_first",
        "other_ops_first",
        "state",
    )

    def __init__(self, state: Json, *, other_ops_first: bool, custom_ops: CustomOps | None) -> None:
        self.state: Json | None = None if is_falsy(state) else state
        self.other_ops_first: bool = other_ops_first
        #: Two insertions at one place must end in the same order in both directions: where the list
        #: is older, it takes the side that it had when the other one was moved behind it.
        self.older_inserts_first: bool = other_ops_first
        self.custom_ops: CustomOps | None = custom_ops
        self.has_marks: bool = False
        #: During one pass: the containers that marks on either side say are objects.
        self.objects: frozenset[str] = frozenset()

    def look_for_marks(self, op: Op, ops: list[Op]) -> None:
        """Note the containers that `op` and `ops` mark as objects, for the pass of `op`."""
        self.objects = object_prefixes([op, *ops])

    def like(self, op: Op) -> Like | None:
        """The like of an operation; `None` if nobody knows its name."""
        return like_of(op, self.custom_ops)

    def is_array_path(self, path: str) -> bool:
        """Whether `path` is taken for an array index. Without a state every number is."""
        if not is_index(last_key(path)):
            return False
        if self.objects and container_prefix(path) in self.objects:
            return False
        if self.state is None:
            return True
        container = self._container(path)
        return is_falsy(container) or isinstance(container, list)

    def is_known_array(self, path: str) -> bool:
        """Whether the state has an array that holds `path`."""
        return self.state is not None and isinstance(self._container(path), list)

    def _container(self, path: str) -> Json:
        container: Json = {"": self.state}
        for key in holder_keys(path)[:-1]:
            container = member(container, key)
            if is_falsy(container):
                return ABSENT
        return container

    def is_hard_set(self, op: Op, path: str) -> bool:
        """Whether `op` certainly sets the value at `path`, whatever is there."""
        if op["path"] != path or is_marked_soft(op):
            return False
        like = self.like(op)
        if like == "replace":
            return True
        return like in INSERT_LIKES and not path.endswith("/-") and not self.is_array_path(path)


def is_marked_soft(op: Op) -> bool:
    """Soft as transform sees it: any true value of the field, and an empty container is not."""
    soft = op.get("soft")
    return soft is not None and not is_falsy(soft)


def source_of(op: Op) -> str | None:
    """The `from` of an operation."""
    source = op.get("from")
    return source if isinstance(source, str) else None


def is_at_or_under(pointer: str, above: str) -> bool:
    """Whether two pointers are equal, or the first leads into what the second leads to."""
    return pointer == above or is_under(pointer, above)


def are_nested(a: str, b: str) -> bool:
    """Whether one of two pointers leads into what the other leads to, or they are equal."""
    return is_at_or_under(a, b) or is_under(b, a)


def split_index(path: str) -> tuple[str, int]:
    """An array path as what goes before its index, and the index."""
    cut = path.rindex("/") + 1
    return path[:cut], int(path[cut:][: _MOST_DIGITS + 1])


def index_in(pointer: str | None, prefix: str) -> tuple[int, int] | None:
    """The index right after `prefix` and where it ends (-1: with the pointer); `None` without."""
    if pointer is None or not pointer.startswith(prefix):
        return None
    start = len(prefix)
    end = pointer.find("/", start)
    part = pointer[start:] if end < 0 else pointer[start:end]
    if len(part) > _MOST_DIGITS or not is_index(part):
        return None
    return int(part), end


def with_index(pointer: str, prefix: str, index: int, end: int) -> str:
    """`pointer` with another index after `prefix`."""
    return f"{prefix}{index}" if end < 0 else f"{prefix}{index}{pointer[end:]}"


def redirected(op: Op, path: str, source: str | None) -> Op:
    """`op` with another path and source; the same object if they are the ones it has."""
    if op["path"] == path and source_of(op) == source:
        return op
    changed = {**op, "path": path}
    if source is not None:
        changed["from"] = source
    return changed

"""What kinds of operations there are, the custom ones that a caller brings, and soft ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from patches.errors import PatchError
from patches.json_patch.javascript import ABSENT
from patches.json_patch.pointer import holder_keys, index_of, is_index
from patches.model.json_values import Json, Op

#: How an operation behaves beside others. The five `@` operations are all like `replace`.
Like: TypeAlias = Literal["add", "remove", "replace", "move", "copy", "test"]

LIKES: Final[Mapping[str, Like]] = {
    "add": "add",
    "remove": "remove",
    "replace": "replace",
    "move": "move",
    "copy": "copy",
    "test": "test",
    "@inc": "replace",
    "@bit": "replace",
    "@max": "replace",
    "@min": "replace",
    "@txt": "replace",
}
#: The likes that put something at their path.
INSERT_LIKES: Final = frozenset({"add", "copy", "move"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomOp:
    """An operation of the caller's own, registered by name in `custom_ops`.

    `apply(current, value)` gives the new value at the path (`current` is `ABSENT` where there is
    none), or `ABSENT` to leave things as they are; it raises `PatchError` to fail. For a `like` of
    `"test"` only whether it raises counts. `like` decides how the operation is transformed and
    inverted; `transform(state, op, incoming)`, `invert(op, current)` and `compose(first, second)`
    (of two values at one path) replace what follows from it. All must be pure.
    """

    apply: Callable[[Json, Json], Json]
    like: Literal["replace", "test"] = "replace"
    transform: Callable[[Json, Op, list[Op]], list[Op]] | None = None
    invert: Callable[[Op, Json], Op | None] | None = None
    compose: Callable[[Json, Json], Json] | None = None


#: Custom operations by name. They come before built-in ones of the same name.
CustomOps: TypeAlias = Mapping[str, CustomOp]


def like_of(op: Op, custom_ops: CustomOps | None) -> Like | None:
    """The like of an operation; `None` if nobody knows its name."""
    name = op.get("op")
    if not isinstance(name, str):
        return None
    if custom_ops and name in custom_ops:
        return custom_ops[name].like
    return LIKES.get(name)


def is_soft(op: Op) -> bool:
    """Whether an operation yields to what is there: marked `soft`, or adding an empty container."""
    return op.get("soft") is True or is_empty_add(op)


def is_empty_add(op: Op) -> bool:
    """Whether an operation adds `{}` or `[]`."""
    if op.get("op") != "add":
        return False
    value = op.get("value")
    return isinstance(value, (dict, list)) and not value


def exists(state: Json, path: str) -> bool:
    """Whether there is a value at `path`; `null` is one."""
    return exists_below({"": state} if state is not ABSENT else {}, holder_keys(path))


def exists_below(container: Json, keys: Sequence[str]) -> bool:
    """Whether every key is there, from `container` on."""
    for key in keys:
        if isinstance(container, dict) and key in container:
            container = container[key]
        elif isinstance(container, list) and is_index(key) and index_of(key) < len(container):
            container = container[int(key)]
        else:
            return False
    return True


def soft_filter(state: Json, ops: Sequence[Op]) -> list[Op]:
    """`ops` without the soft ones whose path is there already. Nothing is applied in between."""
    return [op for op in ops if not (is_soft(op) and exists(state, path_of(op)))]


def path_of(op: Op) -> str:
    """The path of an operation. Raises `PatchError` if it has none."""
    path = op.get("path")
    if not isinstance(path, str):
        raise PatchError(f"[op:{op.get('op')}] requires a path, but got {path!r}")
    return path

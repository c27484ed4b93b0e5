"""`JSONPatch`: builds a list of operations, and holds one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from patches.errors import PatchError
from patches.json_patch.apply import apply_patch
from patches.json_patch.bitmask import bitmask
from patches.json_patch.compose import compose_patch
from patches.json_patch.invert import invert_patch
from patches.json_patch.javascript import ABSENT
from patches.json_patch.kinds import CustomOps
from patches.json_patch.path_proxy import PathProxy
from patches.json_patch.transform.transform import transform_patch
from patches.model.edit_functions import check_edits
from patches.model.json_values import Json, Op
from patches.text import Delta


class JSONPatch:
    """A list of operations under construction; `ops` is the live list.

    A path may be anything with a text form, and gets its leading `/` if it lacks it. The methods
    that add an operation return the patch, so that calls chain.
    """

    def __init__(
        self, ops: Iterable[Op] | None = None, custom_ops: CustomOps | None = None
    ) -> None:
        self.ops: list[Op] = ops if isinstance(ops, list) else list(ops or ())
        self.custom_ops = custom_ops

    def op(
        self, op: str, path: object, value: Json = ABSENT, from_: object = "", soft: bool = False
    ) -> Self:
        """Add an operation of any name. What is not given, or empty, is left off."""
        added: Op = {"op": op, "path": _pointer(path)}
        source = _pointer(from_)
        if source:
            added["from"] = source
        if value is not ABSENT:
            added["value"] = value
        if soft:
            added["soft"] = soft
        self.ops.append(added)
        return self

    def test(self, path: object, value: Json) -> Self:
        """Add a check that the value at `path` equals `value`."""
        return self.op("test", path, value)

    def add(self, path: object, value: Json, *, soft: bool = False) -> Self:
        """Set a member, or insert before a list's element. A soft one yields to what is there."""
        return self.op("add", path, _plain(value), soft=soft)

    def remove(self, path: object) -> Self:
        """Remove a member or an element."""
        return self.op("remove", path)

    def replace(self, path: object, value: Json = ABSENT, *, soft: bool = False) -> Self:
        """Set a member or overwrite an element; without a value, remove it."""
        if value is ABSENT:
            return self.remove(path)
        return self.op("replace", path, _plain(value), soft=soft)

    def copy(self, from_: object, to: object, *, soft: bool = False) -> Self:
        """Add the value found at `from_` also at `to`."""
        return self.op("copy", to, from_=from_, soft=soft)

    def move(self, from_: object, to: object) -> Self:
        """Move a value; nothing if both paths are the same."""
        return self if str(from_) == str(to) else self.op("move", to, from_=from_)

    def increment(self, path: object, by: float = 1) -> Self:
        """Add to a number."""
        return self.op("@inc", path, by)

    def decrement(self, path: object, by: float = 1) -> Self:
        """Subtract from a number."""
        return self.op("@inc", path, -by)

    def max(self, path: object, value: Json) -> Self:
        """Set a value if it is greater than the one there."""
        return self.op("@max", path, _plain(value))

    def min(self, path: object, value: Json) -> Self:
        """Set a value if it is less than the one there."""
        return self.op("@min", path, _plain(value))

    def bit(self, path: object, index: int, on: bool) -> Self:
        """Switch one of the 15 booleans of a number."""
        return self.op("@bit", path, bitmask(index, on))

    def text(self, path: object, ops: Delta | Sequence[Op]) -> Self:
        """Change a rich text by a delta, or its list of ops."""
        if isinstance(ops, Delta):
            ops = ops.ops
        if not isinstance(ops, (list, tuple)):
            raise PatchError(f"@txt value must be an Op[] (Delta.ops); got {_javascript_type(ops)}")
        return self.op("@txt", path, list(ops))

    def add_updates(self, updates: Mapping[str, Json], path: object = "/") -> Self:
        """Set each member of `updates` below `path`; remove those that are `None` or absent.

        A key goes into its path as it is written: escape what has a `/` or `~`.
        """
        base = _pointer(path).rstrip("/") + "/"
        for key, value in updates.items():
            self.replace(base + key, ABSENT if value is None else value)
        return self

    def apply(self, state: Json, **options: Any) -> Json:
        """The document after this patch; the options are those of `apply_patch`."""
        return apply_patch(state, self.ops, custom_ops=self.custom_ops, **options)

    def transform(self, patch: JSONPatch | Sequence[Op], state: Json = None) -> JSONPatch:
        """The *argument*, rewritten to apply after this patch."""
        ops = transform_patch(state, self.ops, ops_of(patch), custom_ops=self.custom_ops)
        return self._with(ops)

    def invert(self, state: Json) -> JSONPatch:
        """The patch that undoes this one, which applies to `state`."""
        return self._with(invert_patch(state, self.ops, custom_ops=self.custom_ops))

    def compose(self, patch: JSONPatch | Sequence[Op] = ()) -> JSONPatch:
        """This patch and then the other, with operations folded into one another."""
        ops = [*self.ops, *ops_of(patch)]
        return self._with(compose_patch(ops, custom_ops=self.custom_ops))

    def concat(self, patch: JSONPatch | Sequence[Op]) -> JSONPatch:
        """This patch and then the other, as they are."""
        return self._with([*self.ops, *ops_of(patch)])

    def to_json(self) -> list[Op]:
        """A copy of the list."""
        return list(self.ops)

    @classmethod
    def from_json(cls, ops: Iterable[Op], custom_ops: CustomOps | None = None) -> Self:
        """A patch of these operations."""
        return cls(ops, custom_ops)

    def _with(self, ops: Iterable[Op]) -> JSONPatch:
        return JSONPatch(list(ops), self.custom_ops)

    def __repr__(self) -> str:
        return f"JSONPatch({self.ops!r})"


def create_json_patch(fn: Callable[[JSONPatch, PathProxy], object]) -> JSONPatch:
    """Call `fn` with an empty patch and the root of all paths; returns the patch."""
    patch = JSONPatch()
    check_edits(fn(patch, PathProxy()), "create_json_patch()")
    return patch


def ops_of(patch: JSONPatch | Sequence[Op]) -> list[Op]:
    """The operations of a patch, or of a list of them."""
    return patch.ops if isinstance(patch, JSONPatch) else list(patch)


def _pointer(path: object) -> str:
    pointer = str(path)
    return f"/{pointer}" if pointer and not pointer.startswith("/") else pointer


def _plain(value: Json) -> Json:
    to_json = getattr(value, "to_json", None)
    return to_json() if callable(to_json) else value


def _javascript_type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "object"

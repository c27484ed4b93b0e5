"""Pointers written as attribute and item access: `path.items[0].name` is `/items/0/name`."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from patches.errors import PatchError
from patches.json_patch.pointer import escape

_HINT: Final = (
    "Path proxies are for generating JSON Pointer paths only. Use JSONPatch methods instead: "
)


class PathProxy:
    """A pointer; its text form is `str(path)`. Access to any attribute or item leads deeper.

    Keys that are no identifiers, or that begin and end with two underscores, need item access.
    """

    __slots__ = ("_pointer",)

    _pointer: str

    def __init__(self, pointer: str = "") -> None:
        object.__setattr__(self, "_pointer", pointer)

    def __getitem__(self, key: str | int) -> PathProxy:
        return PathProxy(f"{self._pointer}/{escape(key)}")

    def __getattr__(self, key: str) -> PathProxy:
        if key.startswith("__") and key.endswith("__"):
            raise AttributeError(key)  # so that copy, pickle and the like see a plain object
        return self[key]

    def __setattr__(self, key: str, value: object) -> NoReturn:
        raise PatchError(
            f"Cannot set property '{key}' on path proxy. {_HINT}patch.replace(path.{key}, value)"
        )

    def __delattr__(self, key: str) -> NoReturn:
        raise PatchError(
            f"Cannot delete property '{key}' on path proxy. {_HINT}patch.remove(path.{key})"
        )

    def __setitem__(self, key: str | int, value: object) -> NoReturn:
        self.__setattr__(str(key), value)

    def __delitem__(self, key: str | int) -> NoReturn:
        self.__delattr__(str(key))

    def __copy__(self) -> PathProxy:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> PathProxy:
        return self

    def __str__(self) -> str:
        return self._pointer

    def __repr__(self) -> str:
        return f"PathProxy({self._pointer!r})"

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, PathProxy) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    __iter__ = None  # or `for` would ask for item 0, 1, 2 ... without an end

"""`guarded`: a copy of a state that raises when somebody writes to it, for debug mode.

A state is shared by the document, its history and its readers. A write to it would change all of
them and never reach a server. Outside debug mode the state is plain JSON, because copying it at
every edit costs time in proportion to its size.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from patches.errors import StateReadOnlyError
from patches.model.json_values import Json


def is_debugging() -> bool:
    """Whether debug mode is on by default: Python's development mode, or an interactive session."""
    return sys.flags.dev_mode or hasattr(sys, "ps1")


_TAKE_A_KEY: Final = frozenset({"__setitem__", "__delitem__", "pop", "setdefault"})


class _Guarded:
    """What both kinds share: `_path` says where in the state it stands, as Python code."""

    _path: str

    def _refuse(self, key: object = None) -> NoReturn:
        place = self._path if key is None else f"{self._path}[{key!r}]"
        raise StateReadOnlyError(
            f"doc.state is read-only; edit with: with doc.edit() as draft: draft{place} = …"
        )

    def __copy__(self) -> Json:
        return plain(self)

    def __deepcopy__(self, _memo: object) -> Json:
        return plain(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (plain, (plain(self),))


def _refusing(name: str) -> Callable[..., NoReturn]:
    def method(self: _Guarded, *args: Any, **_kwargs: Any) -> NoReturn:
        self._refuse(args[0] if args and name in _TAKE_A_KEY else None)

    method.__name__ = name
    return method


class GuardedDict(_Guarded, dict[str, Any]):
    """A dict that refuses every write. `copy()` gives a plain one."""

    def copy(self) -> dict[str, Any]:
        """A plain copy, to be changed."""
        return dict(plain(self))


class GuardedList(_Guarded, list[Any]):
    """A list that refuses every write. `copy()` gives a plain one."""

    def copy(self) -> list[Any]:
        """A plain copy, to be changed."""
        return list(plain(self))


for _name in (
    "__setitem__",
    "__delitem__",
    "__ior__",
    "clear",
    "pop",
    "popitem",
    "setdefault",
    "update",
):
    setattr(GuardedDict, _name, _refusing(_name))
for _name in ("__setitem__", "__delitem__", "__iadd__", "__imul__", "append", "clear", "extend"):
    setattr(GuardedList, _name, _refusing(_name))
for _name in ("insert", "pop", "remove", "reverse", "sort"):
    setattr(GuardedList, _name, _refusing(_name))


def guarded(value: Json, path: str = "") -> Json:
    """A copy of plain JSON that refuses writes, at any depth."""
    copy: GuardedDict | GuardedList
    if isinstance(value, dict):
        copy = GuardedDict({key: guarded(item, f"{path}[{key!r}]") for key, item in value.items()})
    elif isinstance(value, list):
        copy = GuardedList([guarded(item, f"{path}[{index}]") for index, item in enumerate(value)])
    else:
        return value
    copy._path = path
    return copy


def plain(value: Json) -> Json:
    """A copy of JSON without guards."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value

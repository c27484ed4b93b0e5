"""Methods of drafts that say what to write when they are taken for a member of the document.

`draft.items` is the method of every dict, also in a document that has a member of that name. Then
`draft.items.append(1)` fails with an explanation instead of "'function' object has no attribute".
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type)


class _Bound:
    """A method of a draft, bound to it."""

    __slots__ = ("_draft", "_function")

    def __init__(self, function: Callable[..., Any], draft: object) -> None:
        self._function = function
        self._draft = draft

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(self._draft, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        method = self._function.__name__
        if name.startswith("__"):
            return getattr(self._function, name)
        raise AttributeError(
            f"{method!r} is a method of a draft; for the member write draft[{method!r}].{name}(…)"
        )

    def __getitem__(self, key: object) -> Any:
        method = self._function.__name__
        raise TypeError(
            f"{method!r} is a method of a draft; for the member write draft[{method!r}][{key!r}]"
        )


class _Method:
    __slots__ = ("__doc__", "__wrapped__")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__wrapped__ = function
        self.__doc__ = function.__doc__

    def __get__(self, draft: object | None, owner: type) -> Any:
        return self.__wrapped__ if draft is None else _Bound(self.__wrapped__, draft)


def explained(cls: _Class) -> _Class:
    """A class decorator: the public methods, inherited ones too, explain themselves."""
    for name in dir(cls):
        function = getattr(cls, name)
        if not name.startswith("_") and isinstance(function, FunctionType):
            setattr(cls, name, _Method(function))
    return cls

"""Checks of settings: each constructor calls them, so that a mistake is reported where it is made.

All raise `InvalidRequestError`, which names the setting, what it got and what it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from patches.errors import InvalidRequestError

T = TypeVar("T")


def instance_or(default: Callable[[], T], name: str, value: T | None, kind: type[T]) -> T:
    """An instance of a class, or its default."""
    if value is None:
        return default()
    if not isinstance(value, kind):
        raise InvalidRequestError(f"{name} must be {kind.__name__} or None, not {value!r}")
    return value


def check_instance(name: str, value: object, kind: type) -> None:
    """An instance of a class."""
    if not isinstance(value, kind):
        raise InvalidRequestError(f"{name} must be a {kind.__name__}, not {value!r}")


def check_number(name: str, value: object, *, least: float = 0.0) -> None:
    """A finite number of `least` or more."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not least <= value < math.inf:  # type: ignore[operator]  # a number by now
        raise InvalidRequestError(f"{name} must be a number of {least:g} or more, not {value!r}")


def check_integer(name: str, value: object, *, least: int = 1) -> None:
    """An integer of `least` or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidRequestError(f"{name} must be an integer of {least} or more, not {value!r}")


def check_one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """One of several strings."""
    choices = list(allowed)
    if value not in choices:
        shown = " or ".join(map(repr, choices))
        raise InvalidRequestError(f"{name} must be {shown}, not {value!r}")


def check_function(name: str, value: object) -> None:
    """A function, or `None`."""
    if value is not None and not callable(value):
        raise InvalidRequestError(f"{name} must be a function or None, not {value!r}")


def check_bool(name: str, value: object) -> None:
    """`True` or `False`."""
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} must be True or False, not {value!r}")

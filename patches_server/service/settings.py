"""Checks of what a server is configured with: each value is refused where it is given, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from patches.errors import InvalidRequestError


def check_settings(
    *,
    flags: Mapping[str, object] | None = None,
    seconds: Mapping[str, object] | None = None,
    choices: Mapping[str, tuple[object, Sequence[object]]] | None = None,
    objects: Mapping[str, tuple[object, type]] | None = None,
    functions: Mapping[str, object] | None = None,
) -> None:
    """Raise `InvalidRequestError` for the first setting that is not what it should be.

    Settings are given by name: `flags` are `True` or `False`, `seconds` are 0 or more, `choices`
    come with what there is to choose from, `objects` with the class that they must have. Objects
    and `functions` may be `None`.
    """
    for name, value in (flags or {}).items():
        if not isinstance(value, bool):
            raise InvalidRequestError(f"{name} must be True or False, not {value!r}")
    for name, value in (seconds or {}).items():
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 <= value < math.inf
        ):
            raise InvalidRequestError(f"{name} must be a number of seconds, 0 or more: {value!r}")
    for name, (value, known) in (choices or {}).items():
        if value not in known:
            listed = " or ".join(map(repr, known))
            raise InvalidRequestError(f"{name} must be {listed}, not {value!r}")
    for name, (value, kind) in (objects or {}).items():
        if value is not None and not isinstance(value, kind):
            raise InvalidRequestError(f"{name} must be a {kind.__name__}, not {value!r}")
    for name, value in (functions or {}).items():
        if value is not None and not callable(value):
            raise InvalidRequestError(f"{name} must be a function, not {value!r}")

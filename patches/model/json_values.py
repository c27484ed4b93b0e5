"""Plain JSON values: the types, equality as JSON has it, and the check at the door.

In Python `True == 1`, also inside lists and dicts; in JSON only `1` and `1.0` are equal.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from patches.errors import InvalidValueError

#: A JSON value: `dict`, `list`, `str`, `int`, `float`, `bool` or `None`. Treated as immutable.
Json: TypeAlias = Any
#: One JSON Patch operation, with whatever fields it has (RFC 6902; `docs/internals/json-patch.md`
#: 1).
Op: TypeAlias = dict[str, Any]

#: The largest integer that a browser holds exactly.
MAX_SAFE_INTEGER = 2**53 - 1
#: The largest finite double.
MAX_DOUBLE = sys.float_info.max


def json_equal(a: Json, b: Json) -> bool:
    """Whether two JSON values are equal: `1` and `1.0` are, `True` and `1` are not."""
    if a is b:
        return True
    if isinstance(a, str):
        return isinstance(b, str) and a == b
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return False  # the equal singletons are identical
    if isinstance(a, (int, float)):
        return isinstance(b, (int, float)) and a == b
    if isinstance(a, (dict, list)):
        # Python's own comparison tells most containers apart, at once; but it takes `True` for `1`.
        return a == b and _has_same_kinds(a, b)
    return False


def _has_same_kinds(a: Json, b: Json) -> bool:
    """Whether two values that Python takes for equal are so in JSON."""
    if isinstance(a, dict):
        if not isinstance(b, dict):
            return False
        for key, value in a.items():
            other = b[key]
            if value is not other and type(value) is not str and not _has_same_kinds(value, other):
                return False
        return True
    if isinstance(a, list):
        if not isinstance(b, list):
            return False
        for value, other in zip(a, b, strict=True):
            if value is not other and type(value) is not str and not _has_same_kinds(value, other):
                return False
        return True
    return json_equal(a, b)


# `int | float`: compiled, a parameter that is a `float` takes no integer beyond the doubles.
def number_sum(a: int | float, b: int | float) -> int | float:
    """`a + b` as every replica must compute it, whatever language it is written in.

    Beyond ±(2^53-1) the sum is rounded to a double, as JavaScript does. A sum that no double can
    hold is the largest double of its sign: an increment never fails because of what others wrote.
    Raises `ValueError` for NaN.
    """
    if _is_safe_integer(a) and _is_safe_integer(b):
        total: int | float = a + b
        if -MAX_SAFE_INTEGER <= total <= MAX_SAFE_INTEGER:
            return total
    return plain_number(_as_double(_as_double(a) + _as_double(b)))


def plain_number(value: int | float) -> int | float:
    """A finite number as JSON has it: an integral one within ±(2^53-1) is an `int`."""
    if isinstance(value, int):
        return value if _is_safe_integer(value) else float(value)
    if value.is_integer() and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        return int(value)
    return value


def _is_safe_integer(value: int | float) -> bool:
    return isinstance(value, int) and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER


def _as_double(value: int | float) -> float:
    if value != value:
        raise ValueError("the result is not a finite number")
    return float(max(-MAX_DOUBLE, min(MAX_DOUBLE, value)))


def checked_copy(value: object, *, path: str = "", max_depth: int = 60) -> Json:
    """A plain copy of `value` (dicts, lists and scalars of its own), if it is JSON.

    Mappings become dicts, sequences other than strings lists. Raises `InvalidValueError`, naming
    the JSON Pointer of what is wrong: NaN or an infinity, an integer beyond ±(2^53-1), bytes,
    a set or any other object, a key that is not a string, a cycle, or nesting beyond `max_depth`.
    """
    try:
        return _plain(value, max_depth)
    except ValueError:
        # Something else than plain JSON: take it apart again, with the paths and the other classes.
        return _checked(value, path, max_depth, set())


def _plain(value: object, depth: int) -> Json:
    """A copy of a value of the plain classes alone. Raises `ValueError` for any doubt."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if isinstance(value, int):
        if kind is int and -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            return value
    elif isinstance(value, float):
        if kind is float and math.isfinite(value):
            return value
    elif isinstance(value, list):
        if kind is list and depth > 0:
            return [item if type(item) is str else _plain(item, depth - 1) for item in value]
    elif isinstance(value, dict) and kind is dict and depth > 0:
        members: dict[str, Json] = {}
        for key, member in value.items():
            if type(key) is not str:
                raise ValueError
            members[key] = member if type(member) is str else _plain(member, depth - 1)
        return members
    raise ValueError


def _checked(value: object, path: str, depth: int, above: set[int]) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)  # an enum member, for one
    if isinstance(value, int):
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise InvalidValueError(
                f"{_where(path)}: the integer {value} is beyond ±(2^53-1) and would lose digits in "
                f"a browser; store it as a string",
                path=path,
            )
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidValueError(f"{_where(path)}: {value!r} is not a JSON number", path=path)
        return float(value)
    if isinstance(value, (Mapping, Sequence)) and not isinstance(
        value, (bytes, bytearray, memoryview)
    ):
        if id(value) in above:
            raise InvalidValueError(f"{_where(path)}: the value contains itself", path=path)
        if depth <= 0:
            raise InvalidValueError(f"{_where(path)}: nested too deeply", path=path)
        above.add(id(value))
        try:
            if isinstance(value, Mapping):
                return _checked_members(value, path, depth, above)
            return [
                _checked(item, f"{path}/{index}", depth - 1, above)
                for index, item in enumerate(value)
            ]
        finally:
            above.discard(id(value))
    if callable(getattr(value, "isoformat", None)):
        raise InvalidValueError(
            f"{path or 'the value'}: {type(value).__name__} is not JSON; store value.isoformat(), "
            f"or open the document with type=",
            path=path,
        )
    raise InvalidValueError(
        f"{_where(path)}: {type(value).__name__} is not a JSON value "
        f"(dict, list, str, int, float, bool or None)",
        path=path,
    )


def _checked_members(
    value: Mapping[Any, object], path: str, depth: int, above: set[int]
) -> dict[str, Json]:
    members: dict[str, Json] = {}
    for key, member in value.items():
        if not isinstance(key, str):
            raise InvalidValueError(
                f"{_where(path)}: the key {key!r} is {type(key).__name__}, not a string", path=path
            )
        escaped = key.replace("~", "~0").replace("/", "~1")
        plain_key = key if type(key) is str else str.__str__(key)
        members[plain_key] = _checked(member, f"{path}/{escaped}", depth - 1, above)
    return members


def _where(path: str) -> str:
    return f"value at {path!r}" if path else "the value"

"""What JavaScript makes of JSON values, where the wire's other library lets it decide.

`docs/internals/json-patch.md` 4.6 and 15: which values count as false, how `+`, `<` and 32-bit
integers work.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from patches.model.json_values import Json, number_sum
from patches.text import utf16_key

_NOT_A_NUMBER: Final = math.nan


class _Absent:
    """JavaScript's `undefined`: no such member. There is one, `ABSENT`; it is false."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "ABSENT"

    def __copy__(self) -> _Absent:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> _Absent:
        return self

    def __reduce__(self) -> str:
        return "ABSENT"


#: No such member, or a document whose root was removed. It is not `None`, which is JSON's `null`.
ABSENT: Final = _Absent()


def is_falsy(value: Json) -> bool:
    """Absent, `null`, `false`, `0` and `""`; unlike in Python not `[]` and `{}`."""
    return not value and not isinstance(value, (list, dict))


def is_number(value: Json) -> bool:
    """Whether a JSON value is a number; `True` is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def add(current: Json, value: Json) -> Json:
    """`(current || 0) + value`: two numbers add; if either is a string, the two are joined.

    Raises `ValueError` for an object or a list, which have no sum.
    """
    current = 0 if is_falsy(current) else current
    if isinstance(current, (list, dict)) or isinstance(value, (list, dict)) or value is ABSENT:
        raise ValueError("the result is not a finite number")
    if isinstance(current, str) or isinstance(value, str):
        return scalar_text(current) + scalar_text(value)
    return number_sum(current or 0, value or 0)


def is_greater(a: Json, b: Json) -> bool:
    """`a > b`: two texts by code unit, anything else as numbers."""
    a, b = _primitive(a), _primitive(b)
    if isinstance(a, str) and isinstance(b, str):
        if a.isascii() and b.isascii():
            return a > b
        return utf16_key(a) > utf16_key(b)
    return to_number(a) > to_number(b)  # false if one is not a number


def to_int32(value: Json) -> int:
    """A number as a signed 32-bit integer, truncated and wrapped; anything else is 0."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return 0
    wrapped = int(value) & 0xFFFFFFFF
    return wrapped - 0x100000000 if wrapped & 0x80000000 else wrapped


def to_number(value: Json) -> float:
    """`Number(value)`; NaN for a text that is none."""
    if value is ABSENT:
        return _NOT_A_NUMBER
    if value is None:
        return 0
    if isinstance(value, (int, float)):
        return value
    if not isinstance(value, str):
        return to_number(_primitive(value))
    text = value.strip()
    if not text:
        return 0
    try:
        if text[:2].lower() in ("0x", "0o", "0b") and "_" not in text:
            return int(text, 0)
        if not text.isascii() or "_" in text or text.lstrip("+-")[:1].lower() in ("i", "n"):
            return _infinity(text)
        return float(text)
    except ValueError:
        return _NOT_A_NUMBER


def _infinity(text: str) -> float:
    if text.lstrip("+-") != "Infinity" or len(text) > len("+Infinity"):
        return _NOT_A_NUMBER
    return -math.inf if text[0] == "-" else math.inf


def _primitive(value: Json) -> Json:
    if isinstance(value, dict):
        return "[object Object]"
    if isinstance(value, list):
        return ",".join("" if item is None else scalar_text(_primitive(item)) for item in value)
    return value


def scalar_text(value: Json) -> str:
    """`String(value)` of a scalar."""
    if isinstance(value, str):
        return value
    if value is ABSENT:
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return number_text(value)


def number_text(value: float) -> str:
    """A number as JavaScript writes it: `1`, `0.1`, `1e+21`, `1e-7`."""
    value = float(value)
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = int(exponent or 0) + len(whole)  # where the decimal point stands in whole + fraction
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    return ("-" if value < 0 else "") + _placed(digits, point)


def _placed(digits: str, point: int) -> str:
    if 0 < point <= 21:
        if len(digits) <= point:
            return digits.ljust(point, "0")
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{point - 1:+d}"


def json_text(value: Json) -> str:
    """`JSON.stringify(value)`: compact; for messages."""
    if value is ABSENT:
        return "undefined"
    if isinstance(value, dict):
        members = (f"{json_text(key)}:{json_text(member)}" for key, member in value.items())
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        return "".join(f"\\u{ord(c):04x}" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
    return scalar_text(value)

"""Sizes as a browser measures them: bytes of compact JSON, numbers written as JavaScript does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

from patches.model.change import Change
from patches.model.codec import json_size
from patches.model.json_values import Json

#: A number that Python and JavaScript may write differently, or text that looks like one.
_MAYBE_FLOAT: Final = re.compile(rb"[0-9][.eE][0-9+-]")


def json_byte_size(value: Json) -> int:
    """Bytes of `value` as JavaScript's `JSON.stringify` in UTF-8 (`docs/internals/ot.md` 7.1).

    Raises `InvalidJsonError` for what is not JSON.
    """
    return json_size(value) + _difference(value)


def change_byte_size(change: Change) -> int:
    """Bytes of a change on the wire."""
    encoded = change.encoded
    if b"\\u" in encoded or _MAYBE_FLOAT.search(encoded):
        return json_byte_size(change.to_wire())
    return len(encoded)


def list_byte_size(sizes: Iterable[int]) -> int:
    """Bytes of a JSON array whose elements have these sizes."""
    elements = list(sizes)
    return 2 + sum(elements) + max(0, len(elements) - 1)


def javascript_number(value: float) -> str:
    """A finite float as JavaScript writes it: `1`, `0.1`, `1e+21`, `1e-7`."""
    if value == 0:
        return "0"
    digits, _, exponent = f"{value!r}".lower().partition("e")
    sign = "-" if digits.startswith("-") else ""
    whole, _, fraction = digits.lstrip("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    significant = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(significant)
    significant = significant.rstrip("0")
    return sign + _placed(significant, point)


def _placed(digits: str, point: int) -> str:
    """ECMA-262 Number::toString: `0.digits` times 10 to the power of `point`."""
    if len(digits) <= point <= 21:
        return digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    exponent = point - 1
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{'+' if exponent > 0 else '-'}{abs(exponent)}"


def _difference(value: Any) -> int:
    """How many bytes more JavaScript writes for the floats in `value`; may be negative."""
    if isinstance(value, float):
        return len(javascript_number(value)) - len(orjson.dumps(value))
    if isinstance(value, dict):
        return sum(_difference(member) for member in value.values() if type(member) is not str)
    if isinstance(value, list):
        return sum(_difference(item) for item in value if type(item) is not str)
    return 0

"""Sizes as a browser measures them: bytes of compact JSON, numbers written as JavaScript does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

from patches.json_patch.javascript import number_text
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


def _difference(value: Any) -> int:
    """How many bytes more JavaScript writes for the floats in `value`; may be negative."""
    if isinstance(value, float):
        return len(number_text(value)) - len(orjson.dumps(value))
    if isinstance(value, dict):
        return sum(_difference(member) for member in value.values() if type(member) is not str)
    if isinstance(value, list):
        return sum(_difference(item) for item in value if type(item) is not str)
    return 0

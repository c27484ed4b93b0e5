"""JSON to bytes and back, in one place.

orjson does the work. What it refuses and a peer may honestly send or hold goes through the standard
`json` module: lone surrogates (a text edit in a browser counts UTF-16 units and can split the pair
of an emoji), which become ASCII escapes, and nesting beyond orjson's 254 levels on
writing.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import orjson

from patches.errors import InvalidJsonError
from patches.model.json_values import Json

#: orjson's result occupies 4 KiB at least, and up to eight times its length. Much of what is
#: encoded is kept: changes, rows. Shorter results are copied into bytes of their own length; longer
#: ones are few, and of their room only what was written is in memory.
_COPIED_BYTES: Final = 65_536
#: Of more than this, what orjson finds to be no JSON is not read a second time, and what is read is
#: not scanned by the garbage collector again and again: a hostile peer can make both take seconds.
_LARGE: Final = 262_144
_SYNTAX_ERRORS: Final = ("unexpected character", "unexpected content", "unexpected end of data")


class Encoded:
    """JSON that is encoded already, to be spliced into a larger value as it is."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data: bytes = data


def encode(value: Any) -> bytes:
    """Compact JSON, UTF-8. `Encoded` parts go in as they are. Raises `InvalidJsonError`."""
    try:
        data = orjson.dumps(value, default=_fragment)
    except (orjson.JSONEncodeError, TypeError):
        return _encode_tolerant(value)
    return b"".join((data, b"")) if len(data) < _COPIED_BYTES else data


def encode_array(parts: Iterable[bytes]) -> bytes:
    """A JSON array of elements that are encoded already."""
    return b"[" + b",".join(parts) + b"]"


def encode_text(value: Any) -> str:
    """Compact JSON as a string, for a websocket text frame."""
    return encode(value).decode()


def decode(data: bytes | str) -> Json:
    """The value of JSON bytes or a string. Raises `InvalidJsonError`, never `RecursionError`."""
    if len(data) > _LARGE:
        with _uncollected():
            return _decode(data)
    try:
        return orjson.loads(data)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return _decode_tolerant(data)


def json_size(value: Any) -> int:
    """Bytes of `value` as compact UTF-8 JSON, a lone surrogate counting as its six-byte escape."""
    try:
        return len(orjson.dumps(value))
    except (orjson.JSONEncodeError, TypeError):
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as exc:
            raise InvalidJsonError("Error calculating JSON size") from exc
        return len(text.encode("utf-8", "surrogatepass")) + 3 * sum(map(_is_surrogate, text))


def _decode(data: bytes | str) -> Json:
    """`decode` for much of it."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        if exc.msg.startswith(_SYNTAX_ERRORS):
            raise InvalidJsonError(f"not JSON: {exc}") from exc
        return _decode_tolerant(data)
    except UnicodeEncodeError:  # a `str` that itself holds a lone surrogate
        return _decode_tolerant(data)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the cycle collector: a parsed value has no cycles, and all of it is in use."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _encode_tolerant(value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_expanded).encode(
            "ascii"
        )
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidJsonError(f"not a JSON value: {exc}") from exc


def _fragment(value: object) -> orjson.Fragment:
    if isinstance(value, Encoded):
        return orjson.Fragment(value.data)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _expanded(value: object) -> Json:
    if isinstance(value, Encoded):
        return decode(value.data)
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _decode_tolerant(data: bytes | str) -> Json:
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise InvalidJsonError(f"not JSON: {exc}") from exc


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_surrogate(char: str) -> bool:
    return "\ud800" <= char <= "\udfff"

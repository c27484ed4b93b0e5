"""Strings as bytes for SQLite: ids, paths and reasons. A text column refuses lone surrogates.

The bytes sort as the strings do, by code point, so all that begin with one string are one range.
"""

from __future__ import annotations


def to_key(string: str) -> bytes:
    """The bytes that stand for a string."""
    return string.encode("utf-8", "surrogatepass")


def from_key(key: bytes) -> str:
    """The string that the bytes stand for."""
    return key.decode("utf-8", "surrogatepass")


def readable(key: object) -> str:
    """A string for a key that may be damaged."""
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else repr(key)


def range_below(path: str) -> tuple[bytes, bytes]:
    """From where, and before what, the keys of the paths below a path are: all with `path/`."""
    key = to_key(path)
    return key + b"/", key + b"0"  # "0" follows "/"

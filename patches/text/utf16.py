"""Strings measured as the wire measures them: in UTF-16 code units.

An emoji counts 2, and an edit may cut it in two. Python then holds two lone surrogates, which are
joined where they meet again (`docs/decisions.md`). ASCII text, which Python recognises at
no cost, is never encoded; nor, on CPython, is text without such pairs. Text with
emoji is encoded up to the wanted position.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Final

from patches.text.pairs import LONG, pairs_of, units_before

#: Written with `chr`: a literal surrogate cannot be compiled.
_HIGH_FIRST: Final = chr(0xD800)
_HIGH_LAST: Final = chr(0xDBFF)
LOW_FIRST: Final = chr(0xDC00)
LOW_LAST: Final = chr(0xDFFF)

_SPLIT_PAIRS: Final = re.compile(f"[{_HIGH_FIRST}-{_HIGH_LAST}][{LOW_FIRST}-{LOW_LAST}]")
_ASTRAL: Final = re.compile("[\U00010000-\U0010ffff]")
_IS_CPYTHON: Final = sys.implementation.name == "cpython"


def has_no_pairs(text: str) -> bool:
    """Whether `text` surely has as many code units as characters; false where that is unknown.

    CPython gives all characters of a text the width that the widest one needs (PEP 393): with one
    beyond U+FFFF each takes four bytes. So the size is enough, at no cost.
    """
    return text.isascii() or (_IS_CPYTHON and sys.getsizeof(text) < 3 * len(text))


def utf16_length(text: str) -> int:
    """How many UTF-16 code units `text` has."""
    if has_no_pairs(text):
        return len(text)
    if len(text) >= LONG:
        pairs = pairs_of(text)
        if pairs is not None:
            return len(text) + len(pairs)
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def utf16_offset(text: str, position: int) -> int:
    """How many UTF-16 code units of `text` stand before the character at `position`."""
    if has_no_pairs(text):
        return position
    if len(text) >= LONG:
        pairs = pairs_of(text)
        if pairs is not None:
            return units_before(pairs, position)
    return utf16_length(text[:position])


def utf16_index(text: str, index: int) -> int:
    """The UTF-16 position of the character at `index`. Raises `IndexError` outside of the text."""
    if not 0 <= index <= len(text):
        raise IndexError(f"position {index} is outside the text of {len(text)} characters")
    return utf16_offset(text, index)


def python_index(text: str, utf16: int) -> int:
    """The index of the character at a UTF-16 position; inside of a pair, that of the pair.

    Beyond the end it is the end.
    """
    _, position, half = cut(text, 0, utf16)
    return position - 1 if half else position


def utf16_slice(text: str, start: int, end: int | None = None) -> str:
    """The units from `start` to `end` (not negative). A pair that is cut leaves one surrogate."""
    if text.isascii():
        return text[start:end]
    _, position, half = cut(text, 0, start)
    rest = half + text[position:]
    return rest if end is None else cut(rest, 0, max(end - start, 0))[0]


def cut(text: str, position: int, units: int) -> tuple[str, int, str]:
    """Take `units` code units from the character at `position` on, or what there is.

    Returns what was taken, the position after it, and the second surrogate of a pair that was cut.
    """
    piece = text[position : position + units]
    if has_no_pairs(piece):
        return piece, position + len(piece), ""
    try:
        raw = piece.encode("utf-16-le")
    except UnicodeEncodeError:  # lone surrogates: as long in units as in characters
        return _cut_by_characters(piece, position, units)
    if len(raw) <= 2 * units:
        return piece, position + len(piece), ""
    if 0xD8 <= raw[2 * units - 1] < 0xDC:
        whole = raw[: 2 * units - 2].decode("utf-16-le")
        high, low = surrogates_of(piece[len(whole)])
        return whole + high, position + len(whole) + 1, low
    whole = raw[: 2 * units].decode("utf-16-le")
    return whole, position + len(whole), ""


def _cut_by_characters(piece: str, position: int, units: int) -> tuple[str, int, str]:
    for pairs, match in enumerate(_ASTRAL.finditer(piece)):
        left = units - match.start() - pairs  # units that are left when this pair begins
        if left <= 0:
            end = units - pairs
            return piece[:end], position + end, ""
        if left == 1:
            end = match.start()
            high, low = surrogates_of(piece[end])
            return piece[:end] + high, position + end + 1, low
    pairs = sum(1 for _ in _ASTRAL.finditer(piece))
    end = min(len(piece), units - pairs)
    return piece[:end], position + end, ""


def surrogates_of(character: str) -> tuple[str, str]:
    """The two surrogates of a character beyond U+FFFF."""
    offset = ord(character) - 0x10000
    return chr(0xD800 + (offset >> 10)), chr(0xDC00 + (offset & 0x3FF))


def join(left: str, right: str) -> str:
    """`left + right`; where the two surrogates of a pair meet, they become one character again."""
    if (
        left
        and right
        and _HIGH_FIRST <= left[-1] <= _HIGH_LAST
        and LOW_FIRST <= right[0] <= LOW_LAST
    ):
        return left[:-1] + joined(left[-1] + right[0]) + right[1:]
    return left + right


def join_all(pieces: Iterable[str]) -> str:
    """The pieces as one string; where the two surrogates of a pair meet, they are joined."""
    whole = list(filter(None, pieces))
    for piece in whole:
        if LOW_FIRST <= piece[0] <= LOW_LAST:
            break
    else:
        return "".join(whole)
    text = ""
    for piece in whole:
        text = join(text, piece)
    return text


def joined(text: str) -> str:
    """`text` with every two lone surrogates that form a pair made one character."""
    if text.isascii() or not _SPLIT_PAIRS.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def utf16_key(text: str) -> bytes:
    """A key that sorts texts by UTF-16 code unit, as a browser does."""
    return text.encode("utf-16-be", "surrogatepass")

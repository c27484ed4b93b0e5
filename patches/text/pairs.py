"""Where the surrogate pairs of a long string begin, so that a place in it is found by bisection.

A string with one character beyond U+FFFF has more UTF-16 code units than characters. To count them
its whole beginning would be encoded, at each edit. So for long strings the units at which the pairs
begin are kept, and moved along with each edit (`algebra.splice`).

What is kept is a cache: a few strings, by identity, each in a slot of its own. A lookup compares
the string, an entry is replaced in one assignment, and one that is lost is computed again; so
threads need no lock, and no result depends on it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import Final

#: Shorter strings are encoded: that takes no longer.
LONG: Final = 2_048
#: With more pairs than this in it, moving the list along takes longer than encoding.
_MAX_PAIRS: Final = 20_000
_SLOTS: Final = 16
_ASTRAL: Final = re.compile("[\U00010000-\U0010ffff]")

_kept: Final[list[tuple[str, list[int]] | None]] = [None] * _SLOTS


def pairs_of(text: str) -> list[int] | None:
    """The units at which the pairs of a long string begin, ascending; `None` if they are many."""
    kept = _kept[_slot(text)]
    if kept is not None and kept[0] is text:
        return kept[1]
    starts = pair_starts(text)
    if len(starts) > _MAX_PAIRS:
        return None
    keep_pairs(text, starts)
    return starts


def pair_starts(text: str) -> list[int]:
    """The units at which the pairs of any string begin, computed anew."""
    return [match.start() + count for count, match in enumerate(_ASTRAL.finditer(text))]


def keep_pairs(text: str, starts: list[int]) -> None:
    """Remember the pairs of a string, if it is long and they are not many."""
    if len(text) >= LONG and len(starts) <= _MAX_PAIRS:
        _kept[_slot(text)] = (text, starts)


def units_before(starts: list[int], position: int) -> int:
    """The units before the character at `position`."""
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        if starts[middle] - middle < position:  # the character that the pair stands for
            low = middle + 1
        else:
            high = middle
    return position + low


def position_at(starts: list[int], unit: int) -> int:
    """The character at a unit; -1 if the unit is the second one of a pair."""
    before = bisect_left(starts, unit)
    if before and starts[before - 1] == unit - 1:
        return -1
    return unit - before


def _slot(text: str) -> int:
    return (id(text) >> 4) % _SLOTS

"""Ids: of changes, versions, branches and connections.

Base 62 in ASCII order, as in `docs/internals/ot.md` 1.1, so that an id sorts as the number in it
does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, TypeAlias

from patches.runtime import Millis

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

_LETTERS: Final = bytes(ord(ALPHABET[byte % len(ALPHABET)]) for byte in range(256))

#: Gives a new change id for the revision that the change is made at.
IdSource: TypeAlias = Callable[[int], str]


def base62(number: int) -> str:
    """`number` (not negative) in base 62, without padding."""
    digits = ""
    while True:
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
        if not number:
            return digits


def random_id(source: random.Random, length: int) -> str:
    """`length` random base-62 characters; the first eight are a little likelier."""
    return source.randbytes(length).translate(_LETTERS).decode("ascii")


def change_ids(source: random.Random) -> IdSource:
    """Ids as @dabble/patches 0.28.1 makes them: the revision in base 62 and 4 random characters."""
    return lambda rev: base62(rev) + random_id(source, 4)


def uuid7(source: random.Random, now: Millis) -> str:
    """A UUID of version 7 (RFC 9562): the time in milliseconds, then random bits."""
    bits = (now & 0xFFFF_FFFF_FFFF) << 80 | source.getrandbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    bits = bits & ~(0x3 << 62) | 0x2 << 62
    digits = f"{bits:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class SortableIds:
    """Version ids: 16 characters that sort by creation, also within one millisecond."""

    def __init__(self, source: random.Random) -> None:
        self._random = source
        self._last_time = ""
        self._last_tail = ""

    def __call__(self, now: Millis) -> str:
        head = base62(now).rjust(8, "0")
        if head == self._last_time:
            self._last_tail = _incremented(self._last_tail)
        else:
            self._last_time, self._last_tail = head, random_id(self._random, 8)
        return head + self._last_tail


def _incremented(digits: str) -> str:
    number = 0
    for digit in digits:
        number = number * 62 + ALPHABET.index(digit)
    return base62((number + 1) % 62 ** len(digits)).rjust(len(digits), "0")

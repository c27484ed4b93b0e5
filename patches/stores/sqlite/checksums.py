"""Checksums of whole rows, keys included, so that damage is found when a row is read."""

from __future__ import annotations

from typing import Final
from zlib import crc32

#: The sum of a row that holds a value of a type that no row has. No checksum is negative.
_NO_ROW: Final = -1


def row_sum(*values: object) -> int:
    """The checksum of a row's values: integers and bytes. Equal rows alone have equal sums."""
    crc = 0
    for value in values:
        if isinstance(value, bytes):
            crc = crc32(value, crc32(b"%d:" % len(value), crc))
        elif isinstance(value, int):
            crc = crc32(b"%d;" % value, crc)
        else:
            return _NO_ROW
    return crc

"""What stored rows are checked by, in every kind of database: checksums over rows with their keys.

A row's checksum covers all of its columns, so that a row under another key is damage as a torn
value is.
"""

from __future__ import annotations

import zlib

from patches.errors import CorruptDataError


def row_crc(*columns: object) -> int:
    """The checksum of a row with these columns: numbers, strings, bytes and `None`.

    A float that is whole comes back from a NUMERIC column as an integer: both count the same.
    """
    crc = 0
    cells: list[object] = []
    for column in columns:
        if isinstance(column, bytes):
            crc = zlib.crc32(column, crc)
            cells.append(len(column))
        elif isinstance(column, float) and column.is_integer():
            cells.append(int(column))
        else:
            cells.append(column)
    return zlib.crc32(repr(cells).encode("utf-8", "backslashreplace"), crc)


def require_row(is_whole: bool, what: str) -> None:
    """Raise `CorruptDataError` for a row that is damaged."""
    if not is_whole:
        raise CorruptDataError(f"{what} is damaged")


def pack(state: bytes) -> bytes:
    """A state as it is stored: compressed, and so with a checksum."""
    return zlib.compress(state, 1)


def unpack(doc_id: str, packed: bytes) -> bytes:
    """The state that was stored. Raises `CorruptDataError`."""
    try:
        return zlib.decompress(packed)
    except zlib.error as exc:
        raise CorruptDataError(f"document {doc_id!r}: a stored state is damaged") from exc

"""Checksums over sets of rows in a SQLite file.

What the checksum of one row cannot show, that another row is missing, shows in a count and a sum of
checksums, which the rows' owner keeps (`Sums`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from patches.errors import CorruptDataError
from patches.stores.sqlite.file_kind import Schema
from patches_server.stores.checksums import require_row as require_row
from patches_server.stores.checksums import row_crc as row_crc

_MODULUS: Final = 2**32

SUMS_SCHEMA: Final = Schema(
    name="sums",
    script="""
CREATE TABLE IF NOT EXISTS server_sums (
    part TEXT NOT NULL, doc_id TEXT NOT NULL, count INTEGER NOT NULL, sum INTEGER NOT NULL,
    PRIMARY KEY (part, doc_id)
) WITHOUT ROWID;
""",
    known_by=frozenset({"server_sums"}),
)


@dataclass(frozen=True, slots=True)
class Sums:
    """How many rows there are, and the sum of their checksums."""

    count: int = 0
    sum: int = 0

    def plus(self, crcs: Iterable[int]) -> Sums:
        """With more rows."""
        found = list(crcs)
        return Sums(self.count + len(found), (self.sum + sum(found)) % _MODULUS)

    def minus(self, crcs: Iterable[int]) -> Sums:
        """With fewer rows."""
        found = list(crcs)
        return Sums(self.count - len(found), (self.sum - sum(found)) % _MODULUS)


NO_ROWS: Final = Sums()


def load_sums(conn: sqlite3.Connection, part: str, doc_id: str) -> Sums:
    """What is kept of one part of a document."""
    row = conn.execute(
        "SELECT count, sum FROM server_sums WHERE part = ? AND doc_id = ?", (part, doc_id)
    ).fetchone()
    return Sums(*row) if row else Sums()


def put_sums(conn: sqlite3.Connection, part: str, doc_id: str, sums: Sums) -> None:
    """Keep it."""
    if sums == Sums():
        conn.execute("DELETE FROM server_sums WHERE part = ? AND doc_id = ?", (part, doc_id))
    else:
        conn.execute(
            "INSERT OR REPLACE INTO server_sums VALUES (?, ?, ?, ?)",
            (part, doc_id, sums.count, sums.sum),
        )


def change_sums(
    conn: sqlite3.Connection, part: str, doc_id: str, *, gone: Iterable[int], new: Iterable[int]
) -> None:
    """Rows with these checksums have left a part of a document, and others have come."""
    put_sums(conn, part, doc_id, load_sums(conn, part, doc_id).minus(gone).plus(new))


def require_rows(kept: Sums, found: Sums, what: str) -> None:
    """Raise `CorruptDataError` if rows are missing, or there are others."""
    if kept != found:
        raise CorruptDataError(f"{what}: {found.count} rows were found, {kept.count} are expected")

"""The records of LWW documents in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from patches.algorithms.lww.stores.schema import RECORDS
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.document_records import damaged

#: `state_rev` of a document without a state.
NO_STATE: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A document's row, in the order of the columns behind its id."""

    committed_rev: int = 0
    version: int
    deleted: int = 0
    newest_ts: int = 0
    pending_id: bytes = b""
    edits: bytes = b"[]"
    pending: int = 0
    committed: int = 0
    pieces: int = 0
    state_rev: int = NO_STATE
    position: int = 0


COLUMNS: Final = ", ".join((*Record.__slots__, "sum"))


def record_of(db: sqlite3.Connection, key: bytes) -> Record | None:
    """The record of a document, `None` if it is unknown."""
    row = db.execute(f"SELECT {COLUMNS} FROM lww_docs WHERE doc_id = ?", (key,)).fetchone()  # noqa: S608 -- fixed names
    if row is not None:
        return checked(key, row)
    RECORDS.check_unknown(db, key)
    return None


def checked(key: bytes, row: Sequence[int | bytes]) -> Record:
    """The record of a row. Raises `CorruptDataError` for a damaged one."""
    *values, checksum = row
    if row_sum(key, *values) != checksum:
        raise damaged(key, "record", "its record fails its checksum")
    return Record(**dict(zip(Record.__slots__, values, strict=True)))  # type: ignore[arg-type]  # as summed

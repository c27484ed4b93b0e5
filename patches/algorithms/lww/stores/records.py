"""The records of LWW documents in a SQLite file, their quarantine, and what counts them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from patches.errors import CorruptDataError, DamagedPart
from patches.model.change import Change, QuarantinedChange, TrackedDoc
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.keys import from_key, readable

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


def record_of(db: sqlite3.Connection, key: bytes) -> Record | None:
    """The record of a document, `None` if it is unknown."""
    row = db.execute(
        "SELECT committed_rev, version, deleted, newest_ts, pending_id, edits, pending, committed,"
        " pieces, state_rev, position, sum FROM lww_docs WHERE doc_id = ?",
        (key,),
    ).fetchone()
    if row is not None:
        return _checked(key, row)
    if db.execute(
        "SELECT 1 FROM lww_snapshots WHERE doc_id = ?"
        " UNION ALL SELECT 1 FROM lww_rows WHERE doc_id = ?"
        " UNION ALL SELECT 1 FROM lww_pieces WHERE doc_id = ?",
        (key, key, key),
    ).fetchone():
        raise damaged(key, "record", "its record is missing")
    return None


def _checked(key: bytes, row: Sequence[int | bytes]) -> Record:
    *values, checksum = row
    if row_sum(key, *values) != checksum:
        raise damaged(key, "record", "its record fails its checksum")
    return Record(**dict(zip(Record.__slots__, values, strict=True)))  # type: ignore[arg-type]  # as summed


def list_docs(db: sqlite3.Connection, include_deleted: bool) -> list[TrackedDoc]:
    """All records."""
    found: list[TrackedDoc] = []
    keys: set[bytes] = set()
    for key, *row in db.execute(
        "SELECT doc_id, committed_rev, version, deleted, newest_ts, pending_id, edits, pending,"
        " committed, pieces, state_rev, position, sum FROM lww_docs ORDER BY version"
    ):
        keys.add(key)
        try:
            record = _checked(key, row)
        except CorruptDataError:
            found.append(_damaged_doc(key))
            continue
        if include_deleted or not record.deleted:
            found.append(
                TrackedDoc(
                    doc_id=from_key(key),
                    committed_rev=record.committed_rev,
                    deleted=bool(record.deleted),
                    algorithm="lww",
                )
            )
    lost = {
        key
        for (key,) in db.execute(
            "SELECT doc_id FROM lww_snapshots UNION SELECT doc_id FROM lww_rows"
            " UNION SELECT doc_id FROM lww_pieces"
        )
    } - keys
    found += [_damaged_doc(key) for key in sorted(lost)]
    docs = file_counts(db)[0]
    if len(keys) + len(lost) != docs:
        raise CorruptDataError(
            f"the file should hold records of {docs} LWW documents and holds {len(keys)}",
            part="record",
        )
    return found


def _damaged_doc(key: bytes) -> TrackedDoc:
    return TrackedDoc(doc_id=readable(key), committed_rev=0, algorithm="lww", is_damaged=True)


def list_quarantined(db: sqlite3.Connection, key: bytes | None) -> list[QuarantinedChange]:
    """What is in quarantine, of one document or all, oldest first."""
    expected = file_counts(db)[1]
    if not expected:
        return []
    found, count = [], 0
    for doc_id, change_id, change, reason, at, checksum in db.execute(
        "SELECT doc_id, change_id, change, reason, quarantined_at, sum FROM lww_quarantine"
        " ORDER BY place"
    ):
        count += 1
        if key is not None and doc_id != key:
            continue
        if row_sum(doc_id, change_id, change, reason, at) != checksum:
            raise damaged(doc_id, "quarantine", "a quarantined change fails its checksum")
        found.append(
            QuarantinedChange(
                doc_id=from_key(doc_id),
                change_id=from_key(change_id),
                change=Change.from_encoded(change),
                reason=from_key(reason),
                quarantined_at=at,
            )
        )
    if count != expected:
        raise CorruptDataError(
            f"the file should hold {expected} quarantined LWW changes and holds {count}",
            part="quarantine",
        )
    return found


def file_counts(db: sqlite3.Connection) -> tuple[int, int, int]:
    """How many records and quarantined changes there are, and how many records were ever made."""
    row = db.execute("SELECT docs, quarantined, made, sum FROM lww_file").fetchone()
    if row is None or row_sum(*row[:3]) != row[3]:
        raise CorruptDataError("the file's record of LWW documents is damaged", part="record")
    docs, quarantined, made, _ = row
    return docs, quarantined, made


def put_file_counts(db: sqlite3.Connection, docs: int, quarantined: int, made: int) -> None:
    """Write what `file_counts` gives."""
    db.execute(
        "INSERT OR REPLACE INTO lww_file VALUES (1, ?, ?, ?, ?)",
        (docs, quarantined, made, row_sum(docs, quarantined, made)),
    )


def damaged(key: bytes, part: DamagedPart, what: str) -> CorruptDataError:
    """The error for damage in a document."""
    doc_id = readable(key)
    return CorruptDataError(f"document {doc_id!r}: {what}", doc_id=doc_id, part=part)

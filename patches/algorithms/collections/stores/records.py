"""The records of collections documents in a SQLite file, and what counts them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from patches.errors import CorruptDataError, DamagedPart
from patches.model.change import Change, QuarantinedChange, TrackedDoc
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.keys import from_key, readable


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A document's row, in the order of the columns behind its id."""

    is_kept: int = 0
    committed_rev: int = 0
    version: int = 0
    deleted: int = 0
    token: bytes = b"null"
    schema_version: int = 0
    rows: int = 0
    rows_sum: int = 0
    pending: int = 0
    quarantined: int = 0
    position: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the document is left."""
        return not self.is_kept and not self.quarantined


def record_of(db: sqlite3.Connection, key: bytes) -> Record | None:
    """The record of a document, `None` if it is unknown. Raises `CorruptDataError`."""
    row = db.execute("SELECT * FROM collections_docs WHERE doc_id = ?", (key,)).fetchone()
    if row is not None:
        return _checked(row)
    if db.execute(
        "SELECT 1 FROM collections_rows WHERE doc_id = ?"
        " UNION ALL SELECT 1 FROM collections_changes WHERE doc_id = ?",
        (key, key),
    ).fetchone():
        raise damaged(key, "record", "its record is missing")
    return None


def _checked(row: Sequence[int | bytes]) -> Record:
    key, *values, checksum = row
    if row_sum(key, *values) != checksum:
        raise damaged(key, "record", "its record fails its checksum")
    return Record(**dict(zip(Record.__slots__, values, strict=True)))  # type: ignore[arg-type]  # as summed


def put_record(db: sqlite3.Connection, key: bytes, record: Record, *, is_new: bool) -> None:
    """Write a document's record, or remove it if nothing is left."""
    if record.is_empty:
        gone = db.execute("DELETE FROM collections_docs WHERE doc_id = ?", (key,)).rowcount
        _count_docs(db, -gone)
        return
    values = (key, *astuple(record))
    db.execute(
        "INSERT OR REPLACE INTO collections_docs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*values, row_sum(*values)),
    )
    _count_docs(db, int(is_new))


def _count_docs(db: sqlite3.Connection, more: int) -> None:
    if more:
        docs = _docs_in_file(db) + more
        db.execute("UPDATE collections_file SET docs = ?, sum = ?", (docs, row_sum(docs)))


def _docs_in_file(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT docs, sum FROM collections_file").fetchone()
    if row is None or row_sum(row[0]) != row[1]:
        raise CorruptDataError(
            "the file's record of collections documents is damaged", part="record"
        )
    return int(row[0])


def list_docs(db: sqlite3.Connection, include_deleted: bool) -> list[TrackedDoc]:
    """The documents that are kept here. Those with a damaged record are marked."""
    found: list[TrackedDoc] = []
    keys: set[bytes] = set()
    for row in db.execute("SELECT * FROM collections_docs ORDER BY doc_id"):
        keys.add(row[0])
        try:
            record = _checked(row)
        except CorruptDataError:
            found.append(_damaged_doc(row[0]))
            continue
        if record.is_kept and (include_deleted or not record.deleted):
            found.append(
                TrackedDoc(
                    doc_id=from_key(row[0]),
                    committed_rev=record.committed_rev,
                    deleted=bool(record.deleted),
                    algorithm="collections",
                )
            )
    lost = {
        key
        for (key,) in db.execute(
            "SELECT doc_id FROM collections_rows UNION SELECT doc_id FROM collections_changes"
        )
    } - keys
    found += [_damaged_doc(key) for key in sorted(lost)]
    docs = _docs_in_file(db)
    if len(keys) + len(lost) != docs:
        raise CorruptDataError(
            f"the file should hold records of {docs} collections documents and holds {len(keys)}",
            part="record",
        )
    return found


def list_quarantined(db: sqlite3.Connection, key: bytes | None) -> list[QuarantinedChange]:
    """What is in quarantine, of one document or all, oldest first."""
    found: list[QuarantinedChange] = []
    counts: dict[bytes, int] = {}
    for doc_id, change_id, position, change, reason, at, checksum in db.execute(
        "SELECT doc_id, change_id, position, change, reason, quarantined_at, sum"
        " FROM collections_changes WHERE is_quarantined = 1 AND (? IS NULL OR doc_id = ?)"
        " ORDER BY quarantined_at, position",
        (key, key),
    ):
        if row_sum(doc_id, change_id, 1, position, change, reason, at) != checksum:
            raise damaged(doc_id, "quarantine", "a quarantined change fails its checksum")
        counts[doc_id] = counts.get(doc_id, 0) + 1
        found.append(
            QuarantinedChange(
                doc_id=from_key(doc_id),
                change_id=from_key(change_id),
                change=Change.from_encoded(change),
                reason=from_key(reason),
                quarantined_at=at,
            )
        )
    for row in db.execute(
        "SELECT * FROM collections_docs WHERE ? IS NULL OR doc_id = ?", (key, key)
    ):
        expected = _checked(row).quarantined
        if counts.get(row[0], 0) != expected:
            raise damaged(
                row[0],
                "quarantine",
                f"of {expected} quarantined changes {counts.get(row[0], 0)} are there",
            )
    return found


def _damaged_doc(key: bytes) -> TrackedDoc:
    return TrackedDoc(
        doc_id=readable(key), committed_rev=0, algorithm="collections", is_damaged=True
    )


def damaged(key: object, part: DamagedPart, what: str) -> CorruptDataError:
    """The error for damage in a document."""
    doc_id = readable(key)
    return CorruptDataError(f"document {doc_id!r}: {what}", doc_id=doc_id, part=part)

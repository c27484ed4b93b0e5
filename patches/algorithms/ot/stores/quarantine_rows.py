"""The rows of quarantined changes of OT documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from patches.algorithms.ot.stores.rows import damaged, file_counts, put_file_counts
from patches.errors import CorruptDataError
from patches.model.change import Change, QuarantinedChange
from patches.stores.sqlite.checksums import row_sum
from patches.stores.sqlite.keys import from_key, to_key


def list_quarantined(db: sqlite3.Connection, key: bytes | None) -> list[QuarantinedChange]:
    """What is in quarantine, of one document or all, oldest first."""
    found, count = [], 0
    for doc_id, change_id, change, reason, at, checksum in db.execute(
        "SELECT doc_id, change_id, change, reason, quarantined_at, sum FROM ot_quarantine"
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
    expected = file_counts(db)[1]
    if count != expected:
        raise CorruptDataError(
            f"the file should hold {expected} quarantined OT changes and holds {count}",
            part="quarantine",
        )
    return found


def quarantine(db: sqlite3.Connection, entry: QuarantinedChange) -> None:
    """Put a change into quarantine."""
    values = (
        to_key(entry.doc_id),
        to_key(entry.change_id),
        entry.change.encoded,
        to_key(entry.reason),
        entry.quarantined_at,
    )
    take_from_quarantine(db, values[0], [values[1]])
    db.execute(
        "INSERT INTO ot_quarantine (doc_id, change_id, change, reason, quarantined_at, sum)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (*values, row_sum(*values)),
    )
    docs, quarantined, made = file_counts(db)
    put_file_counts(db, docs, quarantined + 1, made)


def take_from_quarantine(
    db: sqlite3.Connection, key: bytes, change_ids: Iterable[bytes] | None = None
) -> int:
    """Remove some of a document's changes from quarantine, or all. Returns how many there were."""
    docs, quarantined, made = file_counts(db)
    if not quarantined:
        return 0
    if change_ids is None:
        count = db.execute("DELETE FROM ot_quarantine WHERE doc_id = ?", (key,)).rowcount
    else:
        count = db.executemany(
            "DELETE FROM ot_quarantine WHERE doc_id = ? AND change_id = ?",
            [(key, change_id) for change_id in change_ids],
        ).rowcount
    if count > 0:
        put_file_counts(db, docs, quarantined - count, made)
    return max(count, 0)

"""The rows of `OTSqliteStore`: what its transactions are made of.

Changes are stored as their wire bytes. Once `SNAPSHOT_INTERVAL` committed changes have gathered
they are folded into the state, in the transaction that brought the last of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from patches.algorithms.ot.apply import apply_changes_for_reconstruction
from patches.algorithms.ot.store import PendingQueue
from patches.algorithms.ot.stores.memory import SNAPSHOT_INTERVAL, log_skipped
from patches.model.change import Change, Snapshot
from patches.model.codec import decode, encode
from patches.model.json_values import Json
from patches.stores.sqlite.keys import from_key, to_key

# Ids are bytes, because text columns hold no lone surrogates.
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ot_docs (
    doc_id BLOB PRIMARY KEY,
    committed_rev INTEGER NOT NULL,
    deleted INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ot_snapshots (
    doc_id BLOB PRIMARY KEY,
    rev INTEGER NOT NULL,
    state BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS ot_committed (
    doc_id BLOB NOT NULL,
    rev INTEGER NOT NULL,
    change BLOB NOT NULL,
    PRIMARY KEY (doc_id, rev)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ot_pending (
    doc_id BLOB NOT NULL,
    rev INTEGER NOT NULL,
    change_id BLOB NOT NULL,
    change BLOB NOT NULL,
    PRIMARY KEY (doc_id, rev)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ot_pending_ids ON ot_pending (doc_id, change_id);
CREATE TABLE IF NOT EXISTS ot_quarantine (
    place INTEGER PRIMARY KEY,
    doc_id BLOB NOT NULL,
    change_id BLOB NOT NULL,
    change BLOB NOT NULL,
    reason BLOB NOT NULL,
    quarantined_at INTEGER NOT NULL,
    UNIQUE (doc_id, change_id)
);
"""


def revive(db: sqlite3.Connection, key: bytes) -> None:
    """Make sure that there is a record; a deleted document starts again at revision 0."""
    db.execute("INSERT OR IGNORE INTO ot_docs VALUES (?, 0, 0)", (key,))
    db.execute(
        "UPDATE ot_docs SET deleted = 0, committed_rev = 0 WHERE doc_id = ? AND deleted", (key,)
    )


def wipe(db: sqlite3.Connection, key: bytes) -> None:
    """Forget a document's state and changes; its record and its quarantine stay."""
    db.execute("DELETE FROM ot_snapshots WHERE doc_id = ?", (key,))
    db.execute("DELETE FROM ot_committed WHERE doc_id = ?", (key,))
    db.execute("DELETE FROM ot_pending WHERE doc_id = ?", (key,))


def committed_rev(db: sqlite3.Connection, key: bytes) -> int:
    """The last committed revision, 0 if there is none."""
    row = db.execute("SELECT committed_rev FROM ot_docs WHERE doc_id = ?", (key,)).fetchone()
    return row[0] if row else 0


def _tail_rev(db: sqlite3.Connection, key: bytes) -> int:
    (tail,) = db.execute("SELECT max(rev) FROM ot_pending WHERE doc_id = ?", (key,)).fetchone()
    return tail if tail is not None else committed_rev(db, key)


def load_queue(db: sqlite3.Connection, *, key: bytes) -> PendingQueue:
    """The pending changes, and what they rest on."""
    return PendingQueue(committed_rev(db, key), pending_changes(db, key))


def has_moved(db: sqlite3.Connection, key: bytes, read: PendingQueue) -> bool:
    """Whether the document is another than the one that `read` was read of."""
    return (
        committed_rev(db, key) != read.committed_rev
        or db.execute(
            "SELECT 1 FROM ot_pending WHERE doc_id = ? AND rev > ?", (key, read.tail_rev)
        ).fetchone()
        is not None
        or _has_quarantined(db, key, read)
    )


def _has_quarantined(db: sqlite3.Connection, key: bytes, read: PendingQueue) -> bool:
    """Whether a change of the queue was ejected since: what followed it was rewritten as well."""
    rows = db.execute(
        "SELECT change_id FROM ot_quarantine WHERE doc_id = ? AND change_id NOT IN"
        " (SELECT change_id FROM ot_pending WHERE doc_id = ?)",
        (key, key),
    ).fetchall()
    return bool(rows) and not {row[0] for row in rows}.isdisjoint(
        to_key(change.id) for change in read.pending
    )


def pending_changes(
    db: sqlite3.Connection, key: bytes, *, after: int | None = None, limit: int | None = None
) -> list[Change]:
    """The pending changes with a revision above `after`, at most `limit`."""
    rows = db.execute(
        "SELECT rev, change_id, change FROM ot_pending WHERE doc_id = ? AND rev > ?"
        " ORDER BY rev LIMIT ?",
        (key, -1 if after is None else after, -1 if limit is None else limit),
    )
    return [
        Change.from_encoded(change, rev=rev, id=from_key(change_id))
        for rev, change_id, change in rows
    ]


def committed_changes(
    db: sqlite3.Connection, key: bytes, *, after: int | None = None
) -> list[Change]:
    """The committed changes that are kept, those with a revision above `after`."""
    rows = db.execute(
        "SELECT rev, change FROM ot_committed WHERE doc_id = ? AND rev > ? ORDER BY rev",
        (key, -1 if after is None else after),
    )
    return [Change.from_encoded(change, rev=rev) for rev, change in rows]


def append_pending(db: sqlite3.Connection, key: bytes, changes: Sequence[Change]) -> list[Change]:
    """Queue one edit's changes, numbered on from the last; as they are stored.

    An edit whose first change is there already is not stored again.
    """
    revive(db, key)
    stored = (
        changes
        and db.execute(
            "SELECT rev FROM ot_pending WHERE doc_id = ? AND change_id = ?",
            (key, to_key(changes[0].id)),
        ).fetchone()
    )
    if stored:
        return pending_changes(db, key, after=stored[0] - 1, limit=len(changes))
    first = _tail_rev(db, key) + 1
    saved = [
        change if change.rev == rev else change.replace(rev=rev)
        for rev, change in enumerate(changes, start=first)
    ]
    _insert_pending(db, key, saved)
    return saved


def replace_pending(db: sqlite3.Connection, key: bytes, pending: Sequence[Change]) -> None:
    """Put these changes in the place of all pending ones."""
    db.execute("DELETE FROM ot_pending WHERE doc_id = ?", (key,))
    _insert_pending(db, key, pending)


def _insert_pending(db: sqlite3.Connection, key: bytes, pending: Sequence[Change]) -> None:
    db.executemany(
        "INSERT INTO ot_pending VALUES (?, ?, ?, ?)",
        [(key, change.rev, to_key(change.id), change.encoded) for change in pending],
    )


def append_committed(db: sqlite3.Connection, key: bytes, changes: Sequence[Change]) -> None:
    """Add changes that follow on, at least one. Does not fold."""
    db.executemany(
        "INSERT INTO ot_committed VALUES (?, ?, ?)",
        [(key, change.rev, change.encoded) for change in changes],
    )
    db.execute("UPDATE ot_docs SET committed_rev = ? WHERE doc_id = ?", (changes[-1].rev, key))


def save_committed(db: sqlite3.Connection, doc_id: str, snapshot: Snapshot) -> None:
    """Put a snapshot in the place of the state and the committed changes."""
    key = to_key(doc_id)
    revive(db, key)
    db.execute("DELETE FROM ot_committed WHERE doc_id = ?", (key,))
    _save_state(db, key, snapshot.rev, snapshot.encoded_state)
    db.execute("UPDATE ot_docs SET committed_rev = ? WHERE doc_id = ?", (snapshot.rev, key))
    if snapshot.changes:
        append_committed(db, key, snapshot.changes)
        fold(db, doc_id)


def _save_state(db: sqlite3.Connection, key: bytes, rev: int, state: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO ot_snapshots VALUES (?, ?, ?)", (key, rev, state))


def _state(db: sqlite3.Connection, key: bytes) -> tuple[int, bytes]:
    row = db.execute("SELECT rev, state FROM ot_snapshots WHERE doc_id = ?", (key,)).fetchone()
    return (row[0], row[1]) if row else (0, b"null")


def load(db: sqlite3.Connection, *, doc_id: str) -> Snapshot | None:
    """The whole document, `None` if it is unknown or deleted."""
    key = to_key(doc_id)
    row = db.execute("SELECT deleted FROM ot_docs WHERE doc_id = ?", (key,)).fetchone()
    if row is None or row[0]:
        return None
    rev, state = _state(db, key)
    tail = committed_changes(db, key, after=rev)
    pending = pending_changes(db, key)
    if not tail:
        return Snapshot.from_encoded(state, rev=rev, changes=pending)
    return Snapshot(state=_replayed(doc_id, decode(state), tail), rev=tail[-1].rev, changes=pending)


def fold(db: sqlite3.Connection, doc_id: str) -> None:
    """Fold the oldest committed changes into the state, whole intervals of them."""
    key = to_key(doc_id)
    (count,) = db.execute("SELECT count(*) FROM ot_committed WHERE doc_id = ?", (key,)).fetchone()
    whole = count - count % SNAPSHOT_INTERVAL
    if not whole:
        return
    _, state = _state(db, key)
    changes = committed_changes(db, key)
    rev = changes[whole - 1].rev
    folded = _replayed(doc_id, decode(state), changes[:whole])
    _save_state(db, key, rev, encode(folded))
    db.execute("DELETE FROM ot_committed WHERE doc_id = ? AND rev <= ?", (key, rev))


def _replayed(doc_id: str, state: Json, changes: Sequence[Change]) -> Json:
    return apply_changes_for_reconstruction(
        state, changes, on_skipped_change=lambda skipped: log_skipped(doc_id, skipped)
    )


def leave_quarantine(db: sqlite3.Connection, key: bytes, committed: Sequence[Change]) -> None:
    """What was committed after all is in quarantine no more."""
    if not db.execute("SELECT 1 FROM ot_quarantine WHERE doc_id = ?", (key,)).fetchone():
        return  # nearly always
    db.executemany(
        "DELETE FROM ot_quarantine WHERE doc_id = ? AND change_id = ?",
        [(key, to_key(change.id)) for change in committed],
    )


def take_from_quarantine(db: sqlite3.Connection, doc_id: str, change_id: str) -> bool:
    """Remove a change from quarantine; whether it was there."""
    taken = db.execute(
        "DELETE FROM ot_quarantine WHERE doc_id = ? AND change_id = ?",
        (to_key(doc_id), to_key(change_id)),
    )
    return taken.rowcount > 0

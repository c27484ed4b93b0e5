"""`OTSqliteStore`: OT documents in an SQLite file.

A document is a state at some revision, the committed changes since, and the pending ones. Changes
are stored as their wire bytes. Once `SNAPSHOT_INTERVAL` committed changes have gathered they are
folded into the state, in the transaction that brought the last of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

from patches.algorithms.ot.apply import apply_changes_for_reconstruction
from patches.algorithms.ot.store import CONFLICT, Conflict, PendingQueue
from patches.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.codec import decode, encode
from patches.json_values import Json
from patches.runtime import Runtime
from patches.stores.database import SqliteDatabase
from patches.stores.ot_memory import SNAPSHOT_INTERVAL, log_skipped

T = TypeVar("T")

# Ids are bytes, because text columns hold no lone surrogates.
_SCHEMA: Final = """
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


class OTSqliteStore:
    """Keeps what `OTClientStore` promises in a file that several processes may share."""

    def __init__(self, database: SqliteDatabase, *, runtime: Runtime | None = None) -> None:
        self._database = database
        self._runtime = runtime or Runtime()
        database.add_schema(_SCHEMA)

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        def write(db: sqlite3.Connection) -> None:
            for doc_id in doc_ids:
                _revive(db, _bytes(doc_id))

        await self._write(write)

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        def write(db: sqlite3.Connection) -> None:
            for doc_id in doc_ids:
                _wipe(db, _bytes(doc_id))
                db.execute("DELETE FROM ot_docs WHERE doc_id = ?", (_bytes(doc_id),))

        await self._write(write)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        rows = await self._read(
            lambda db: db.execute(
                "SELECT doc_id, committed_rev, deleted FROM ot_docs WHERE deleted <= ?",
                (include_deleted,),
            ).fetchall()
        )
        return [
            TrackedDoc(doc_id=_text(doc_id), committed_rev=rev, deleted=bool(deleted))
            for doc_id, rev, deleted in rows
        ]

    async def get_doc(self, doc_id: str) -> Snapshot | None:
        return await self._read(partial(_load, doc_id=doc_id))

    async def get_committed_rev(self, doc_id: str) -> int:
        return await self._read(lambda db: _committed_rev(db, _bytes(doc_id)))

    async def save_doc(self, doc_id: str, snapshot: Snapshot) -> None:
        await self._write(lambda db: _save_committed(db, doc_id, snapshot))

    async def install_doc(
        self,
        doc_id: str,
        snapshot: Snapshot,
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> Conflict | None:
        def write(db: sqlite3.Connection) -> Conflict | None:
            if _moved(db, _bytes(doc_id), read):
                return CONFLICT
            _save_committed(db, doc_id, snapshot)
            _replace_pending(db, _bytes(doc_id), rebased_pending)
            return None

        return await self._write(write)

    async def delete_doc(self, doc_id: str) -> None:
        def write(db: sqlite3.Connection) -> None:
            _wipe(db, _bytes(doc_id))
            db.execute("DELETE FROM ot_quarantine WHERE doc_id = ?", (_bytes(doc_id),))
            db.execute("INSERT OR REPLACE INTO ot_docs VALUES (?, 0, 1)", (_bytes(doc_id),))

        await self._write(write)

    async def confirm_delete_doc(self, doc_id: str) -> None:
        await self._write(
            lambda db: db.execute(
                "DELETE FROM ot_docs WHERE doc_id = ? AND deleted", (_bytes(doc_id),)
            )
        )

    async def load_queue(self, doc_id: str) -> PendingQueue:
        key = _bytes(doc_id)
        return await self._read(lambda db: PendingQueue(_committed_rev(db, key), _pending(db, key)))

    async def get_pending_changes(
        self, doc_id: str, *, start_after_rev: int | None = None, limit: int | None = None
    ) -> list[Change]:
        return await self._read(
            lambda db: _pending(db, _bytes(doc_id), after=start_after_rev, limit=limit)
        )

    async def save_pending_changes(self, doc_id: str, changes: Sequence[Change]) -> list[Change]:
        return await self._write(lambda db: _append_pending(db, _bytes(doc_id), changes))

    async def save_pending_edits(
        self, doc_id: str, edits: Sequence[Sequence[Change]]
    ) -> list[list[Change]]:
        key = _bytes(doc_id)
        return await self._write(
            lambda db: [_append_pending(db, key, changes) for changes in edits]
        )

    async def drop_pending_changes(self, doc_id: str, change_ids: Iterable[str]) -> int:
        rows = [(_bytes(doc_id), _bytes(change_id)) for change_id in change_ids]
        return await self._write(
            lambda db: (
                db.executemany(
                    "DELETE FROM ot_pending WHERE doc_id = ? AND change_id = ?", rows
                ).rowcount
            )
        )

    async def list_changes(self, doc_id: str, *, start_after: int | None = None) -> list[Change]:
        key = _bytes(doc_id)
        return await self._read(
            lambda db: [
                *_committed(db, key, after=start_after),
                *_pending(db, key, after=start_after),
            ]
        )

    async def apply_server_changes(
        self,
        doc_id: str,
        server_changes: Sequence[Change],
        rebased_pending: Sequence[Change],
        read: PendingQueue | None = None,
    ) -> Conflict | None:
        def write(db: sqlite3.Connection) -> Conflict | None:
            key = _bytes(doc_id)
            if read is not None and _moved(db, key, read):
                return CONFLICT
            _revive(db, key)
            known = _committed_rev(db, key)
            new = [change for change in server_changes if change.rev > known]
            if new:
                _append_committed(db, key, new)
                _leave_quarantine(db, key, new)
                _fold(db, doc_id)
            _replace_pending(db, key, rebased_pending)
            return None

        return await self._write(write)

    async def quarantine_pending_change(
        self,
        doc_id: str,
        poison: Change,
        reason: str,
        rebased_pending: Sequence[Change],
        read: PendingQueue | None = None,
    ) -> QuarantinedChange | Conflict | None:
        now = self._runtime.wall_ms()

        def write(db: sqlite3.Connection) -> QuarantinedChange | Conflict | None:
            key, change_id = _bytes(doc_id), _bytes(poison.id)
            if read is not None and _moved(db, key, read):
                return CONFLICT
            if not db.execute(
                "SELECT 1 FROM ot_pending WHERE doc_id = ? AND change_id = ?", (key, change_id)
            ).fetchone():
                return None
            db.execute(
                "INSERT OR REPLACE INTO ot_quarantine"
                " (doc_id, change_id, change, reason, quarantined_at) VALUES (?, ?, ?, ?, ?)",
                (key, change_id, poison.encoded, _bytes(reason), now),
            )
            _replace_pending(db, key, rebased_pending)
            return QuarantinedChange(
                doc_id=doc_id,
                change_id=poison.id,
                change=poison,
                reason=reason,
                quarantined_at=now,
            )

        return await self._write(write)

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        rows = await self._read(
            lambda db: db.execute(
                "SELECT doc_id, change_id, change, reason, quarantined_at FROM ot_quarantine"
                " WHERE ?1 IS NULL OR doc_id = ?1 ORDER BY place",
                (None if doc_id is None else _bytes(doc_id),),
            ).fetchall()
        )
        return [
            QuarantinedChange(
                doc_id=_text(key),
                change_id=_text(change_id),
                change=Change.from_encoded(change),
                reason=_text(reason),
                quarantined_at=at,
            )
            for key, change_id, change, reason, at in rows
        ]

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        await self._write(lambda db: _take_from_quarantine(db, doc_id, change_id))

    async def requeue_quarantined_change(
        self, doc_id: str, change_id: str, changes: Sequence[Change]
    ) -> list[Change] | None:
        def write(db: sqlite3.Connection) -> list[Change] | None:
            if not _take_from_quarantine(db, doc_id, change_id):
                return None
            return _append_pending(db, _bytes(doc_id), changes)

        return await self._write(write)

    async def _write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        return await self._database.write(fn)

    async def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        def read(db: sqlite3.Connection) -> T:
            with _one_moment(db):
                return fn(db)

        return await self._database.read(read)


@contextmanager
def _one_moment(db: sqlite3.Connection) -> Iterator[None]:
    """All queries see the file as it was at the first: another process may write to it."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _revive(db: sqlite3.Connection, key: bytes) -> None:
    """Make sure that there is a record; a deleted document starts again at revision 0."""
    db.execute("INSERT OR IGNORE INTO ot_docs VALUES (?, 0, 0)", (key,))
    db.execute(
        "UPDATE ot_docs SET deleted = 0, committed_rev = 0 WHERE doc_id = ? AND deleted", (key,)
    )


def _wipe(db: sqlite3.Connection, key: bytes) -> None:
    db.execute("DELETE FROM ot_snapshots WHERE doc_id = ?", (key,))
    db.execute("DELETE FROM ot_committed WHERE doc_id = ?", (key,))
    db.execute("DELETE FROM ot_pending WHERE doc_id = ?", (key,))


def _committed_rev(db: sqlite3.Connection, key: bytes) -> int:
    row = db.execute("SELECT committed_rev FROM ot_docs WHERE doc_id = ?", (key,)).fetchone()
    return row[0] if row else 0


def _tail_rev(db: sqlite3.Connection, key: bytes) -> int:
    (tail,) = db.execute("SELECT max(rev) FROM ot_pending WHERE doc_id = ?", (key,)).fetchone()
    return tail if tail is not None else _committed_rev(db, key)


def _moved(db: sqlite3.Connection, key: bytes, read: PendingQueue) -> bool:
    return (
        _committed_rev(db, key) != read.committed_rev
        or db.execute(
            "SELECT 1 FROM ot_pending WHERE doc_id = ? AND rev > ?", (key, read.tail_rev)
        ).fetchone()
        is not None
        or _has_quarantined(db, key, read)
    )


def _has_quarantined(db: sqlite3.Connection, key: bytes, read: PendingQueue) -> bool:
    """Whether a change of the queue was ejected since: what followed it was rewritten as well."""
    rows = db.execute(
        "SELECT change_id FROM ot_quarantine WHERE doc_id = ?1 AND change_id NOT IN"
        " (SELECT change_id FROM ot_pending WHERE doc_id = ?1)",
        (key,),
    ).fetchall()
    return bool(rows) and not {row[0] for row in rows}.isdisjoint(
        _bytes(change.id) for change in read.pending
    )


def _pending(
    db: sqlite3.Connection, key: bytes, *, after: int | None = None, limit: int | None = None
) -> list[Change]:
    rows = db.execute(
        "SELECT rev, change_id, change FROM ot_pending WHERE doc_id = ? AND rev > ?"
        " ORDER BY rev LIMIT ?",
        (key, -1 if after is None else after, -1 if limit is None else limit),
    )
    return [
        Change.from_encoded(change, rev=rev, id=_text(change_id)) for rev, change_id, change in rows
    ]


def _committed(db: sqlite3.Connection, key: bytes, *, after: int | None = None) -> list[Change]:
    rows = db.execute(
        "SELECT rev, change FROM ot_committed WHERE doc_id = ? AND rev > ? ORDER BY rev",
        (key, -1 if after is None else after),
    )
    return [Change.from_encoded(change, rev=rev) for rev, change in rows]


def _append_pending(db: sqlite3.Connection, key: bytes, changes: Sequence[Change]) -> list[Change]:
    _revive(db, key)
    stored = (
        changes
        and db.execute(
            "SELECT rev FROM ot_pending WHERE doc_id = ? AND change_id = ?",
            (key, _bytes(changes[0].id)),
        ).fetchone()
    )
    if stored:
        return _pending(db, key, after=stored[0] - 1, limit=len(changes))
    first = _tail_rev(db, key) + 1
    saved = [
        change if change.rev == rev else change.replace(rev=rev)
        for rev, change in enumerate(changes, start=first)
    ]
    _insert_pending(db, key, saved)
    return saved


def _replace_pending(db: sqlite3.Connection, key: bytes, pending: Sequence[Change]) -> None:
    db.execute("DELETE FROM ot_pending WHERE doc_id = ?", (key,))
    _insert_pending(db, key, pending)


def _insert_pending(db: sqlite3.Connection, key: bytes, pending: Sequence[Change]) -> None:
    db.executemany(
        "INSERT INTO ot_pending VALUES (?, ?, ?, ?)",
        [(key, change.rev, _bytes(change.id), change.encoded) for change in pending],
    )


def _append_committed(db: sqlite3.Connection, key: bytes, changes: Sequence[Change]) -> None:
    db.executemany(
        "INSERT INTO ot_committed VALUES (?, ?, ?)",
        [(key, change.rev, change.encoded) for change in changes],
    )
    db.execute("UPDATE ot_docs SET committed_rev = ? WHERE doc_id = ?", (changes[-1].rev, key))


def _save_committed(db: sqlite3.Connection, doc_id: str, snapshot: Snapshot) -> None:
    key = _bytes(doc_id)
    _revive(db, key)
    db.execute("DELETE FROM ot_committed WHERE doc_id = ?", (key,))
    _save_state(db, key, snapshot.rev, snapshot.encoded_state)
    db.execute("UPDATE ot_docs SET committed_rev = ? WHERE doc_id = ?", (snapshot.rev, key))
    if snapshot.changes:
        _append_committed(db, key, snapshot.changes)
        _fold(db, doc_id)


def _save_state(db: sqlite3.Connection, key: bytes, rev: int, state: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO ot_snapshots VALUES (?, ?, ?)", (key, rev, state))


def _state(db: sqlite3.Connection, key: bytes) -> tuple[int, bytes]:
    row = db.execute("SELECT rev, state FROM ot_snapshots WHERE doc_id = ?", (key,)).fetchone()
    return (row[0], row[1]) if row else (0, b"null")


def _load(db: sqlite3.Connection, *, doc_id: str) -> Snapshot | None:
    key = _bytes(doc_id)
    row = db.execute("SELECT deleted FROM ot_docs WHERE doc_id = ?", (key,)).fetchone()
    if row is None or row[0]:
        return None
    rev, state = _state(db, key)
    tail = _committed(db, key, after=rev)
    pending = _pending(db, key)
    if not tail:
        return Snapshot.from_encoded(state, rev=rev, changes=pending)
    return Snapshot(state=_replayed(doc_id, decode(state), tail), rev=tail[-1].rev, changes=pending)


def _fold(db: sqlite3.Connection, doc_id: str) -> None:
    """Fold the oldest committed changes into the state, whole intervals of them."""
    key = _bytes(doc_id)
    (count,) = db.execute("SELECT count(*) FROM ot_committed WHERE doc_id = ?", (key,)).fetchone()
    whole = count - count % SNAPSHOT_INTERVAL
    if not whole:
        return
    _, state = _state(db, key)
    changes = _committed(db, key)
    rev = changes[whole - 1].rev
    folded = _replayed(doc_id, decode(state), changes[:whole])
    _save_state(db, key, rev, encode(folded))
    db.execute("DELETE FROM ot_committed WHERE doc_id = ? AND rev <= ?", (key, rev))


def _replayed(doc_id: str, state: Json, changes: Sequence[Change]) -> Json:
    return apply_changes_for_reconstruction(
        state, changes, on_skipped_change=lambda skipped: log_skipped(doc_id, skipped)
    )


def _leave_quarantine(db: sqlite3.Connection, key: bytes, committed: Sequence[Change]) -> None:
    if not db.execute("SELECT 1 FROM ot_quarantine WHERE doc_id = ?", (key,)).fetchone():
        return  # nearly always
    db.executemany(
        "DELETE FROM ot_quarantine WHERE doc_id = ? AND change_id = ?",
        [(key, _bytes(change.id)) for change in committed],
    )


def _take_from_quarantine(db: sqlite3.Connection, doc_id: str, change_id: str) -> bool:
    taken = db.execute(
        "DELETE FROM ot_quarantine WHERE doc_id = ? AND change_id = ?",
        (_bytes(doc_id), _bytes(change_id)),
    )
    return taken.rowcount > 0

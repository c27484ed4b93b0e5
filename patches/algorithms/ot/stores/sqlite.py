"""`OTSqliteStore`: OT documents in an SQLite file.

A document is a state at some revision, the committed changes since, and the pending ones. Each
method is one transaction of the functions in `ot_rows.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial

from patches.algorithms.ot.store import CONFLICT, Conflict, PendingQueue
from patches.algorithms.ot.stores import rows as ot_rows
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.runtime import Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.keys import from_key, to_key


class OTSqliteStore:
    """Keeps what `OTClientStore` promises in a file that several processes may share."""

    def __init__(self, database: SqliteDatabase, *, runtime: Runtime | None = None) -> None:
        self._database = database
        self._runtime = runtime or Runtime()
        database.add_schema(ot_rows.SCHEMA)

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        def write(db: sqlite3.Connection) -> None:
            for doc_id in doc_ids:
                ot_rows.revive(db, to_key(doc_id))

        await self._database.write(write)

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        def write(db: sqlite3.Connection) -> None:
            for doc_id in doc_ids:
                ot_rows.wipe(db, to_key(doc_id))
                db.execute("DELETE FROM ot_docs WHERE doc_id = ?", (to_key(doc_id),))

        await self._database.write(write)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        rows = await self._database.read(
            lambda db: db.execute(
                "SELECT doc_id, committed_rev, deleted FROM ot_docs WHERE deleted <= ?",
                (include_deleted,),
            ).fetchall()
        )
        return [
            TrackedDoc(doc_id=from_key(doc_id), committed_rev=rev, deleted=bool(deleted))
            for doc_id, rev, deleted in rows
        ]

    async def get_doc(self, doc_id: str) -> Snapshot | None:
        return await self._database.read(partial(ot_rows.load, doc_id=doc_id))

    async def get_committed_rev(self, doc_id: str) -> int:
        return await self._database.read(lambda db: ot_rows.committed_rev(db, to_key(doc_id)))

    async def save_doc(self, doc_id: str, snapshot: Snapshot) -> None:
        await self._database.write(lambda db: ot_rows.save_committed(db, doc_id, snapshot))

    async def install_doc(
        self,
        doc_id: str,
        snapshot: Snapshot,
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> Conflict | None:
        def write(db: sqlite3.Connection) -> Conflict | None:
            if ot_rows.has_moved(db, to_key(doc_id), read):
                return CONFLICT
            ot_rows.save_committed(db, doc_id, snapshot)
            ot_rows.replace_pending(db, to_key(doc_id), rebased_pending)
            return None

        return await self._database.write(write)

    async def delete_doc(self, doc_id: str) -> None:
        def write(db: sqlite3.Connection) -> None:
            ot_rows.wipe(db, to_key(doc_id))
            db.execute("DELETE FROM ot_quarantine WHERE doc_id = ?", (to_key(doc_id),))
            db.execute("INSERT OR REPLACE INTO ot_docs VALUES (?, 0, 1)", (to_key(doc_id),))

        await self._database.write(write)

    async def confirm_delete_doc(self, doc_id: str) -> None:
        await self._database.write(
            lambda db: db.execute(
                "DELETE FROM ot_docs WHERE doc_id = ? AND deleted", (to_key(doc_id),)
            )
        )

    async def load_queue(self, doc_id: str) -> PendingQueue:
        key = to_key(doc_id)
        return await self._database.read(
            lambda db: PendingQueue(
                ot_rows.committed_rev(db, key), ot_rows.pending_changes(db, key)
            )
        )

    async def get_pending_changes(
        self, doc_id: str, *, start_after_rev: int | None = None, limit: int | None = None
    ) -> list[Change]:
        return await self._database.read(
            lambda db: ot_rows.pending_changes(
                db, to_key(doc_id), after=start_after_rev, limit=limit
            )
        )

    async def save_pending_changes(self, doc_id: str, changes: Sequence[Change]) -> list[Change]:
        return await self._database.write(
            lambda db: ot_rows.append_pending(db, to_key(doc_id), changes)
        )

    async def save_pending_edits(
        self, doc_id: str, edits: Sequence[Sequence[Change]]
    ) -> list[list[Change]]:
        key = to_key(doc_id)
        return await self._database.write(
            lambda db: [ot_rows.append_pending(db, key, changes) for changes in edits]
        )

    async def drop_pending_changes(self, doc_id: str, change_ids: Iterable[str]) -> int:
        rows = [(to_key(doc_id), to_key(change_id)) for change_id in change_ids]
        return await self._database.write(
            lambda db: (
                db.executemany(
                    "DELETE FROM ot_pending WHERE doc_id = ? AND change_id = ?", rows
                ).rowcount
            )
        )

    async def list_changes(self, doc_id: str, *, start_after: int | None = None) -> list[Change]:
        key = to_key(doc_id)
        return await self._database.read(
            lambda db: [
                *ot_rows.committed_changes(db, key, after=start_after),
                *ot_rows.pending_changes(db, key, after=start_after),
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
            key = to_key(doc_id)
            if read is not None and ot_rows.has_moved(db, key, read):
                return CONFLICT
            ot_rows.revive(db, key)
            known = ot_rows.committed_rev(db, key)
            new = [change for change in server_changes if change.rev > known]
            if new:
                ot_rows.append_committed(db, key, new)
                ot_rows.leave_quarantine(db, key, new)
                ot_rows.fold(db, doc_id)
            ot_rows.replace_pending(db, key, rebased_pending)
            return None

        return await self._database.write(write)

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
            key, change_id = to_key(doc_id), to_key(poison.id)
            if read is not None and ot_rows.has_moved(db, key, read):
                return CONFLICT
            if not db.execute(
                "SELECT 1 FROM ot_pending WHERE doc_id = ? AND change_id = ?", (key, change_id)
            ).fetchone():
                return None
            db.execute(
                "INSERT OR REPLACE INTO ot_quarantine"
                " (doc_id, change_id, change, reason, quarantined_at) VALUES (?, ?, ?, ?, ?)",
                (key, change_id, poison.encoded, to_key(reason), now),
            )
            ot_rows.replace_pending(db, key, rebased_pending)
            return QuarantinedChange(
                doc_id=doc_id,
                change_id=poison.id,
                change=poison,
                reason=reason,
                quarantined_at=now,
            )

        return await self._database.write(write)

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        only = None if doc_id is None else to_key(doc_id)
        rows = await self._database.read(
            lambda db: db.execute(
                "SELECT doc_id, change_id, change, reason, quarantined_at FROM ot_quarantine"
                " WHERE ? IS NULL OR doc_id = ? ORDER BY place",
                (only, only),
            ).fetchall()
        )
        return [
            QuarantinedChange(
                doc_id=from_key(key),
                change_id=from_key(change_id),
                change=Change.from_encoded(change),
                reason=from_key(reason),
                quarantined_at=at,
            )
            for key, change_id, change, reason, at in rows
        ]

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        await self._database.write(lambda db: ot_rows.take_from_quarantine(db, doc_id, change_id))

    async def requeue_quarantined_change(
        self, doc_id: str, change_id: str, changes: Sequence[Change]
    ) -> list[Change] | None:
        def write(db: sqlite3.Connection) -> list[Change] | None:
            if not ot_rows.take_from_quarantine(db, doc_id, change_id):
                return None
            return ot_rows.append_pending(db, to_key(doc_id), changes)

        return await self._database.write(write)

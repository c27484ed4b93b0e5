"""`OTSqliteStore`: OT documents in an SQLite file.

A document is a state at some revision, the committed changes since, and the pending ones. Each
method is one transaction of the functions in `rows.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from patches.algorithms.histories import version_after_install
from patches.algorithms.ot.store import (
    CONFLICT,
    Conflict,
    PendingQueue,
    QueuePosition,
    StoredSnapshot,
)
from patches.algorithms.ot.stores import rows
from patches.algorithms.ot.stores.replay import replayed
from patches.algorithms.ot.stores.schema import RECORDS, SCHEMA
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.model.codec import decode
from patches.model.history import NO_HISTORY, History
from patches.runtime import Runtime
from patches.stores.sqlite import histories
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.keys import to_key


class OTSqliteStore:
    """Keeps what `OTClientStore` promises in a file that several processes may share.

    Raises `CorruptDataError` for damage, with the document and the part in its attributes.
    """

    def __init__(self, database: SqliteDatabase, *, runtime: Runtime | None = None) -> None:
        self._database = database
        self._runtime = runtime or Runtime()
        database.add_schema(SCHEMA)
        database.add_schema(histories.HISTORIES_SCHEMA)

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        def write(db: sqlite3.Connection) -> None:
            for doc_id in doc_ids:
                rows.live_head(db, to_key(doc_id))

        await self._database.write(write)

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        def write(db: sqlite3.Connection) -> None:
            for doc_id in doc_ids:
                rows.wipe(db, to_key(doc_id))
                RECORDS.remove(db, to_key(doc_id))
                histories.forget_history(db, doc_id)

        await self._database.write(write)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        return await self._database.read(partial(rows.list_heads, include_deleted=include_deleted))

    async def get_doc(self, doc_id: str) -> StoredSnapshot | None:
        def read(db: sqlite3.Connection) -> StoredSnapshot | None:
            key = to_key(doc_id)
            head = rows.head_of(db, key)
            if head is None or head.deleted:
                return None
            state = rows.state_of(db, key, head)
            tail = rows.committed_changes(db, key, head, after=head.state_rev)
            return StoredSnapshot(
                state=replayed(doc_id, decode(state), tail),
                rev=head.committed_rev,
                changes=rows.pending_changes(db, key, head),
                version=head.version,
            )

        return await self._database.read(read)

    async def install_doc(
        self,
        doc_id: str,
        snapshot: Snapshot,
        rebased_pending: Sequence[Change],
        read: PendingQueue,
        history: History = NO_HISTORY,
        aside: Sequence[QuarantinedChange] = (),
        committed_ids: Collection[str] = (),
    ) -> Conflict | None:
        def write(db: sqlite3.Connection) -> Conflict | None:
            key = to_key(doc_id)
            if rows.known_head(db, key).position != read.position:
                return CONFLICT
            head = rows.replace_committed(db, key, rows.live_head(db, key), snapshot)
            head = rows.replace_pending(db, key, rows.fold(db, doc_id, head), rebased_pending)
            rows.put_head(db, key, replace(head, version=version_after_install(read.version)))
            histories.put_history(db, doc_id, history)
            RECORDS.take_from_quarantine(db, key, committed_ids)
            for entry in aside:
                RECORDS.quarantine(db, entry)
            return None

        return await self._database.write(write)

    async def get_history(self, doc_id: str) -> History:
        return await self._database.read(lambda db: histories.load_history(db, doc_id))

    async def put_token(self, doc_id: str, token: str | None) -> None:
        def write(db: sqlite3.Connection) -> None:
            known = histories.load_history(db, doc_id)
            histories.put_history(db, doc_id, History(token, known.last_rev, known.last_id))

        await self._database.write(write)

    async def delete_doc(self, doc_id: str) -> None:
        def write(db: sqlite3.Connection) -> None:
            key = to_key(doc_id)
            rows.wipe(db, key)
            RECORDS.take_from_quarantine(db, key)
            RECORDS.remove(db, key)
            rows.new_head(db, key, is_known=False, deleted=True)
            histories.forget_history(db, doc_id)

        await self._database.write(write)

    async def confirm_delete_doc(self, doc_id: str) -> None:
        def write(db: sqlite3.Connection) -> None:
            head = rows.head_of(db, to_key(doc_id))
            if head is not None and head.deleted:
                RECORDS.remove(db, to_key(doc_id))

        await self._database.write(write)

    async def load_position(self, doc_id: str) -> QueuePosition:
        return await self._database.read(lambda db: rows.known_head(db, to_key(doc_id)).position)

    async def load_queue(self, doc_id: str, *, committed_after: int | None = None) -> PendingQueue:
        return await self._database.read(
            lambda db: rows.load_queue(db, to_key(doc_id), after=committed_after)
        )

    async def load_appended(self, doc_id: str, known: QueuePosition) -> list[Change] | None:
        def read(db: sqlite3.Connection) -> list[Change] | None:
            key = to_key(doc_id)
            head = rows.known_head(db, key)
            if head.version != known.version or head.position.is_behind(known):
                return None
            return rows.pending_changes(db, key, head, after=known.tail_rev)

        return await self._database.read(read)

    async def save_pending_edits(
        self, doc_id: str, edits: Sequence[Sequence[Change]], read: QueuePosition
    ) -> list[list[Change]] | Conflict:
        def write(db: sqlite3.Connection) -> list[list[Change]] | Conflict:
            key = to_key(doc_id)
            head = rows.known_head(db, key)
            if head.position != read:
                return CONFLICT
            head = rows.live_head(db, key)
            saved = []
            for changes in edits:
                head, stored = rows.append_pending(db, key, head, changes)
                saved.append(stored)
            rows.put_head(db, key, head)
            return saved

        return await self._database.write(write)

    async def apply_server_changes(
        self,
        doc_id: str,
        server_changes: Sequence[Change],
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> Conflict | None:
        def write(db: sqlite3.Connection) -> Conflict | None:
            key = to_key(doc_id)
            if rows.known_head(db, key).position != read.position:
                return CONFLICT
            head = rows.live_head(db, key)
            new = [change for change in server_changes if change.rev > head.committed_rev]
            if new:
                head = rows.append_committed(db, key, head, new)
                histories.advance_history(db, doc_id, new[-1].rev, new[-1].id)
                RECORDS.take_from_quarantine(db, key, [change.id for change in new])
                head = rows.fold(db, doc_id, head)
            rows.put_head(db, key, rows.replace_pending(db, key, head, rebased_pending))
            return None

        return await self._database.write(write)

    async def quarantine_pending_change(
        self,
        doc_id: str,
        refused: Change,
        reason: str,
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> QuarantinedChange | Conflict | None:
        entry = QuarantinedChange(
            doc_id=doc_id,
            change_id=refused.id,
            change=refused,
            reason=reason,
            quarantined_at=self._runtime.wall_ms(),
        )

        def write(db: sqlite3.Connection) -> QuarantinedChange | Conflict | None:
            key = to_key(doc_id)
            head = rows.known_head(db, key)
            if head.position != read.position:
                return CONFLICT
            if all(change.id != refused.id for change in rows.pending_changes(db, key, head)):
                return None
            RECORDS.quarantine(db, entry)
            rows.put_head(db, key, rows.replace_pending(db, key, head, rebased_pending))
            return entry

        return await self._database.write(write)

    async def quarantine_edit(self, entry: QuarantinedChange) -> None:
        await self._database.write(lambda db: RECORDS.quarantine(db, entry))

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        key = None if doc_id is None else to_key(doc_id)
        return await self._database.read(lambda db: RECORDS.list_quarantined(db, key))

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        await self._database.write(
            lambda db: RECORDS.take_from_quarantine(db, to_key(doc_id), [change_id])
        )

    async def requeue_quarantined_change(
        self, doc_id: str, change_id: str, changes: Sequence[Change], read: QueuePosition
    ) -> list[Change] | Conflict | None:
        def write(db: sqlite3.Connection) -> list[Change] | Conflict | None:
            key = to_key(doc_id)
            if not RECORDS.list_quarantined(db, key):
                return None
            if rows.known_head(db, key).position != read:
                return CONFLICT
            if not RECORDS.take_from_quarantine(db, key, [change_id]):
                return None
            head, saved = rows.append_pending(db, key, rows.live_head(db, key), changes)
            rows.put_head(db, key, head)
            return saved

        return await self._database.write(write)

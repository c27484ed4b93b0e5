"""An algorithm of one's own that keeps its documents in the client's SQLite file.

It is all in this folder: nothing else knows of it. It asks the backend for its store, adds its
tables, and writes a row for each document.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar, TypeVar

from patches.algorithms.base import LocalEdit
from patches.documents.document import Document
from patches.model import codec
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.options import DocOptions
from patches.runtime import Runtime
from patches.stores.backend import StoreFactory
from patches.stores.sqlite.database import SqliteDatabase
from tests.support.small_algorithm import Record, SmallAlgorithm

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS rows_docs (doc_id TEXT PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS rows_quarantine (
    doc_id TEXT, change_id TEXT, change BLOB NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (doc_id, change_id)
);
"""


def _with_tables(database: SqliteDatabase, _runtime: Runtime) -> SqliteDatabase:
    database.add_schema(SCHEMA)
    return database


#: Where this algorithm can keep its documents, and what it is given there.
ROWS = StoreFactory("rows", {"sqlite": _with_tables})


class RowsAlgorithm(SmallAlgorithm):
    """The small algorithm, with rows."""

    name: ClassVar[str] = "rows"
    _database: SqliteDatabase

    def open_store(self, backend: Any) -> None:
        self._database = backend.open_store(ROWS)
        self._is_loaded = False

    # ---- tracking --------------------------------------------------------------------------------

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        await self._stored(super().track_docs(doc_ids))

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        await self._stored(super().untrack_docs(doc_ids))

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        return await self._loaded(super().list_docs(include_deleted))

    async def get_committed_rev(self, doc_id: str) -> int:
        return await self._loaded(super().get_committed_rev(doc_id))

    async def delete_doc(self, doc_id: str) -> None:
        await self._stored(super().delete_doc(doc_id))

    async def confirm_delete_doc(self, doc_id: str) -> None:
        await self._stored(super().confirm_delete_doc(doc_id))

    # ---- editing ---------------------------------------------------------------------------------

    async def load_doc(self, doc_id: str) -> Snapshot | None:
        return await self._loaded(super().load_doc(doc_id))

    async def handle_doc_changes(
        self, doc_id: str, edits: Sequence[LocalEdit], doc: Document | None
    ) -> list[list[Change]]:
        return await self._stored(super().handle_doc_changes(doc_id, edits, doc))

    # ---- syncing ---------------------------------------------------------------------------------

    async def has_pending(self, doc_id: str) -> bool:
        return await self._loaded(super().has_pending(doc_id))

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        return await self._loaded(super().next_batch(doc_id, doc, options))

    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        return await self._stored(super().receive_answer(doc_id, sent, committed, doc))

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None
    ) -> list[Change]:
        return await self._stored(super().apply_server_changes(doc_id, changes, doc))

    async def install_snapshot(
        self, doc_id: str, snapshot: Snapshot, doc: Document | None, **known: Any
    ) -> None:
        await self._stored(super().install_snapshot(doc_id, snapshot, doc, **known))

    # ---- quarantine ------------------------------------------------------------------------------

    async def eject_pending_change(
        self, doc_id: str, change_id: str, reason: str, doc: Document | None, **how: bool
    ) -> QuarantinedChange | None:
        return await self._stored(
            super().eject_pending_change(doc_id, change_id, reason, doc, **how)
        )

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        return await self._loaded(super().list_quarantined_changes(doc_id))

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        await self._stored(super().discard_quarantined_change(doc_id, change_id))

    async def retry_quarantined_change(
        self, doc_id: str, change_id: str, doc: Document | None
    ) -> list[Change]:
        return await self._stored(super().retry_quarantined_change(doc_id, change_id, doc))

    # ---- rows ------------------------------------------------------------------------------------

    async def _loaded(self, work: Awaitable[T]) -> T:
        """Read the rows on first use."""
        if not self._is_loaded:
            self.records, self.quarantine = await self._database.read(_read)
            self._is_loaded = True
        return await work

    async def _stored(self, work: Awaitable[T]) -> T:
        """Write what a method has changed, in one transaction."""
        result = await self._loaded(work)
        records = {doc_id: _encoded(record) for doc_id, record in self.records.items()}
        entries = [
            (entry.doc_id, entry.change_id, entry.change.encoded, entry.reason)
            for entry in self.quarantine
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM rows_docs")
            connection.executemany("INSERT INTO rows_docs VALUES (?, ?)", records.items())
            connection.execute("DELETE FROM rows_quarantine")
            connection.executemany("INSERT INTO rows_quarantine VALUES (?, ?, ?, ?)", entries)

        await self._database.write(write)
        return result


def _encoded(record: Record) -> bytes:
    return codec.encode(
        [
            record.state,
            record.rev,
            [change.to_wire() for change in record.pending],
            record.deleted,
        ]
    )


def _read(connection: sqlite3.Connection) -> tuple[dict[str, Record], list[QuarantinedChange]]:
    records = {}
    for doc_id, encoded in connection.execute("SELECT doc_id, record FROM rows_docs"):
        state, rev, pending, deleted = codec.decode(encoded)
        records[doc_id] = Record(state, rev, [Change.from_wire(wire) for wire in pending], deleted)
    entries = [
        QuarantinedChange(
            doc_id=doc_id,
            change_id=change_id,
            change=Change.from_encoded(encoded),
            reason=reason,
            quarantined_at=1,
        )
        for doc_id, change_id, encoded, reason in connection.execute(
            "SELECT doc_id, change_id, change, reason FROM rows_quarantine"
        )
    ]
    return records, entries

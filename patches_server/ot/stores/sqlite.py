"""`OTSqliteServerStore`: OT documents in a SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from patches.model.change import Change
from patches.runtime import Millis, Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches_server.documents.measure import Bounds
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import require_algorithm
from patches_server.ot.rows import ALGORITHM, within
from patches_server.ot.store import NO_DOC, DocHead, StoredSnapshot
from patches_server.ot.stores.append import Append, Appender
from patches_server.ot.stores.log import (
    OT_SCHEMA,
    Log,
    Span,
    find_log,
    load_log,
    put_log,
)
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.branches import SqliteBranches
from patches_server.stores.sqlite.documents import SqliteDocuments
from patches_server.stores.sqlite.versions import SqliteVersions, delete_versions, newest_main

#: More changes than these are made into rows in a thread.
_MANY: Final = 500


class OTSqliteServerStore(SqliteDocuments):
    """An `OTServerStore` over a database that it shares. Each row has a checksum."""

    saves_in_order = True

    def __init__(
        self,
        database: SqliteDatabase,
        versions: SqliteVersions,
        branches: SqliteBranches,
        *,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__(database, runtime or Runtime())
        self.versions = versions
        self.branches = branches
        self._appender = Appender(database)
        database.add_schema(OT_SCHEMA)

    async def get_head(self, doc_id: str) -> DocHead:
        return (await self._database.read(lambda conn: load_log(conn, doc_id))).head

    async def save_changes(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> None:
        if len(changes) > _MANY:  # encoded before the transaction, which others wait for
            await self._runtime.run_blocking(lambda: [change.encoded for change in changes])
        saved = self.begin_save(doc_id, changes, expected=expected, now=now, bounds=bounds)
        await asyncio.shield(saved)

    def begin_save(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> asyncio.Future[None]:
        append = Append(doc_id, changes, expected, now, bounds)
        return self._database.begin_together(self._appender.append, append)

    async def list_changes(
        self,
        doc_id: str,
        *,
        start_after: int | None = None,
        end_before: int | None = None,
        limit: int | None = None,
        max_bytes: int | None = None,
    ) -> list[Change]:
        def read(conn: sqlite3.Connection) -> list[Change]:
            log = load_log(conn, doc_id)
            found = Span(doc_id, log, start_after, end_before).read(conn)
            if limit is not None:
                found = islice(found, max(0, limit))
            return within(found, max_bytes)

        return await self._database.read(read)

    async def load_snapshot(self, doc_id: str, *, rev: int | None = None) -> StoredSnapshot:
        def read(conn: sqlite3.Connection) -> StoredSnapshot:
            return _snapshot(conn, doc_id, load_log(conn, doc_id), rev)

        return await self._database.read(read)

    async def prune_changes(self, doc_id: str, *, through_rev: int) -> None:
        def write(conn: sqlite3.Connection) -> None:
            log = load_log(conn, doc_id)
            (last,) = conn.execute(
                "SELECT max(rev) FROM ot_changes WHERE doc_id = ? AND rev <= ?",
                (doc_id, through_rev),
            ).fetchone()
            if last is not None:
                conn.execute("DELETE FROM ot_changes WHERE doc_id = ? AND rev <= ?", (doc_id, last))
                put_log(conn, doc_id, Log(log.head, last, log.ids))
                self._appender.forget(doc_id)

        await self._database.write(write)

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        def write(conn: sqlite3.Connection) -> None:
            require_algorithm(doc_id, documents.algorithm_of(conn, doc_id), ALGORITHM)
            self._appender.forget(doc_id)
            log = find_log(conn, doc_id)  # damaged or not: it goes
            head = log.head if log is not None else NO_DOC
            for table in ("ot_heads", "ot_changes", "ot_change_ids"):
                conn.execute(f"DELETE FROM {table} WHERE doc_id = ?", (doc_id,))  # noqa: S608 -- three fixed names
            delete_versions(conn, doc_id)
            documents.forget_document(conn, doc_id)
            standing = documents.get_tombstone(conn, doc_id)
            if tombstone is not None and (head.rev or standing is None):
                documents.put_tombstone(conn, replace(tombstone, last_rev=head.rev))

        await self._database.write(write)


def _snapshot(conn: sqlite3.Connection, doc_id: str, log: Log, rev: int | None) -> StoredSnapshot:
    through = log.head.rev if rev is None else min(rev, log.head.rev)
    version, state = newest_main(conn, doc_id, through_rev=through) or (None, None)
    span = Span(doc_id, log, version.end_rev if version else None, through + 1)
    return StoredSnapshot(version=version, state=state, changes=list(span.read(conn)))

"""`LWWSqliteServerStore`: an LWW server's documents in a SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from patches.runtime import Millis, Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.keys import to_key
from patches_server.documents.branch_store import BranchStore
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import require_algorithm
from patches_server.documents.version_store import VersionStore
from patches_server.lww.rows import Row
from patches_server.lww.store import Decide, LoadedRows
from patches_server.lww.stores.sqlite_docs import (
    LWW_SCHEMA,
    DocRow,
    checked_doc,
    find_doc,
    is_whole_doc,
    made_doc,
    put_doc,
    put_snapshot,
    require_head,
)
from patches_server.lww.stores.sqlite_rows import (
    INDEXES,
    LEAST_PRUNED,
    counted_ids,
    counted_rows,
    hide_rows,
    insert_ids,
    prune_ids,
    read_rows,
    without_rows,
    write_revision,
)
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.branches import SqliteBranches
from patches_server.stores.sqlite.checksums import require_rows
from patches_server.stores.sqlite.documents import SqliteDocuments
from patches_server.stores.sqlite.versions import SqliteVersions, pack

_REMEMBERED: Final = 10_000


class LWWSqliteServerStore(SqliteDocuments):
    """An `LWWServerStore` over a database that it shares."""

    versions: VersionStore | None
    branches: BranchStore | None
    keeps_change_ids = True
    decides_in_order = True

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
        database.add_schema(LWW_SCHEMA)
        #: Documents all of whose rows were there when this process first read them.
        self._verified: dict[str, None] = {}

    def _verify(self, conn: sqlite3.Connection, doc_id: str, token: str, found: DocRow) -> None:
        """Once per document and process, count its rows and ids by each way they are found.

        A part of them does not show that another is missing. Raises `CorruptDataError`.
        """
        if token in self._verified:
            return
        for index in INDEXES:
            rows = counted_rows(conn, doc_id, found.doc, index)
            require_rows(found.rows, rows, f"document {doc_id!r}")
        require_rows(found.ids, counted_ids(conn, found.doc), f"change ids of {doc_id!r}")
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[token] = None

    async def load_rows(
        self,
        doc_id: str,
        *,
        now: Millis,
        paths: Sequence[str] | None = None,
        since_rev: int | None = None,
        change_ids: Sequence[str] = (),
    ) -> LoadedRows:
        def read(conn: sqlite3.Connection) -> LoadedRows:
            record = documents.load(conn, doc_id)
            found = checked_doc(conn, doc_id, record)
            if found is None or record is None:
                return LoadedRows()
            self._verify(conn, doc_id, record.token, found)
            return read_rows(conn, doc_id, found, record.token, now, paths, since_rev, change_ids)

        return await self._database.read(read)

    async def save_rows(
        self,
        doc_id: str,
        rows: Sequence[Row],
        *,
        expected_rev: int,
        now: Millis,
        hide: Sequence[str] = (),
        change_ids: Sequence[str] = (),
        expires_at: Millis = 0,
        head_id: str | None = None,
        token: str | None = None,
    ) -> None:
        def write(conn: sqlite3.Connection) -> None:
            found = require_head(conn, doc_id, expected_rev, now, token)
            _save(conn, doc_id, found, rows, now, hide, change_ids, expires_at, head_id)

        await self._database.write(write)

    def begin_commit(
        self,
        doc_id: str,
        decide: Decide,
        *,
        now: Millis,
        paths: Sequence[str],
        since_rev: int | None,
        change_ids: Sequence[str],
    ) -> asyncio.Future[bool]:
        def write(conn: sqlite3.Connection) -> bool:
            record = documents.load(conn, doc_id)
            require_algorithm(doc_id, None if record is None else record.algorithm, "lww")
            found = checked_doc(conn, doc_id, record)
            if found is None or record is None:
                return False
            token = record.token
            self._verify(conn, doc_id, token, found)
            loaded = read_rows(conn, doc_id, found, token, now, paths, since_rev, change_ids)
            made = decide(loaded, partial(_made_by, conn, doc_id))
            if made is None:
                return False
            documents.put_server_time(conn, now)
            ids, expires_at = made.change_ids, made.expires_at
            _save(conn, doc_id, found, made.rows, now, made.hide, ids, expires_at, made.head_id)
            return True

        return self._database.begin_write(write)

    async def seed(self, doc_id: str, state: bytes, rows: Sequence[Row], *, now: Millis) -> None:
        packed = await self._runtime.run_blocking(lambda: pack(state))

        def write(conn: sqlite3.Connection) -> None:
            found = replace(require_head(conn, doc_id, 0, now), snapshot_rev=0)
            if rows:
                found = replace(write_revision(conn, found, rows, now), ids_floor=1)
            put_doc(conn, doc_id, found)
            put_snapshot(conn, found.doc, packed)

        await self._database.write(write)

    async def made_by(self, doc_id: str, rev: int, change_id: str) -> bool | None:
        return await self._database.read(lambda conn: _made_by(conn, doc_id, rev, change_id))

    async def get_current_rev(self, doc_id: str) -> int:
        row = await self._database.read(
            lambda conn: conn.execute(
                "SELECT rev FROM lww_docs WHERE doc_id = ?", (doc_id,)
            ).fetchone()
        )
        return row[0] if row else 0

    async def save_snapshot(self, doc_id: str, state: bytes, rev: int, *, now: Millis) -> None:
        packed = await self._runtime.run_blocking(lambda: pack(state))

        def write(conn: sqlite3.Connection) -> None:
            record = documents.require_writable(conn, doc_id, "lww", now=now)
            found = checked_doc(conn, doc_id, record) or made_doc(conn, doc_id)
            found = without_rows(conn, found, "rev <= ?", rev)
            put_doc(conn, doc_id, replace(found, snapshot_rev=rev))
            put_snapshot(conn, found.doc, packed)

        await self._database.write(write)

    async def drop_removals(self, doc_id: str, *, stored_before: Millis, limit: int) -> int:
        def write(conn: sqlite3.Connection) -> int:
            found = find_doc(conn, doc_id)
            if found is None or not is_whole_doc(conn, doc_id):
                return 0
            old = conn.execute(
                "SELECT rowid, rev, crc FROM lww_rows WHERE doc = ? AND droppable = 1 "
                "AND stored_at < ? ORDER BY stored_at LIMIT ?",
                (found.doc, stored_before, limit),
            ).fetchall()
            if old:
                conn.executemany(
                    "DELETE FROM lww_rows WHERE rowid = ?", [(rowid,) for rowid, _, _ in old]
                )
                floor = max(found.floor, *(rev for _, rev, _ in old))
                rows = found.rows.minus(crc for _, _, crc in old)
                put_doc(conn, doc_id, replace(found, floor=floor, rows=rows))
            return len(old)

        return await self._database.write(write)

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        def write(conn: sqlite3.Connection) -> None:
            require_algorithm(doc_id, documents.algorithm_of(conn, doc_id), "lww")
            found = find_doc(conn, doc_id)  # damaged or not: it goes
            if found is not None:
                for table in ("lww_rows", "lww_change_ids", "lww_docs"):
                    conn.execute(f"DELETE FROM {table} WHERE doc = ?", (found.doc,))  # noqa: S608 -- three fixed names
            documents.forget_document(conn, doc_id)
            if tombstone is not None:
                documents.put_tombstone(conn, tombstone)

        await self._database.write(write)


def _save(
    conn: sqlite3.Connection,
    doc_id: str,
    found: DocRow,
    rows: Sequence[Row],
    now: Millis,
    hide: Sequence[str],
    change_ids: Sequence[str],
    expires_at: Millis,
    head_id: str | None,
) -> None:
    """Write the revision after the one that was found."""
    kept = hide_rows(conn, found, hide)
    kept = write_revision(conn, kept, rows, now)
    kept = insert_ids(conn, kept, kept.rev, change_ids, expires_at)
    floor = kept.ids_floor if change_ids else max(kept.ids_floor, kept.rev)
    key = None if head_id is None else to_key(head_id)
    put_doc(conn, doc_id, replace(kept, head_id=key, ids_floor=floor))
    prune_ids(conn, now, at_most=2 * len(change_ids) + LEAST_PRUNED)


def _made_by(conn: sqlite3.Connection, doc_id: str, rev: int, change_id: str) -> bool | None:
    key = to_key(change_id)
    found = conn.execute(
        "SELECT d.rev, d.head_id, d.ids_floor, i.rev, i.change_id FROM lww_docs d "
        "LEFT JOIN lww_change_ids i ON i.doc = d.doc AND i.change_id = ? "
        "WHERE d.doc_id = ?",
        (key, doc_id),
    ).fetchone()
    if found is None:
        return False
    head, head_id, floor, made, is_known = found
    if rev == head and head_id == key:
        return True
    if is_known is not None:
        return None if made is None else bool(made == rev)
    return None if rev <= floor else False

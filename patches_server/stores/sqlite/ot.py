"""`OTSqliteServerStore`: OT documents in a SQLite file."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from patches.errors import CorruptDataError, DuplicateChangeIdsError
from patches.model.change import Change
from patches.runtime import Millis, Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.file_kind import Schema
from patches_server.documents.measure import Bounds
from patches_server.documents.records import Tombstone
from patches_server.ot.rows import (
    ALGORITHM,
    check_algorithm,
    check_follows,
    head_after,
    within,
)
from patches_server.ot.store import NO_DOC, DocHead, StoredSnapshot
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.branches import SqliteBranches
from patches_server.stores.sqlite.documents import SqliteDocuments
from patches_server.stores.sqlite.versions import SqliteVersions, delete_versions, newest_main

# The ids stand in a table of their own: they stay when changes are pruned.
_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS ot_heads (
    doc_id TEXT PRIMARY KEY, rev INTEGER NOT NULL, change_id TEXT NOT NULL,
    created_at INTEGER NOT NULL, size_bound INTEGER NOT NULL, depth_bound INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ot_changes (
    doc_id TEXT NOT NULL, rev INTEGER NOT NULL, change_id TEXT NOT NULL,
    created_at INTEGER NOT NULL, batch_id TEXT, client_id TEXT,
    crc INTEGER NOT NULL, change BLOB NOT NULL,
    PRIMARY KEY (doc_id, rev)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ot_change_ids (
    doc_id TEXT NOT NULL, change_id TEXT NOT NULL, PRIMARY KEY (doc_id, change_id)
) WITHOUT ROWID;
"""
OT_SCHEMA: Final = Schema(name="ot", script=_SCRIPT)
_ROW: Final = "rev, change_id, created_at, batch_id, client_id, crc, change"
#: A size bound grows by doubling and may be larger than what an INTEGER holds.
_LARGEST: Final = 2**62
#: More changes than these are made into rows in a thread.
_MANY: Final = 500


class OTSqliteServerStore(SqliteDocuments):
    """An `OTServerStore` over a database that it shares. Each row has a checksum."""

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
        database.add_schema(OT_SCHEMA)

    async def get_head(self, doc_id: str) -> DocHead:
        now = self._runtime.wall_ms()

        def read(conn: sqlite3.Connection) -> DocHead:
            documents.check_not_deleted(conn, doc_id, now=now)
            return _head(conn, doc_id)

        return await self._database.read(read)

    async def save_changes(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> None:
        def encoded() -> list[tuple[Any, ...]]:
            return [_row(doc_id, change) for change in changes]

        # Before the transaction, which others wait for.
        many = len(changes) > _MANY
        rows = await self._runtime.run_blocking(encoded) if many else encoded()

        def write(conn: sqlite3.Connection) -> None:
            documents.require_writable(conn, doc_id, ALGORITHM, now=now)
            head = _head(conn, doc_id)
            check_follows(changes, expected=expected, head=head)
            _insert_ids(conn, doc_id, changes)
            conn.executemany("INSERT INTO ot_changes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            _put_head(conn, doc_id, head_after(changes, bounds or head.bounds))

        await self._database.write(write)

    async def list_changes(
        self,
        doc_id: str,
        *,
        start_after: int | None = None,
        end_before: int | None = None,
        limit: int | None = None,
        reverse: bool = False,
        without_batch_id: str | None = None,
        max_bytes: int | None = None,
    ) -> list[Change]:
        now = self._runtime.wall_ms()
        tests, values = ["doc_id = ?"], [doc_id]
        for test, value in (
            ("rev > ?", start_after),
            ("rev < ?", end_before),
            ("batch_id IS NOT ?", without_batch_id),
        ):
            if value is not None:
                tests.append(test)
                values.append(value)  # type: ignore[arg-type]  # numbers beside text
        sql = (
            f"SELECT {_ROW} FROM ot_changes WHERE {' AND '.join(tests)} "  # noqa: S608 -- fixed names, bound values
            f"ORDER BY rev {'DESC' if reverse else 'ASC'} LIMIT ?"
        )
        values.append(-1 if limit is None else max(0, limit))  # type: ignore[arg-type]  # as above

        def read(conn: sqlite3.Connection) -> list[Change]:
            documents.check_not_deleted(conn, doc_id, now=now)
            return within(_changes(doc_id, conn.execute(sql, values)), max_bytes)

        return await self._database.read(read)

    async def load_snapshot(self, doc_id: str, *, rev: int | None = None) -> StoredSnapshot:
        now = self._runtime.wall_ms()

        def read(conn: sqlite3.Connection) -> StoredSnapshot:
            documents.check_not_deleted(conn, doc_id, now=now)
            return _snapshot(conn, doc_id, rev)

        return await self._database.read(read)

    async def prune_changes(self, doc_id: str, *, through_rev: int) -> None:
        now = self._runtime.wall_ms()

        def write(conn: sqlite3.Connection) -> None:
            documents.check_not_deleted(conn, doc_id, now=now)
            conn.execute(
                "DELETE FROM ot_changes WHERE doc_id = ? AND rev <= ?", (doc_id, through_rev)
            )

        await self._database.write(write)

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        def write(conn: sqlite3.Connection) -> None:
            check_algorithm(doc_id, documents.algorithm_of(conn, doc_id))
            head = _head(conn, doc_id)
            for table in ("ot_heads", "ot_changes", "ot_change_ids"):
                conn.execute(f"DELETE FROM {table} WHERE doc_id = ?", (doc_id,))  # noqa: S608 -- three fixed names
            delete_versions(conn, doc_id)
            documents.forget_document(conn, doc_id)
            standing = documents.get_tombstone(conn, doc_id, now=now)
            if tombstone is not None and (head.rev or standing is None):
                documents.put_tombstone(conn, replace(tombstone, last_rev=head.rev))

        await self._database.write(write)


def _head(conn: sqlite3.Connection, doc_id: str) -> DocHead:
    row = conn.execute(
        "SELECT rev, change_id, created_at, size_bound, depth_bound FROM ot_heads WHERE doc_id = ?",
        (doc_id,),
    ).fetchone()
    if row is None:
        return NO_DOC
    return DocHead(
        rev=row[0],
        change_id=row[1],
        created_at=row[2],
        bounds=Bounds(row[3], row[4]),
        token=documents.token_of(conn, doc_id),
    )


def _put_head(conn: sqlite3.Connection, doc_id: str, head: DocHead) -> None:
    conn.execute(
        "INSERT OR REPLACE INTO ot_heads VALUES (?, ?, ?, ?, ?, ?)",
        (
            doc_id,
            head.rev,
            head.change_id,
            head.created_at,
            min(head.bounds.size, _LARGEST),
            min(head.bounds.depth, _LARGEST),
        ),
    )


def _insert_ids(conn: sqlite3.Connection, doc_id: str, changes: Sequence[Change]) -> None:
    insert = "INSERT OR IGNORE INTO ot_change_ids VALUES (?, ?)"
    taken = [
        change.id
        for change in changes
        if not conn.execute(insert, (doc_id, change.id)).rowcount  # ignored: it is there already
    ]
    if taken:
        raise DuplicateChangeIdsError(doc_id, dict.fromkeys(taken))


def _snapshot(conn: sqlite3.Connection, doc_id: str, rev: int | None) -> StoredSnapshot:
    head_rev = _head(conn, doc_id).rev
    through = head_rev if rev is None else min(rev, head_rev)
    version, state = newest_main(conn, doc_id, through_rev=through) or (None, None)
    rows = conn.execute(
        f"SELECT {_ROW} FROM ot_changes WHERE doc_id = ? AND rev > ? AND rev <= ? ORDER BY rev",  # noqa: S608 -- fixed names
        (doc_id, version.end_rev if version else 0, through),
    )
    return StoredSnapshot(version=version, state=state, changes=list(_changes(doc_id, rows)))


def _row(doc_id: str, change: Change) -> tuple[Any, ...]:
    data = change.encoded
    return (
        doc_id,
        change.rev,
        change.id,
        change.created_at,
        change.batch_id,
        change.client_id,
        zlib.crc32(data),
        data,
    )


def _changes(doc_id: str, rows: sqlite3.Cursor) -> Iterator[Change]:
    for rev, change_id, created_at, batch_id, client_id, crc, data in rows:
        if not isinstance(data, bytes) or zlib.crc32(data) != crc:
            raise CorruptDataError(f"document {doc_id!r}: revision {rev} fails its checksum")
        yield Change.from_encoded(
            data,
            rev=rev,
            id=change_id,
            created_at=created_at,
            batch_id=batch_id,
            client_id=client_id,
        )

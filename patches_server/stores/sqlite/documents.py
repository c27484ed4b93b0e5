"""What all documents of an SQLite server have: `documents.py` in SQL.

The functions are for a store to call inside its own transaction (`design.md`, Decisions). The file
says here, too, what it is: its epoch, a random id that a copy does not share, and its schema.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from patches.errors import AlgorithmMismatchError, StorageError
from patches.runtime import Millis, Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import deleted, stands

#: Raised when older servers cannot use a file any more.
SCHEMA_VERSION: Final = 1

DOCUMENTS_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS server_file (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, schema INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS server_documents (
    doc_id TEXT PRIMARY KEY, algorithm TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS server_tombstones (
    doc_id TEXT PRIMARY KEY, deleted_at INTEGER NOT NULL, last_rev INTEGER NOT NULL,
    deleted_by_client_id TEXT, expires_at INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS server_time (
    one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL
);
"""


class SqliteDocuments:
    """The tombstones and the last server time of a database, as every store over it has them."""

    def __init__(self, database: SqliteDatabase, runtime: Runtime) -> None:
        self._database = database
        self._runtime = runtime

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in a document's place."""
        now = self._runtime.wall_ms()
        return await self._database.read(lambda conn: get_tombstone(conn, doc_id, now=now))

    async def remove_tombstone(self, doc_id: str) -> bool:
        """Remove it; whether one stood."""
        now = self._runtime.wall_ms()
        return await self._database.write(lambda conn: remove_tombstone(conn, doc_id, now=now))

    async def last_server_time(self) -> Millis:
        """The server time of the latest write, 0 if there was none."""
        return await self._database.read(last_server_time)


def epoch_of(conn: sqlite3.Connection) -> str | None:
    """The file's epoch, `None` when it is new. Raises `StorageError` if it is of a newer server."""
    row = conn.execute("SELECT epoch, schema FROM server_file").fetchone()
    if row is None:
        return None
    epoch, schema = row
    if schema > SCHEMA_VERSION:
        raise StorageError(
            f"the file has schema {schema} and this server knows {SCHEMA_VERSION}: it was written "
            f"by a newer version; use that one"
        )
    return str(epoch)


def put_epoch(conn: sqlite3.Connection, epoch: str) -> None:
    """Give the file an epoch, a new one if it has one."""
    conn.execute("INSERT OR REPLACE INTO server_file VALUES (1, ?, ?)", (epoch, SCHEMA_VERSION))


def algorithm_of(conn: sqlite3.Connection, doc_id: str) -> str | None:
    """The algorithm of a document that has been committed to."""
    row = conn.execute(
        "SELECT algorithm FROM server_documents WHERE doc_id = ?", (doc_id,)
    ).fetchone()
    return row[0] if row else None


def check_not_deleted(conn: sqlite3.Connection, doc_id: str, *, now: Millis) -> None:
    """Raise `DocDeletedError` while a tombstone stands."""
    tombstone = get_tombstone(conn, doc_id, now=now)
    if tombstone is not None:
        raise deleted(tombstone)


def require_writable(conn: sqlite3.Connection, doc_id: str, algorithm: str, *, now: Millis) -> None:
    """Before a write, in its transaction; as `MemoryDocuments.require_writable`."""
    check_not_deleted(conn, doc_id, now=now)
    expected = algorithm_of(conn, doc_id)
    if expected is None:
        conn.execute("INSERT INTO server_documents VALUES (?, ?)", (doc_id, algorithm))
    elif expected != algorithm:
        raise AlgorithmMismatchError(doc_id, expected=expected, got=algorithm)
    conn.execute(
        "INSERT INTO server_time VALUES (1, ?) ON CONFLICT DO UPDATE SET last = excluded.last "
        "WHERE last < excluded.last",
        (now,),
    )


def forget_document(conn: sqlite3.Connection, doc_id: str) -> None:
    """The document is gone: another may start under its id, with any algorithm."""
    conn.execute("DELETE FROM server_documents WHERE doc_id = ?", (doc_id,))


def put_tombstone(conn: sqlite3.Connection, tombstone: Tombstone) -> None:
    """Set or replace a document's tombstone."""
    conn.execute(
        "INSERT OR REPLACE INTO server_tombstones VALUES (?, ?, ?, ?, ?)",
        (
            tombstone.doc_id,
            tombstone.deleted_at,
            tombstone.last_rev,
            tombstone.deleted_by_client_id,
            tombstone.expires_at,
        ),
    )


def get_tombstone(conn: sqlite3.Connection, doc_id: str, *, now: Millis) -> Tombstone | None:
    """The tombstone, unless it has expired."""
    row = conn.execute(
        "SELECT deleted_at, last_rev, deleted_by_client_id, expires_at FROM server_tombstones "
        "WHERE doc_id = ?",
        (doc_id,),
    ).fetchone()
    if row is None:
        return None
    tombstone = Tombstone(
        doc_id=doc_id,
        deleted_at=row[0],
        last_rev=row[1],
        deleted_by_client_id=row[2],
        expires_at=row[3],
    )
    return tombstone if stands(tombstone, now) else None


def remove_tombstone(conn: sqlite3.Connection, doc_id: str, *, now: Millis) -> bool:
    """Remove it; whether one stood."""
    stood = get_tombstone(conn, doc_id, now=now) is not None
    conn.execute("DELETE FROM server_tombstones WHERE doc_id = ?", (doc_id,))
    return stood


def last_server_time(conn: sqlite3.Connection) -> Millis:
    """The server time of the latest write, 0 if there was none."""
    row = conn.execute("SELECT last FROM server_time").fetchone()
    return row[0] if row else 0

"""What all documents of an SQLite server have: `documents.py` in SQL.

The functions are for a store to call inside its own transaction (`docs/decisions.md`). The file
says here, too, what it is: its epoch, a random id that a copy does not share, and its schema.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from patches.errors import AlgorithmMismatchError, CorruptDataError
from patches.runtime import Millis, Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.file_kind import FileKind, Schema, statements
from patches_server.documents.history import token_of as history_token
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import deleted, next_life, stands

#: What a server's file says of itself. The id reads "PTCS".
SERVER_FILE: Final = FileKind(
    name="server's file",
    application_id=0x50544353,
    known_by=frozenset({"server_file", "server_documents", "ot_heads"}),
)
# `schema` is for servers from before a file had parts: they refuse a file above 1.
_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS server_file (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, schema INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS server_documents (
    doc_id TEXT PRIMARY KEY, algorithm TEXT NOT NULL, life INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS server_lives (
    one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS server_tombstones (
    doc_id TEXT PRIMARY KEY, deleted_at INTEGER NOT NULL, last_rev INTEGER NOT NULL,
    deleted_by_client_id TEXT, expires_at INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS server_time (
    one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL
);
INSERT OR IGNORE INTO server_file VALUES (1, lower(hex(randomblob(8))), 2);
"""


def _give_lives(conn: sqlite3.Connection) -> None:
    conn.execute("ALTER TABLE server_documents ADD COLUMN life INTEGER NOT NULL DEFAULT 0")
    for statement in statements(_SCRIPT):
        conn.execute(statement)
    conn.execute("UPDATE server_file SET schema = 2")


DOCUMENTS_SCHEMA: Final = Schema(
    name="documents",
    version=2,
    script=_SCRIPT,
    known_by=frozenset({"server_documents"}),
    migrations={1: _give_lives},
)


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


def epoch_of(conn: sqlite3.Connection) -> str:
    """The file's epoch."""
    row = conn.execute("SELECT epoch FROM server_file").fetchone()
    if row is None:
        raise CorruptDataError("the file has lost its epoch; patches-server doctor --repair")
    return str(row[0])


def put_epoch(conn: sqlite3.Connection, epoch: str) -> None:
    """Give the file an epoch, a new one if it has one."""
    conn.execute("INSERT OR REPLACE INTO server_file VALUES (1, ?, 2)", (epoch,))


def token_of(conn: sqlite3.Connection, doc_id: str) -> str | None:
    """The token of a document's history, `None` if it does not exist."""
    row = conn.execute(
        "SELECT f.epoch, d.life FROM server_documents d, server_file f WHERE d.doc_id = ?",
        (doc_id,),
    ).fetchone()
    return None if row is None else history_token(row[0], row[1])


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
        record_document(conn, doc_id, algorithm, now=now)
    elif expected != algorithm:
        raise AlgorithmMismatchError(doc_id, expected=expected, got=algorithm)
    conn.execute(
        "INSERT INTO server_time VALUES (1, ?) ON CONFLICT DO UPDATE SET last = excluded.last "
        "WHERE last < excluded.last",
        (now,),
    )


def record_document(conn: sqlite3.Connection, doc_id: str, algorithm: str, *, now: Millis) -> None:
    """Record a document that is made now, with a life of its own."""
    row = conn.execute("SELECT last FROM server_lives").fetchone()
    life = next_life(now, row[0] if row else 0)
    conn.execute("INSERT OR REPLACE INTO server_lives VALUES (1, ?)", (life,))
    conn.execute("INSERT INTO server_documents VALUES (?, ?, ?)", (doc_id, algorithm, life))


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

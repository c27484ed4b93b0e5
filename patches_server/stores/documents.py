"""What all documents of a server have, whatever their algorithm: a record of it, and tombstones.

A document's algorithm is recorded in the transaction of its first commit and forgotten when it is
deleted. While a tombstone stands, nothing is written under the document's id. `MemoryDocuments`
keeps this in memory; the functions below it are the same in SQL, for a store to call inside its own
transaction (`design.md`, Decisions).

The last server time is kept here too, so that a server's clock never runs backwards over a restart,
and what the file is: its epoch, a random id that a copy does not share, and its schema.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from patches.errors import AlgorithmMismatchError, DocDeletedError, StorageError
from patches.runtime import Millis
from patches_server.records import Tombstone


class MemoryDocuments:
    """Algorithms, tombstones and the last server time, shared by the memory stores of a backend."""

    def __init__(self) -> None:
        self._algorithms: dict[str, str] = {}
        self._tombstones: dict[str, Tombstone] = {}
        self.last_server_time: Millis = 0

    def algorithm_of(self, doc_id: str) -> str | None:
        """The algorithm of a document that has been committed to."""
        return self._algorithms.get(doc_id)

    def check_not_deleted(self, doc_id: str, *, now: Millis) -> None:
        """Raise `DocDeletedError` while a tombstone stands."""
        tombstone = self.get_tombstone(doc_id, now=now)
        if tombstone is not None:
            raise deleted(tombstone)

    def require_writable(self, doc_id: str, algorithm: str, *, now: Millis) -> None:
        """Before a write: no tombstone, and the document is of this algorithm (for good, if new).

        `now` is the server time of the write. Raises `DocDeletedError`, `AlgorithmMismatchError`.
        """
        self.check_not_deleted(doc_id, now=now)
        expected = self._algorithms.setdefault(doc_id, algorithm)
        if expected != algorithm:
            raise AlgorithmMismatchError(doc_id, expected=expected, got=algorithm)
        self.last_server_time = max(self.last_server_time, now)

    def forget_document(self, doc_id: str) -> None:
        """The document is gone: another may start under its id, with any algorithm."""
        self._algorithms.pop(doc_id, None)

    def put_tombstone(self, tombstone: Tombstone) -> None:
        """Set or replace a document's tombstone."""
        self._tombstones[tombstone.doc_id] = tombstone

    def get_tombstone(self, doc_id: str, *, now: Millis) -> Tombstone | None:
        """The tombstone, unless it has expired."""
        tombstone = self._tombstones.get(doc_id)
        return tombstone if tombstone is not None and stands(tombstone, now) else None

    def remove_tombstone(self, doc_id: str, *, now: Millis) -> bool:
        """Remove it; whether one stood."""
        stood = self.get_tombstone(doc_id, now=now) is not None
        self._tombstones.pop(doc_id, None)
        return stood


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


def stands(tombstone: Tombstone, now: Millis) -> bool:
    """Whether a tombstone has not expired."""
    return tombstone.expires_at is None or tombstone.expires_at > now


def deleted(tombstone: Tombstone) -> DocDeletedError:
    """The error that a tombstone stands for."""
    return DocDeletedError(
        tombstone.doc_id, deleted_at=tombstone.deleted_at, last_rev=tombstone.last_rev
    )

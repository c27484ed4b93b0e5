"""What all documents of an SQLite server have: `documents.py` in SQL.

The functions are for a store to call inside its own transaction (`docs/decisions.md`). The file
says here, too, what it is: its epoch, a random id that a copy does not share, and its schema.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from patches.errors import CorruptDataError
from patches.runtime import Millis, Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.file_kind import FileKind, Schema, statements
from patches_server.documents.history import token_of as history_token
from patches_server.documents.listing import ListedDoc, end_of_prefix
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import deleted, next_life, require_algorithm
from patches_server.stores.sqlite.checksums import (
    Sums,
    load_sums,
    put_sums,
    require_row,
    require_rows,
    row_crc,
)

#: What a server's file says of itself. The id reads "PTCS".
SERVER_FILE: Final = FileKind(
    name="server's file",
    application_id=0x50544353,
    known_by=frozenset({"server_file", "server_documents", "ot_heads"}),
    mistaken_for={
        0x50544343: "is a client's file; give the server its own: sqlite:///documents.db",
    },
)
# `schema` is for servers from before a file had parts: they refuse a file above 1.
_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS server_file (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL, schema INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS server_documents (
    doc_id TEXT PRIMARY KEY, algorithm TEXT NOT NULL, life INTEGER NOT NULL, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS server_lives (
    one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS server_tombstones (
    doc_id TEXT PRIMARY KEY, deleted_at INTEGER NOT NULL, last_rev INTEGER NOT NULL,
    deleted_by_client_id TEXT, expires_at INTEGER, crc INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS server_time (
    one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL, crc INTEGER NOT NULL
);
"""
#: The tables of one row each, and what their checksum covers.
_SINGLES: Final = {"server_file": "epoch, schema", "server_lives": "last", "server_time": "last"}


def _fill(conn: sqlite3.Connection) -> None:
    (epoch,) = conn.execute("SELECT lower(hex(randomblob(8)))").fetchone()
    put_epoch(conn, epoch)


def _to_version_2(conn: sqlite3.Connection) -> None:
    """Give documents lives, and rows checksums."""
    records = conn.execute("SELECT doc_id, algorithm FROM server_documents").fetchall()
    tombstones = conn.execute("SELECT * FROM server_tombstones").fetchall()
    conn.execute("DROP TABLE server_documents")
    conn.execute("DROP TABLE server_tombstones")
    for statement in statements(_SCRIPT):
        conn.execute(statement)
    conn.executemany(
        "INSERT INTO server_documents VALUES (?, ?, 0, ?)",
        ((*record, row_crc(*record, 0)) for record in records),
    )
    conn.executemany(
        "INSERT INTO server_tombstones VALUES (?, ?, ?, ?, ?, ?)",
        ((*each, row_crc(*each)) for each in tombstones),
    )
    put_sums(conn, TOMBSTONES, "", Sums().plus(row_crc(*each) for each in tombstones))
    conn.execute("UPDATE server_file SET schema = 2")


def _to_version_3(conn: sqlite3.Connection) -> None:
    """Give the tables about the file checksums."""
    for table, columns in _SINGLES.items():
        if "crc" not in {row[1] for row in conn.execute(f"PRAGMA table_info({table})")}:
            conn.execute(f"ALTER TABLE {table} ADD COLUMN crc INTEGER NOT NULL DEFAULT 0")
        for row in conn.execute(f"SELECT {columns} FROM {table}").fetchall():  # noqa: S608 -- fixed names
            conn.execute(f"UPDATE {table} SET crc = ?", (row_crc(*row),))  # noqa: S608 -- a fixed name


DOCUMENTS_SCHEMA: Final = Schema(
    name="documents",
    version=3,
    script=_SCRIPT,
    known_by=frozenset({"server_documents"}),
    migrations={1: _to_version_2, 2: _to_version_3},
    fill=_fill,
)


#: The name of the sums of all tombstones.
TOMBSTONES: Final = "tombstones"
_LOAD: Final = """
SELECT f.epoch, d.algorithm, d.life, d.crc,
    t.deleted_at, t.last_rev, t.deleted_by_client_id, t.crc
FROM (SELECT ? AS id) AS q JOIN server_file f
LEFT JOIN server_documents d ON d.doc_id = q.id
LEFT JOIN server_tombstones t ON t.doc_id = q.id
"""


class SqliteDocuments:
    """The tombstones and the last server time of a database, as every store over it has them."""

    def __init__(self, database: SqliteDatabase, runtime: Runtime) -> None:
        self._database = database
        self._runtime = runtime

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in a document's place."""
        return await self._database.read(lambda conn: get_tombstone(conn, doc_id))

    async def remove_tombstone(self, doc_id: str) -> bool:
        """Remove it; whether one stood."""
        return await self._database.write(lambda conn: remove_tombstone(conn, doc_id))

    async def last_server_time(self) -> Millis:
        """The server time of the latest write, 0 if there was none."""
        return await self._database.read(last_server_time)


def epoch_of(conn: sqlite3.Connection) -> str:
    """The file's epoch. Raises `CorruptDataError` if it is lost or damaged."""
    if damaged_singles(conn) != []:
        raise CorruptDataError(
            f"{', '.join(damaged_singles(conn))}: damaged; patches-server doctor --repair"
        )
    row = conn.execute("SELECT epoch FROM server_file").fetchone()
    if row is None:
        raise CorruptDataError("the file has lost its epoch; patches-server doctor --repair")
    return str(row[0])


def damaged_singles(conn: sqlite3.Connection) -> list[str]:
    """The tables about the file whose row fails its checksum."""
    return [
        table
        for table, columns in _SINGLES.items()
        for *row, crc in conn.execute(f"SELECT {columns}, crc FROM {table}")  # noqa: S608 -- fixed names
        if row_crc(*row) != crc
    ]


def mend_singles(conn: sqlite3.Connection) -> list[str]:
    """Replace what is damaged or lost of what the file says about itself; what was done.

    A file with a new epoch is another history to clients: they load their documents anew. The
    server's time goes on from its clock.
    """
    damaged = damaged_singles(conn)
    done = []
    if "server_file" in damaged or not conn.execute("SELECT 1 FROM server_file").fetchone():
        _fill(conn)
        done.append("gave the file a new epoch")
    if "server_lives" in damaged:
        (last,) = conn.execute("SELECT coalesce(max(life), 0) FROM server_documents").fetchone()
        _put_last_life(conn, last)
        done.append("numbered the lives of documents from those that are there")
    if "server_time" in damaged:
        conn.execute("DELETE FROM server_time")
        put_server_time(conn, 0)
        done.append("let the server's time begin with its clock")
    return done


def put_epoch(conn: sqlite3.Connection, epoch: str) -> None:
    """Give the file an epoch, a new one if it has one."""
    conn.execute(
        "INSERT OR REPLACE INTO server_file VALUES (1, ?, 2, ?)", (epoch, row_crc(epoch, 2))
    )


@dataclass(frozen=True, slots=True)
class Record:
    """What is recorded of a document: its algorithm, and the token of its history."""

    algorithm: str
    token: str


def load(conn: sqlite3.Connection, doc_id: str) -> Record | None:
    """The record of a document, `None` if there is none.

    Raises `DocDeletedError` while a tombstone stands, `CorruptDataError` for a damaged row.
    """
    row = conn.execute(_LOAD, (doc_id,)).fetchone()
    epoch, algorithm, life, crc, deleted_at, *tombstone = row
    if deleted_at is not None:
        raise deleted(_tombstone(doc_id, (deleted_at, *tombstone)))
    if algorithm is None:
        return None
    require_row(crc == row_crc(doc_id, algorithm, life), f"the record of document {doc_id!r}")
    return Record(algorithm, history_token(epoch, life))


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


def check_not_deleted(conn: sqlite3.Connection, doc_id: str) -> None:
    """Raise `DocDeletedError` while a tombstone stands."""
    tombstone = get_tombstone(conn, doc_id)
    if tombstone is not None:
        raise deleted(tombstone)


def require_writable(
    conn: sqlite3.Connection, doc_id: str, algorithm: str, *, now: Millis
) -> Record | None:
    """Before a write, in its transaction; as `MemoryDocuments.require_writable`.

    Returns the record that was there before.
    """
    record = load(conn, doc_id)
    require_algorithm(doc_id, None if record is None else record.algorithm, algorithm)
    if record is None:
        record_document(conn, doc_id, algorithm, now=now)
    put_server_time(conn, now)
    return record


def put_server_time(conn: sqlite3.Connection, now: Millis) -> None:
    """Note the server time of a write, unless a later one is noted."""
    conn.execute(
        "INSERT INTO server_time VALUES (1, ?, ?) ON CONFLICT DO UPDATE SET last = excluded.last, "
        "crc = excluded.crc WHERE last < excluded.last",
        (now, row_crc(now)),
    )


def record_document(conn: sqlite3.Connection, doc_id: str, algorithm: str, *, now: Millis) -> None:
    """Record a document that is made now, with a life of its own."""
    last, checksum = conn.execute("SELECT last, crc FROM server_lives").fetchone() or (
        0,
        row_crc(0),
    )
    require_row(checksum == row_crc(last), "the record of the lives of documents")
    life = next_life(now, last)
    _put_last_life(conn, life)
    crc = row_crc(doc_id, algorithm, life)
    conn.execute("INSERT INTO server_documents VALUES (?, ?, ?, ?)", (doc_id, algorithm, life, crc))


def _put_last_life(conn: sqlite3.Connection, life: int) -> None:
    conn.execute("INSERT OR REPLACE INTO server_lives VALUES (1, ?, ?)", (life, row_crc(life)))


def forget_document(conn: sqlite3.Connection, doc_id: str) -> None:
    """The document is gone: another may start under its id, with any algorithm."""
    conn.execute("DELETE FROM server_documents WHERE doc_id = ?", (doc_id,))


def list_docs(
    conn: sqlite3.Connection, prefix: str, *, after: str | None, limit: int, deleted: bool
) -> list[ListedDoc]:
    """A page of documents, or of deleted ones, by the index of their ids."""
    sql = (
        "SELECT doc_id, NULL, NULL, deleted_at FROM server_tombstones "
        if deleted
        else "SELECT doc_id, algorithm, life, NULL FROM server_documents "
    )
    rows = conn.execute(
        sql + "WHERE doc_id >= ? AND doc_id < ? AND doc_id > ? ORDER BY doc_id LIMIT ?",
        (prefix, end_of_prefix(prefix), after or "", limit),
    )
    return [
        ListedDoc(doc_id=doc_id, algorithm=algorithm, created_at=life, deleted_at=deleted_at)
        for doc_id, algorithm, life, deleted_at in rows
    ]


def count_docs(conn: sqlite3.Connection, prefix: str) -> int:
    """How many documents have ids with this prefix."""
    (count,) = conn.execute(
        "SELECT count(*) FROM server_documents WHERE doc_id >= ? AND doc_id < ?",
        (prefix, end_of_prefix(prefix)),
    ).fetchone()
    return int(count)


def put_tombstone(conn: sqlite3.Connection, tombstone: Tombstone) -> None:
    """Set or replace a document's tombstone."""
    columns = (
        tombstone.doc_id,
        tombstone.deleted_at,
        tombstone.last_rev,
        tombstone.deleted_by_client_id,
        None,  # a column for when it expires, which none does
    )
    crc = row_crc(*columns)
    sums = _without_tombstone(conn, tombstone.doc_id).plus([crc])
    conn.execute("INSERT INTO server_tombstones VALUES (?, ?, ?, ?, ?, ?)", (*columns, crc))
    put_sums(conn, TOMBSTONES, "", sums)


def get_tombstone(conn: sqlite3.Connection, doc_id: str) -> Tombstone | None:
    """The tombstone that stands in a document's place."""
    row = conn.execute(
        "SELECT deleted_at, last_rev, deleted_by_client_id, crc "
        "FROM server_tombstones WHERE doc_id = ?",
        (doc_id,),
    ).fetchone()
    return None if row is None else _tombstone(doc_id, row)


def remove_tombstone(conn: sqlite3.Connection, doc_id: str) -> bool:
    """Remove it; whether one stood."""
    stood = get_tombstone(conn, doc_id) is not None
    put_sums(conn, TOMBSTONES, "", _without_tombstone(conn, doc_id))
    return stood


def require_tombstones(conn: sqlite3.Connection) -> None:
    """Raise `CorruptDataError` unless every tombstone is there: a document without its own would
    be taken for one that never was.
    """
    crcs = (crc for (crc,) in conn.execute("SELECT crc FROM server_tombstones"))
    require_rows(load_sums(conn, TOMBSTONES, ""), Sums().plus(crcs), "tombstones")


def _without_tombstone(conn: sqlite3.Connection, doc_id: str) -> Sums:
    """Remove a tombstone, if there is one; the sums of the others."""
    sums = load_sums(conn, TOMBSTONES, "")
    gone = conn.execute("SELECT crc FROM server_tombstones WHERE doc_id = ?", (doc_id,)).fetchall()
    conn.execute("DELETE FROM server_tombstones WHERE doc_id = ?", (doc_id,))
    return sums.minus(crc for (crc,) in gone)


def _tombstone(doc_id: str, row: tuple[Any, ...]) -> Tombstone:
    deleted_at, last_rev, client_id, crc = row
    is_whole = crc == row_crc(doc_id, deleted_at, last_rev, client_id, None)
    require_row(is_whole, f"the tombstone of document {doc_id!r}")
    return Tombstone(
        doc_id=doc_id,
        deleted_at=deleted_at,
        last_rev=last_rev,
        deleted_by_client_id=client_id,
    )


def last_server_time(conn: sqlite3.Connection) -> Millis:
    """The server time of the latest write, 0 if there was none."""
    last, crc = conn.execute("SELECT last, crc FROM server_time").fetchone() or (0, row_crc(0))
    require_row(crc == row_crc(last), "the server's time in the file")
    return int(last)

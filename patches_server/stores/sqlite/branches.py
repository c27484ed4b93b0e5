"""`SqliteBranches`: branch records in a SQLite file."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from patches.model import codec
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.file_kind import Schema
from patches_server.documents.branch_store import Changed, ChangesBranches
from patches_server.documents.records import Branch
from patches_server.stores.sqlite.checksums import (
    NO_ROWS,
    Sums,
    change_sums,
    load_sums,
    require_row,
    require_rows,
    row_crc,
)

_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS server_branches (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, doc_id TEXT NOT NULL,
    modified_at INTEGER NOT NULL, deleted INTEGER NOT NULL, record BLOB NOT NULL,
    crc INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS server_branches_by_doc ON server_branches (doc_id);
"""
BRANCHES: Final = "branches"  # the name of the sums


def _to_version_2(conn: sqlite3.Connection) -> None:
    """Give records checksums, and count them."""
    conn.execute("ALTER TABLE server_branches ADD COLUMN crc INTEGER NOT NULL DEFAULT 0")
    columns = "id, doc_id, modified_at, deleted, record"
    for seq, *row in conn.execute(f"SELECT seq, {columns} FROM server_branches").fetchall():  # noqa: S608 -- fixed names
        crc = row_crc(*row)
        conn.execute("UPDATE server_branches SET crc = ? WHERE seq = ?", (crc, seq))
        change_sums(conn, BRANCHES, row[1], gone=(), new=[crc])


BRANCHES_SCHEMA: Final = Schema(
    name="branches",
    version=2,
    script=_SCRIPT,
    known_by=frozenset({"server_branches"}),
    migrations={1: _to_version_2},
)


class SqliteBranches(ChangesBranches):
    """A `BranchStore` over a database that it shares."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        database.add_schema(BRANCHES_SCHEMA)

    async def list_branches(self, doc_id: str, *, since: float | None = None) -> list[Branch]:
        test, values = (
            ("modified_at > ?", (doc_id, since)) if since else ("deleted = ?", (doc_id, 0))
        )
        sql = f"SELECT {ROW} FROM server_branches WHERE doc_id = ? AND {test} ORDER BY seq"  # noqa: S608 -- two fixed tests

        def read(conn: sqlite3.Connection) -> list[Branch]:
            found = counted(conn, doc_id)
            require_rows(load_sums(conn, BRANCHES, doc_id), found, f"branches of {doc_id!r}")
            return [_branch(row) for row in conn.execute(sql, values)]

        return await self._database.read(read)

    async def load_branch(self, branch_id: str) -> Branch | None:
        return await self._database.read(lambda conn: _load(conn, branch_id))

    async def create_branch(self, branch: Branch) -> None:
        await self._database.write(lambda conn: _save(conn, branch))

    async def _change(self, branch_id: str, change: Changed) -> bool:
        def write(conn: sqlite3.Connection) -> bool:
            branch = _load(conn, branch_id)
            changed = None if branch is None else change(branch)
            if changed is None:
                return False
            _save(conn, changed)
            return True

        return await self._database.write(write)


ROW: Final = "id, doc_id, modified_at, deleted, record, crc"


def counted(conn: sqlite3.Connection, doc_id: str) -> Sums:
    """A document's branch records."""
    rows = conn.execute("SELECT crc FROM server_branches WHERE doc_id = ?", (doc_id,))
    return NO_ROWS.plus(crc for (crc,) in rows)


def _load(conn: sqlite3.Connection, branch_id: str) -> Branch | None:
    row = _row(conn, branch_id)
    return _branch(row) if row else None


def _row(conn: sqlite3.Connection, branch_id: str) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = conn.execute(
        f"SELECT {ROW} FROM server_branches WHERE id = ?",  # noqa: S608 -- fixed names
        (branch_id,),
    ).fetchone()
    return row


def _save(conn: sqlite3.Connection, branch: Branch) -> None:
    old = _row(conn, branch.id)
    if old is not None:
        change_sums(conn, BRANCHES, old[1], gone=[old[-1]], new=())
    columns = (
        branch.id,
        branch.doc_id,
        branch.modified_at,
        int(branch.deleted),
        codec.encode(branch.to_wire(with_frame=True)),
    )
    crc = row_crc(*columns)
    conn.execute(
        "INSERT INTO server_branches (id, doc_id, modified_at, deleted, record, crc) "
        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET doc_id = excluded.doc_id, "
        "modified_at = excluded.modified_at, deleted = excluded.deleted, "
        "record = excluded.record, crc = excluded.crc",
        (*columns, crc),
    )
    change_sums(conn, BRANCHES, branch.doc_id, gone=(), new=[crc])


def _branch(row: tuple[Any, ...]) -> Branch:
    require_row(row_crc(*row[:-1]) == row[-1], f"the record of branch {row[0]!r}")
    wire: dict[str, Any] = codec.decode(row[-2])
    return Branch.from_wire(wire)

"""`SqliteBranches`: branch records in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Final

from patches.model import codec
from patches.runtime import Millis
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.file_kind import Schema
from patches_server.documents.branch_store import matches, tombstone_of, updated
from patches_server.documents.records import Branch

_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS server_branches (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, doc_id TEXT NOT NULL,
    modified_at INTEGER NOT NULL, deleted INTEGER NOT NULL, record BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS server_branches_by_doc ON server_branches (doc_id);
"""
BRANCHES_SCHEMA: Final = Schema(
    name="branches", script=_SCRIPT, known_by=frozenset({"server_branches"})
)


class SqliteBranches:
    """A `BranchStore` over a database that it shares."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        database.add_schema(BRANCHES_SCHEMA)

    async def list_branches(self, doc_id: str, *, since: float | None = None) -> list[Branch]:
        test, values = (
            ("modified_at > ?", (doc_id, since)) if since else ("deleted = ?", (doc_id, 0))
        )
        sql = f"SELECT record FROM server_branches WHERE doc_id = ? AND {test} ORDER BY seq"  # noqa: S608 -- two fixed tests
        rows = await self._database.read(lambda conn: conn.execute(sql, values).fetchall())
        return [_branch(row[0]) for row in rows]

    async def load_branch(self, branch_id: str) -> Branch | None:
        return await self._database.read(lambda conn: _load(conn, branch_id))

    async def create_branch(self, branch: Branch) -> None:
        await self._database.write(lambda conn: _save(conn, branch))

    async def update_branch(self, branch_id: str, fields: Mapping[str, Any]) -> None:
        await self._change(branch_id, lambda branch: updated(branch, fields))

    async def update_branch_if(
        self, branch_id: str, fields: Mapping[str, Any], expected: Mapping[str, Any]
    ) -> bool:
        return await self._change(
            branch_id,
            lambda branch: updated(branch, fields) if matches(branch, expected) else None,
        )

    async def delete_branch(
        self, branch_id: str, *, modified_at: Millis, keeps_origin: bool = False
    ) -> None:
        await self._change(
            branch_id, lambda branch: tombstone_of(branch, modified_at, keeps_origin)
        )

    async def _change(self, branch_id: str, change: Callable[[Branch], Branch | None]) -> bool:
        def write(conn: sqlite3.Connection) -> bool:
            branch = _load(conn, branch_id)
            changed = None if branch is None else change(branch)
            if changed is None:
                return False
            _save(conn, changed)
            return True

        return await self._database.write(write)


def _load(conn: sqlite3.Connection, branch_id: str) -> Branch | None:
    row = conn.execute("SELECT record FROM server_branches WHERE id = ?", (branch_id,)).fetchone()
    return _branch(row[0]) if row else None


def _save(conn: sqlite3.Connection, branch: Branch) -> None:
    conn.execute(
        "INSERT INTO server_branches (id, doc_id, modified_at, deleted, record) "
        "VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET doc_id = excluded.doc_id, "
        "modified_at = excluded.modified_at, deleted = excluded.deleted, record = excluded.record",
        (
            branch.id,
            branch.doc_id,
            branch.modified_at,
            int(branch.deleted),
            codec.encode(branch.to_wire(with_frame=True)),
        ),
    )


def _branch(record: bytes) -> Branch:
    wire: dict[str, Any] = codec.decode(record)
    return Branch.from_wire(wire)

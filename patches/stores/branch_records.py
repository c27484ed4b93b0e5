"""Stores for the branch records of a client: in memory, and in an SQLite file.

They keep what `patches.sync.history.branch_store.BranchStore` asks for, and decide nothing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from patches.model import codec
from patches.model.records import Branch
from patches.runtime import Runtime
from patches.stores.sqlite.database import Durability, SqliteDatabase
from patches.stores.sqlite.file_kind import CLIENT_FILE

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS branch_records (
    id TEXT PRIMARY KEY,
    doc_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    record BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS branch_records_by_doc ON branch_records (doc_id);
"""


class MemoryBranchStore:
    """Branch records that are gone when the process ends."""

    def __init__(self) -> None:
        self._records: dict[str, Branch] = {}

    async def load(self, branch_id: str) -> Branch | None:
        return self._records.get(branch_id)

    async def list(self, doc_id: str) -> Sequence[Branch]:
        return _sorted(branch for branch in self._records.values() if branch.doc_id == doc_id)

    async def list_pending(self) -> Sequence[Branch]:
        return _sorted(branch for branch in self._records.values() if branch.pending_op)

    async def save(self, branches: Iterable[Branch]) -> None:
        self._records.update({branch.id: branch for branch in branches})

    async def remove(self, branch_ids: Iterable[str]) -> None:
        for branch_id in branch_ids:
            self._records.pop(branch_id, None)


class SqliteBranchStore:
    """Branch records in an SQLite file: a path, or the database of a client's backend."""

    def __init__(
        self,
        path: str | os.PathLike[str] | SqliteDatabase,
        *,
        durability: Durability = "full",
        runtime: Runtime | None = None,
    ) -> None:
        self._own = not isinstance(path, SqliteDatabase)
        self._database = (
            path
            if isinstance(path, SqliteDatabase)
            else SqliteDatabase(path, durability=durability, runtime=runtime, kind=CLIENT_FILE)
        )
        self._database.add_schema(_SCHEMA)

    async def load(self, branch_id: str) -> Branch | None:
        def query(connection: sqlite3.Connection) -> Branch | None:
            rows = connection.execute(
                "SELECT record FROM branch_records WHERE id = ?", (branch_id,)
            ).fetchall()
            return _branch(rows[0][0]) if rows else None

        return await self._database.read(query)

    async def list(self, doc_id: str) -> Sequence[Branch]:
        def query(connection: sqlite3.Connection) -> Sequence[Branch]:
            return [
                _branch(record)
                for (record,) in connection.execute(
                    "SELECT record FROM branch_records WHERE doc_id = ? ORDER BY created_at, id",
                    (doc_id,),
                )
            ]

        return await self._database.read(query)

    async def list_pending(self) -> Sequence[Branch]:
        def query(connection: sqlite3.Connection) -> Sequence[Branch]:
            return [
                _branch(record)
                for (record,) in connection.execute(
                    "SELECT record FROM branch_records WHERE pending ORDER BY created_at, id"
                )
            ]

        return await self._database.read(query)

    async def save(self, branches: Iterable[Branch]) -> None:
        rows = [
            (
                branch.id,
                branch.doc_id,
                branch.created_at,
                branch.pending_op is not None,
                codec.encode(branch.to_wire()),
            )
            for branch in branches
        ]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO branch_records VALUES (?, ?, ?, ?, ?)", rows
            )

        await self._database.write(write)

    async def remove(self, branch_ids: Iterable[str]) -> None:
        rows = [(branch_id,) for branch_id in branch_ids]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM branch_records WHERE id = ?", rows)

        await self._database.write(write)

    async def close(self) -> None:
        """Close the file, unless it is the backend's."""
        if self._own:
            await self._database.close()


def _sorted(branches: Iterable[Branch]) -> list[Branch]:
    return sorted(branches, key=lambda branch: (branch.created_at, branch.id))


def _branch(record: bytes) -> Branch:
    wire = codec.decode(record)
    assert isinstance(wire, dict)
    return Branch.from_wire(wire)

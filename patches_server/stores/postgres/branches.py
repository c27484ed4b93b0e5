"""`PostgresBranches`: branch records in PostgreSQL."""

from __future__ import annotations

from typing import Any, Final

from patches.model import codec
from patches_server.documents.branch_store import Changed, ChangesBranches
from patches_server.documents.records import Branch
from patches_server.stores.checksums import require_row, row_crc
from patches_server.stores.postgres.database import Connection, PostgresDatabase, Record

_ROW: Final = "id, doc_id, modified_at, deleted, record, crc"
_SAVE: Final = """
INSERT INTO branches (id, doc_id, modified_at, deleted, record, crc)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET doc_id = excluded.doc_id, modified_at = excluded.modified_at,
    deleted = excluded.deleted, record = excluded.record, crc = excluded.crc
"""


class PostgresBranches(ChangesBranches):
    """A `BranchStore` over a database that it shares."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def list_branches(self, doc_id: str, *, since: float | None = None) -> list[Branch]:
        test = "modified_at > $2::float8" if since else "NOT deleted"
        sql = f"SELECT {_ROW} FROM branches WHERE doc_id = $1 AND {test} ORDER BY seq"  # noqa: S608 -- two fixed tests
        values = (doc_id, float(since)) if since else (doc_id,)
        rows = await self._database.read(lambda conn: conn.fetch(sql, *values))
        return [_branch(row) for row in rows]

    async def load_branch(self, branch_id: str) -> Branch | None:
        row = await self._database.read(
            lambda conn: conn.fetchrow(f"SELECT {_ROW} FROM branches WHERE id = $1", branch_id)  # noqa: S608 -- fixed names
        )
        return None if row is None else _branch(row)

    async def create_branch(self, branch: Branch) -> None:
        await self._database.write(lambda conn: _save(conn, branch))

    async def _change(self, branch_id: str, change: Changed) -> bool:
        async def write(conn: Connection) -> bool:
            sql = f"SELECT {_ROW} FROM branches WHERE id = $1 FOR UPDATE"  # noqa: S608 -- fixed names
            row = await conn.fetchrow(sql, branch_id)
            changed = None if row is None else change(_branch(row))
            if changed is None:
                return False
            await _save(conn, changed)
            return True

        return await self._database.write(write)


async def _save(conn: Connection, branch: Branch) -> None:
    columns = (
        branch.id,
        branch.doc_id,
        branch.modified_at,
        branch.deleted,
        codec.encode(branch.to_wire(with_frame=True)),
    )
    await conn.execute(_SAVE, *columns, row_crc(*columns))


def _branch(row: Record) -> Branch:
    require_row(row_crc(*tuple(row)[:-1]) == row["crc"], f"the record of branch {row['id']!r}")
    wire: dict[str, Any] = codec.decode(row["record"])
    return Branch.from_wire(wire)

"""Removes everything of one document from the shared tables of PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from patches_server.collections.engines.engine import Deleted
from patches_server.collections.engines.postgres_tables import BaseTable

_RECORDS = ("captured", "log", "commits", "consumers")


async def remove_rows(
    conn: Any, doc_id: str, tables: Sequence[BaseTable], tombstone: Deleted | None
) -> None:
    """Remove a document inside of a transaction, leaving the record of its deletion.

    An older record stays. Raises the driver's error if rows of other tables refer to its own.
    """
    await conn.execute("SELECT FROM patches_rows.docs WHERE doc_id = $1 FOR UPDATE", doc_id)
    await _remove_from(conn, doc_id, tables)
    for name in _RECORDS:
        await conn.execute(f"DELETE FROM patches_rows.{name} WHERE doc_id = $1", doc_id)  # noqa: S608 -- fixed names
    await conn.execute(
        "DELETE FROM patches_rows.docs WHERE doc_id = $1 AND deleted_at IS NULL", doc_id
    )
    if tombstone is not None:
        client_id = tombstone.client_id
        await conn.execute(
            "INSERT INTO patches_rows.docs (doc_id, epoch, deleted_at, last_rev, client_id) "
            "VALUES ($1, '', $2, $3, $4) ON CONFLICT DO NOTHING",
            doc_id,
            tombstone.deleted_at,
            tombstone.last_rev,
            None if client_id is None else client_id.encode("utf-8", "surrogatepass"),
        )


async def _remove_from(conn: Any, doc_id: str, tables: Sequence[BaseTable]) -> None:
    """Tables that others refer to come after those: each is tried until none is left."""
    left = list(tables)
    while left:
        again: list[BaseTable] = []
        for table in left:
            query = f"DELETE FROM {table.name} WHERE {table.scope} = $1"  # noqa: S608 -- declared names
            await conn.execute("SAVEPOINT removal")
            try:
                await conn.execute(query, doc_id)
            except asyncpg.ForeignKeyViolationError:
                if len(again) + 1 == len(left):
                    raise
                again.append(table)
                await conn.execute("ROLLBACK TO removal")
        left = again

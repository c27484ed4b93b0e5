"""The row that each document has, whatever its algorithm, and its tombstone.

A document's row has a *life*: a number for one incarnation, on which all its data hangs. Deleting
the document gives the row another life, in one short statement however much there is, and nothing
of the old one can be seen again; the janitor removes it later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from patches.errors import RevConflictError
from patches.runtime import Millis
from patches.stores.sqlite.keys import from_key, to_key
from patches_server.documents.history import token_of
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import deleted, require_algorithm
from patches_server.stores.postgres.database import (
    BoundDatabase,
    Connection,
    PostgresDatabase,
    Record,
)

#: A document's row as `h`, always one: without a document, its columns are null. `$1`: the id.
HEAD: Final = "(SELECT m.epoch, d.* FROM meta m LEFT JOIN docs d ON d.doc_id = $1) h"
LOCKED: Final = "SELECT * FROM docs WHERE doc_id = $1 FOR UPDATE"
_MAKE: Final = "INSERT INTO docs (doc_id) VALUES ($1) ON CONFLICT DO NOTHING"


class PostgresDocuments:
    """The tombstones and the last server time of a database, as every store over it has them."""

    def __init__(self, database: PostgresDatabase | BoundDatabase) -> None:
        self._database = database

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in a document's place."""
        row = await self._database.read(
            lambda conn: conn.fetchrow(
                "SELECT deleted_at, deleted_rev, deleted_by FROM docs "
                "WHERE doc_id = $1 AND deleted_at IS NOT NULL",
                doc_id,
            )
        )
        return None if row is None else tombstone_of(doc_id, row)

    async def remove_tombstone(self, doc_id: str) -> bool:
        """Remove it; whether one stood."""
        done = await self._database.write(
            lambda conn: conn.execute(
                "UPDATE docs SET deleted_at = NULL, deleted_rev = NULL, deleted_by = NULL "
                "WHERE doc_id = $1 AND deleted_at IS NOT NULL",
                doc_id,
            )
        )
        return done == "UPDATE 1"

    async def last_server_time(self) -> Millis:
        """The server time of the latest write, 0 if there was none. Reads every document's row."""
        return await self._database.read(
            lambda conn: conn.fetchval("SELECT coalesce(max(server_time), 0) FROM docs")
        )


def tombstone_of(doc_id: str, row: Record) -> Tombstone:
    """The tombstone in a document's row."""
    by = row["deleted_by"]
    return Tombstone(
        doc_id=doc_id,
        deleted_at=row["deleted_at"],
        last_rev=row["deleted_rev"],
        deleted_by_client_id=None if by is None else from_key(by),
    )


def require_not_deleted(doc_id: str, row: Record | None) -> None:
    """Raise `DocDeletedError` while a tombstone stands."""
    if row is not None and row["deleted_at"] is not None:
        raise deleted(tombstone_of(doc_id, row))


def token_in(row: Record) -> str | None:
    """The token of the history in a row of `HEAD`, `None` if there is no document."""
    return None if row["algorithm"] is None else token_of(row["epoch"], row["life"])


def split_token(token: str | None) -> tuple[str | None, int | None]:
    """Epoch and life of a token, for a statement to test. One that is not ours fits nothing."""
    if token is None:
        return None, None
    epoch, _, life = token.rpartition(".")
    return epoch, int(life) if life.isascii() and life.isdigit() else -1


async def lock_row(conn: Connection, doc_id: str) -> Record:
    """A document's row, made if there is none, until the end of the transaction."""
    row = await conn.fetchrow(LOCKED, doc_id)
    if row is None:
        await conn.execute(_MAKE, doc_id)
        row = await conn.fetchrow(LOCKED, doc_id)
    return row


async def lock_writable(
    conn: Connection, doc_id: str, algorithm: str, *, token: str | None = None
) -> Record:
    """The same before a write. Raises as the stores do, in their order."""
    row = await lock_row(conn, doc_id)
    require_not_deleted(doc_id, row)
    require_algorithm(doc_id, row["algorithm"], algorithm)
    if token is not None:
        epoch, life = split_token(token)
        current = await conn.fetchval("SELECT epoch FROM meta")
        if row["algorithm"] is None or (epoch, life) != (current, row["life"]):
            raise RevConflictError
    return row


async def delete(
    conn: Connection,
    doc_id: str,
    algorithm: str,
    tombstone: Tombstone | None,
    *,
    drops: Sequence[str] = (),
) -> None:
    """Delete a document of an algorithm, and what `drops` (statements with `$1`, the id) name.

    Where there was nothing and a tombstone stands already, that one is kept.
    """
    row = await conn.fetchrow(LOCKED, doc_id)
    if row is None:
        if tombstone is None:
            return
        row = await lock_row(conn, doc_id)
    require_algorithm(doc_id, row["algorithm"], algorithm)
    is_there = row["algorithm"] is not None
    if is_there:
        await conn.execute("INSERT INTO garbage (life) VALUES ($1)", row["life"])
        for statement in drops:
            await conn.execute(statement, doc_id)
        await conn.execute(
            "UPDATE docs SET life = next_life(), algorithm = NULL, rev = 0, head_id = NULL, "
            "head_at = 0, size_bound = 0, depth_bound = 0, pruned = 0, floor = 0, ids_floor = 0, "
            "snapshot_rev = NULL WHERE doc_id = $1",
            doc_id,
        )
    if tombstone is not None and (is_there or row["deleted_at"] is None):
        kept = replace(tombstone, last_rev=row["rev"])
        by = kept.deleted_by_client_id
        await conn.execute(
            "UPDATE docs SET deleted_at = $2, deleted_rev = $3, deleted_by = $4 WHERE doc_id = $1",
            doc_id,
            kept.deleted_at,
            kept.last_rev,
            None if by is None else to_key(by),
        )

"""What processes that share a database ask it about each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from patches_server.documents.backend import DocAt
from patches_server.documents.history import token_of
from patches_server.stores.postgres.database import Connection, PostgresDatabase, Record
from patches_server.stores.postgres.documents import split_token

_AT_ONCE: Final = 5_000
#: Epoch and life of 0 and '' stand for a document that does not exist.
_MOVED: Final = """
SELECT w.doc_id, m.epoch, d.life, d.algorithm, d.rev, d.deleted_at
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bool[])
    AS w(doc_id, epoch, life, rev, is_deleted)
CROSS JOIN meta m LEFT JOIN docs d ON d.doc_id = w.doc_id
WHERE (CASE WHEN d.algorithm IS NULL THEN 0 ELSE d.rev END) <> w.rev
    OR (CASE WHEN d.algorithm IS NULL THEN 0 ELSE d.life END) <> w.life
    OR (w.life <> 0 AND w.epoch <> m.epoch)
    OR (d.deleted_at IS NOT NULL) <> w.is_deleted"""
_REVOCATIONS: Final = (
    "SELECT id, principal, doc_id FROM revocations "
    "WHERE at > now() - make_interval(secs => $1) ORDER BY id"
)
#: The floor says up to which revision ids are forgotten.
_FORGET_IDS: Final = """
WITH gone AS (
    DELETE FROM lww_change_ids i USING (
        SELECT life, change_id FROM lww_change_ids WHERE expires_at <= $1 LIMIT $2
    ) o WHERE i.life = o.life AND i.change_id = o.change_id RETURNING i.life, i.rev
)
UPDATE docs d SET ids_floor = greatest(d.ids_floor, g.rev)
FROM (SELECT life, max(rev) AS rev FROM gone GROUP BY life) g WHERE d.life = g.life"""
#: One process at a time cleans up.
_JANITOR: Final = "SELECT pg_try_advisory_xact_lock(7310577)"
_ROWS: Final = 5_000
_KEYS: Final = {
    "ot_changes": "rev",
    "ot_change_ids": "change_id",
    "lww_rows": "key",
    "lww_change_ids": "change_id",
    "lww_snapshots": "life",
}


class PostgresSharing:
    """The part of a `SharedBackend` that is about other processes."""

    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def moved(self, known: Mapping[str, DocAt]) -> dict[str, DocAt]:
        """Those documents that stand elsewhere than is known, and where."""
        found: dict[str, DocAt] = {}
        left = iter(known.items())
        while part := list(islice(left, _AT_ONCE)):
            tokens = [split_token(at.token) for _, at in part]
            columns = (
                [doc_id for doc_id, _ in part],
                [epoch or "" for epoch, _ in tokens],
                [life or 0 for _, life in tokens],
                [at.rev for _, at in part],
                [at.is_deleted for _, at in part],
            )
            rows = await self._database.read(partial(_fetch_moved, columns=columns))
            found.update((row["doc_id"], _doc_at(row)) for row in rows)
        return found

    async def add_revocation(self, principal: str | int | None, doc_id: str | None) -> None:
        """Let every process know, with its next poll, that rights have changed."""
        stored = None if principal is None else f"{type(principal).__name__}:{principal}"
        await self._database.write(
            lambda conn: conn.execute(
                "INSERT INTO revocations (principal, doc_id) VALUES ($1, $2)", stored, doc_id
            )
        )

    async def revocations(
        self, within_s: float
    ) -> Sequence[tuple[int, str | int | None, str | None]]:
        """Those of the last seconds: `(id, principal, doc_id)`."""
        rows = await self._database.read(lambda conn: conn.fetch(_REVOCATIONS, float(within_s)))
        return [(row["id"], _principal(row["principal"]), row["doc_id"]) for row in rows]

    async def clean_up(self, now: int) -> int:
        """Remove rows of deleted documents, expired ids and old revocations, some of each."""

        async def write(conn: Connection) -> int:
            if not await conn.fetchval(_JANITOR):
                return 0
            count = await _remove_garbage(conn)
            count += _count(await conn.execute(_FORGET_IDS, now, _ROWS))
            await conn.execute("DELETE FROM revocations WHERE at < now() - interval '1 hour'")
            return count

        return await self._database.write(write)


async def _fetch_moved(conn: Connection, columns: Sequence[list[Any]]) -> list[Record]:
    return await conn.fetch(_MOVED, *columns)


async def _remove_garbage(conn: Connection) -> int:
    life = await conn.fetchval("SELECT life FROM garbage ORDER BY at LIMIT 1")
    if life is None:
        return 0
    for table, key in _KEYS.items():
        count = _count(
            await conn.execute(
                f"DELETE FROM {table} WHERE life = $1 AND {key} IN "  # noqa: S608 -- the names above
                f"(SELECT {key} FROM {table} WHERE life = $1 LIMIT $2)",
                life,
                _ROWS,
            )
        )
        if count:
            return count
    await conn.execute("DELETE FROM garbage WHERE life = $1", life)
    return 1


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])


def _doc_at(row: Record) -> DocAt:
    is_deleted = row["deleted_at"] is not None
    if row["algorithm"] is None:
        return DocAt(is_deleted=is_deleted)
    return DocAt(token_of(row["epoch"], row["life"]), row["rev"], is_deleted)


def _principal(stored: str | None) -> str | int | None:
    if stored is None:
        return None
    kind, _, value = stored.partition(":")
    return int(value) if kind == "int" else value

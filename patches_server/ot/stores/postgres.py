"""`OTPostgresServerStore`: OT documents in PostgreSQL, shared by server processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from patches.errors import CorruptDataError, PatchesError, RevConflictError
from patches.model.change import Change
from patches.runtime import Millis
from patches.stores.sqlite.keys import from_key
from patches_server.documents.measure import Bounds
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import require_algorithm
from patches_server.ot.rows import ALGORITHM, within
from patches_server.ot.store import DocHead, StoredSnapshot
from patches_server.ot.stores.postgres_saves import (
    Append,
    append,
    follows,
    head_of,
    is_sound,
    is_stored,
    joined,
    refusal_of,
)
from patches_server.stores.checksums import require_row, row_crc, unpack
from patches_server.stores.postgres.backend import PostgresBackend
from patches_server.stores.postgres.branches import PostgresBranches
from patches_server.stores.postgres.database import BoundDatabase, Connection, Record
from patches_server.stores.postgres.documents import (
    HEAD,
    LOCKED,
    PostgresDocuments,
    delete,
    lock_row,
    require_not_deleted,
)
from patches_server.stores.postgres.groups import SaveGroups
from patches_server.stores.postgres.versions import (
    DELETE_VERSIONS,
    PostgresVersions,
    newest_main,
    version_of,
)

_CHANGE: Final = (
    "c.rev, c.prev, c.change_id, c.created_at, c.batch_id, c.client_id, c.crc, c.change"
)
_HEAD: Final = (
    "h.epoch, h.life, h.algorithm, h.rev AS head_rev, h.head_id, h.head_at, h.size_bound, "
    "h.depth_bound, h.pruned, h.deleted_at, h.deleted_rev, h.deleted_by"
)
#: The head, and beside it each change between two revisions: one statement, so one moment.
_LIST: Final = f"""
SELECT {_HEAD}, {_CHANGE} FROM {HEAD} LEFT JOIN LATERAL (
    SELECT * FROM ot_changes x WHERE x.life = h.life AND h.algorithm = 'ot'
        AND x.rev > $2 AND x.rev < $3 ORDER BY x.rev LIMIT $4
) c ON true ORDER BY c.rev"""  # noqa: S608 -- fixed text
_END: Final = 2**62


class OTPostgresServerStore(PostgresDocuments):
    """An `OTServerStore` over a database that it shares. Each row has a checksum."""

    saves_in_order = True
    is_exclusive = True

    def __init__(self, backend: PostgresBackend, *, database: BoundDatabase | None = None) -> None:
        super().__init__(database or backend.database)
        self._backend = backend
        self.versions: PostgresVersions = backend.versions
        self.branches: PostgresBranches = backend.branches
        self._saves = SaveGroups[Append](
            self._save_chains,
            writers=self._database.writers,
            follows=follows,
            size_of=lambda save: save.size,
        )

    async def get_head(self, doc_id: str) -> DocHead:
        row = await self._database.read(
            lambda conn: conn.fetchrow(f"SELECT * FROM {HEAD}", doc_id)  # noqa: S608 -- fixed text
        )
        require_not_deleted(doc_id, row)
        assert row is not None, "there is a row of meta"
        require_algorithm(doc_id, row["algorithm"], ALGORITHM)
        return head_of(row)

    async def save_changes(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> None:
        saved = self.begin_save(doc_id, changes, expected=expected, now=now, bounds=bounds)
        await asyncio.shield(saved)

    def begin_save(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> asyncio.Future[None]:
        return self._saves.begin(doc_id, Append(doc_id, changes, expected, now, bounds))

    async def list_changes(
        self,
        doc_id: str,
        *,
        start_after: int | None = None,
        end_before: int | None = None,
        limit: int | None = None,
        max_bytes: int | None = None,
    ) -> list[Change]:
        low = -1 if start_after is None else start_after
        high = _END if end_before is None else end_before
        most = None if limit is None else max(0, limit)
        rows = await self._database.read(lambda conn: conn.fetch(_LIST, doc_id, low, high, most))
        is_whole = most is None or len(rows) < most
        return within(_changes(doc_id, rows, low, high, is_whole=is_whole), max_bytes)

    async def load_snapshot(self, doc_id: str, *, rev: int | None = None) -> StoredSnapshot:
        async def read(conn: Connection) -> tuple[Record | None, list[Record], int]:
            # One transaction and one moment: a version must not be of another life.
            async with conn.transaction():
                await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                row = await conn.fetchrow(f"SELECT * FROM {HEAD}", doc_id)  # noqa: S608 -- fixed text
                require_not_deleted(doc_id, row)
                head = head_of(row).rev
                through = head if rev is None else min(rev, head)
                found = await newest_main(conn, doc_id, through)
                start = 0 if found is None else found["end_rev"]
                rows = await conn.fetch(_LIST, doc_id, start, through + 1, None)
                return found, rows, start

        found, rows, start = await self._database.read(read)
        changes = _changes(doc_id, rows, start, _END if rev is None else rev + 1, is_whole=True)
        if found is None:
            return StoredSnapshot(version=None, state=None, changes=changes)
        state = unpack(doc_id, found["state"]) if found["state"] else None
        return StoredSnapshot(version=version_of(doc_id, found), state=state, changes=changes)

    async def prune_changes(self, doc_id: str, *, through_rev: int) -> None:
        async def write(conn: Connection) -> None:
            row = await conn.fetchrow(LOCKED, doc_id)
            require_not_deleted(doc_id, row)
            if row is None or row["algorithm"] != ALGORITHM:
                return
            last = await conn.fetchval(
                "SELECT max(rev) FROM ot_changes WHERE life = $1 AND rev <= $2",
                row["life"],
                through_rev,
            )
            if last is not None:
                await conn.execute(
                    "DELETE FROM ot_changes WHERE life = $1 AND rev <= $2", row["life"], last
                )
                await conn.execute("UPDATE docs SET pruned = $2 WHERE doc_id = $1", doc_id, last)

        await self._database.write(write)

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        await self._database.write(
            lambda conn: delete(conn, doc_id, ALGORITHM, tombstone, drops=[DELETE_VERSIONS])
        )

    @asynccontextmanager
    async def exclusively(self, doc_id: str) -> AsyncIterator[OTPostgresServerStore]:
        """See `patches_server.documents.backend.StoreExclusively`: the document's row is locked."""
        async with self._backend.database.transaction() as bound:
            await lock_row(bound.conn, doc_id)
            yield OTPostgresServerStore(self._backend, database=bound)

    async def close(self) -> None:
        """Finish what is being saved."""
        await self._saves.close()

    # Saving.

    async def _save_chains(self, chains: list[list[Append]]) -> list[list[Exception | None]]:
        outcomes: list[list[Exception | None]] = [[] for _ in chains]
        whole = [joined(chain) for chain in chains]
        places = [place for place, save in enumerate(whole) if save.expected.rev and is_sound(save)]
        saved: set[int] = set()
        if places:
            saved = await self._append_group([whole[place] for place in places], places)
        for place, chain in enumerate(chains):
            if place in saved:
                outcomes[place] = [None] * len(chain)
            else:
                outcomes[place] = await self._save_alone(chain)
        return outcomes

    async def _append_group(self, saves: list[Append], places: list[int]) -> set[int]:
        try:
            stored = await self._append(saves)
        except PatchesError:  # a key that is taken, or the database is away: each is tried alone
            return set()
        return {places[place] for place in stored}

    async def _save_alone(self, chain: Sequence[Append]) -> list[Exception | None]:
        outcome: list[Exception | None] = []
        for save in chain:
            if outcome and outcome[-1] is not None:
                outcome.append(RevConflictError())  # it was decided upon the one before
                continue
            try:
                stored = await self._append([save]) if is_sound(save) else set()
                refused: PatchesError | None = None
                if not stored:
                    refused = await self._database.read(partial(refusal_of, save=save))
            except PatchesError as exc:
                refused = exc
            outcome.append(refused)
        return outcome

    async def _append(self, saves: list[Append]) -> set[int]:
        async def run(conn: Connection, may_have_run: bool) -> set[int]:
            stored = await append(conn, saves)
            if may_have_run:
                # Of two equal statements one takes effect: what is there, was saved by this one.
                for place, save in enumerate(saves):
                    if place not in stored and await is_stored(conn, save):
                        stored.add(place)
            return stored

        return await self._database.save(run)


def _changes(
    doc_id: str, rows: Sequence[Record], low: int, high: int, *, is_whole: bool
) -> list[Change]:
    """The changes in rows of `_LIST`. Raises `DocDeletedError`, and `CorruptDataError` for holes.

    Each change names the revision before it; at the end stands the head. `is_whole`: the rows are
    all there are between the two revisions.
    """
    require_not_deleted(doc_id, rows[0])
    require_algorithm(doc_id, rows[0]["algorithm"], ALGORITHM)
    head_rev = rows[0]["head_rev"] or 0
    before: int | None = None
    changes = []
    for row in rows:
        if row["rev"] is None:
            break
        columns = tuple(row)[12:18]
        data: bytes = row["change"]
        is_sound_row = row_crc(doc_id, *columns, data) == row["crc"]
        require_row(is_sound_row, f"document {doc_id!r}: revision {row['rev']}")
        expected = max(rows[0]["pruned"], low) if before is None else before
        if row["prev"] > expected or (before is not None and row["prev"] != before):
            raise _hole(doc_id, expected, row["prev"])
        before = row["rev"]
        changes.append(_change(row, data))
    if is_whole and high > head_rev and rows[0]["algorithm"] == ALGORITHM:
        end = max(rows[0]["pruned"], low) if before is None else before
        if end < head_rev:
            raise _hole(doc_id, end, head_rev)
    return changes


def _hole(doc_id: str, before: int, after: int) -> CorruptDataError:
    return CorruptDataError(
        f"document {doc_id!r}: changes between revisions {before} and {after} are missing"
    )


def _change(row: Record, data: bytes) -> Change:
    batch, client = row["batch_id"], row["client_id"]
    return Change.from_encoded(
        data,
        rev=row["rev"],
        id=from_key(row["change_id"]),
        created_at=row["created_at"],
        batch_id=None if batch is None else from_key(batch),
        client_id=None if client is None else from_key(client),
    )

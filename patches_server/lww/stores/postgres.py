"""`LWWPostgresServerStore`: LWW documents in PostgreSQL, shared by server processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from patches.errors import CorruptDataError, PatchesError, RevConflictError
from patches.runtime import Millis, Runtime
from patches.stores.sqlite.keys import from_key, to_key
from patches_server.documents.branch_store import BranchStore
from patches_server.documents.kept_bytes import KeptBytes
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import require_algorithm
from patches_server.documents.version_store import VersionStore
from patches_server.lww.rows import Row
from patches_server.lww.store import LoadedRows, SavedSnapshot
from patches_server.lww.stores.postgres_rows import (
    CREATE,
    LOAD_ALL,
    LOAD_NEAR,
    PUT,
    SAVE,
    Save,
    arguments,
    columns_of,
    keys_above,
    ranges_below,
    rows_in,
    written,
)
from patches_server.stores.checksums import pack, unpack
from patches_server.stores.postgres.backend import PostgresBackend
from patches_server.stores.postgres.database import BoundDatabase, Connection, Record
from patches_server.stores.postgres.documents import (
    HEAD,
    LOCKED,
    PostgresDocuments,
    delete,
    lock_row,
    lock_writable,
    require_not_deleted,
    token_in,
)
from patches_server.stores.postgres.groups import SaveGroups

_NAME: Final = "lww"
_NEVER: Final = 2**62
_PUT_SNAPSHOT: Final = (
    "INSERT INTO lww_snapshots (life, rev, state) VALUES ($1, $2, $3) "
    "ON CONFLICT (life) DO UPDATE SET rev = excluded.rev, state = excluded.state"
)
#: Who made a revision: the head, its id, up to which revision ids are forgotten, the id asked for.
_MADE_BY: Final = """
SELECT d.rev, d.head_id, i.rev AS made, greatest(d.ids_floor, (
    SELECT max(e.rev) FROM lww_change_ids e WHERE e.life = d.life AND e.expires_at <= d.server_time
)) AS floor
FROM docs d LEFT JOIN lww_change_ids i
    ON i.life = d.life AND i.change_id = $2 AND i.expires_at > d.server_time
WHERE d.doc_id = $1 AND d.algorithm = 'lww'"""


class LWWPostgresServerStore(PostgresDocuments):
    """An `LWWServerStore` over a database that it shares. Each row has a checksum."""

    versions: VersionStore | None
    branches: BranchStore | None
    keeps_change_ids = True
    is_exclusive = True

    def __init__(
        self,
        backend: PostgresBackend,
        *,
        runtime: Runtime,
        database: BoundDatabase | None = None,
    ) -> None:
        super().__init__(database or backend.database)
        self._backend = backend
        self.versions = backend.versions
        self.branches = backend.branches
        self._runtime = runtime
        self._snapshots = KeptBytes[tuple[int, SavedSnapshot]]()
        self._saves = SaveGroups[Save](
            self._save_chains,
            writers=self._database.writers,
            follows=lambda _before, _save: False,
            size_of=lambda save: save.size,
        )

    async def load_rows(
        self,
        doc_id: str,
        *,
        now: Millis,
        paths: Sequence[str] | None = None,
        since_rev: int | None = None,
        change_ids: Sequence[str] = (),
    ) -> LoadedRows:
        ids = [to_key(change_id) for change_id in change_ids]
        near: list[object] = []
        if paths is not None or since_rev is not None:
            since = _NEVER if since_rev is None else since_rev
            near = [keys_above(paths or ()), *ranges_below(paths or ()), since]

        async def read(conn: Connection) -> tuple[list[Record], SavedSnapshot | None]:
            for _ in range(3):  # a snapshot may be replaced between the two statements
                rows = await conn.fetch(LOAD_NEAR if near else LOAD_ALL, doc_id, ids, now, *near)
                require_not_deleted(doc_id, rows[0])
                if rows[0]["algorithm"] != _NAME or rows[0]["snapshot_rev"] is None:
                    return rows, None
                snapshot = await self._snapshot(conn, doc_id, rows[0])
                if snapshot is not None:
                    return rows, snapshot
            raise CorruptDataError(f"the snapshot of document {doc_id!r} is missing")

        rows, snapshot = await self._database.read(read)
        head = rows[0]
        require_algorithm(doc_id, head["algorithm"], _NAME)
        if head["algorithm"] is None:
            return LoadedRows()
        return LoadedRows(
            rev=head["head_rev"],
            rows=rows_in(doc_id, rows),
            floor=head["floor"],
            snapshot=snapshot,
            seen=frozenset(from_key(key) for key in head["seen"]),
            head_id=None if head["head_id"] is None else from_key(head["head_id"]),
            token=token_in(head),
        )

    async def save_rows(
        self,
        doc_id: str,
        rows: Sequence[Row],
        *,
        expected_rev: int,
        now: Millis,
        hide: Sequence[str] = (),
        change_ids: Sequence[str] = (),
        expires_at: Millis = 0,
        head_id: str | None = None,
        token: str | None = None,
    ) -> None:
        save = Save(doc_id, rows, expected_rev, now, hide, change_ids, expires_at, head_id, token)
        await asyncio.shield(self._saves.begin(doc_id, save))

    async def made_by(self, doc_id: str, rev: int, change_id: str) -> bool | None:
        key = to_key(change_id)
        found = await self._database.read(lambda conn: conn.fetchrow(_MADE_BY, doc_id, key))
        if found is None:
            return False
        if rev == found["rev"] and found["head_id"] == key:
            return True
        if found["made"] is not None:
            return bool(found["made"] == rev)
        return None if rev <= found["floor"] else False

    async def get_current_rev(self, doc_id: str) -> int:
        rev: int | None = await self._database.read(
            lambda conn: conn.fetchval(
                "SELECT rev FROM docs WHERE doc_id = $1 AND algorithm = 'lww'", doc_id
            )
        )
        return rev or 0

    async def seed(self, doc_id: str, state: bytes, rows: Sequence[Row], *, now: Millis) -> None:
        packed = await self._runtime.run_blocking(lambda: pack(state))
        left = list(written(rows).values())

        async def write(conn: Connection) -> None:
            row = await lock_writable(conn, doc_id, _NAME)
            if row["rev"]:
                raise RevConflictError
            await conn.execute(_PUT_SNAPSHOT, row["life"], 0, packed)
            rev = 1 if left else 0
            await conn.execute(
                "UPDATE docs SET algorithm = 'lww', rev = $2, ids_floor = $2, snapshot_rev = 0, "
                "server_time = greatest(server_time, $3) WHERE doc_id = $1",
                doc_id,
                rev,
                now,
            )
            if left:
                await conn.execute(PUT, row["life"], *columns_of(doc_id, left, now))

        await self._database.write(write)

    async def save_snapshot(self, doc_id: str, state: bytes, rev: int, *, now: Millis) -> None:
        packed = await self._runtime.run_blocking(lambda: pack(state))

        async def write(conn: Connection) -> None:
            row = await lock_writable(conn, doc_id, _NAME)
            await conn.execute(
                "DELETE FROM lww_rows WHERE life = $1 AND rev <= $2", row["life"], rev
            )
            await conn.execute(_PUT_SNAPSHOT, row["life"], rev, packed)
            await conn.execute(
                "UPDATE docs SET algorithm = 'lww', snapshot_rev = $2, "
                "server_time = greatest(server_time, $3) WHERE doc_id = $1",
                doc_id,
                rev,
                now,
            )

        await self._database.write(write)

    async def drop_removals(self, doc_id: str, *, stored_before: Millis, limit: int) -> int:
        async def write(conn: Connection) -> int:
            row = await conn.fetchrow(LOCKED, doc_id)
            if row is None or row["algorithm"] != _NAME:
                return 0
            gone = await conn.fetch(
                "DELETE FROM lww_rows r USING (SELECT life, key FROM lww_rows WHERE life = $1 "
                "AND droppable AND stored_at < $2 ORDER BY stored_at LIMIT $3) o "
                "WHERE r.life = o.life AND r.key = o.key RETURNING r.rev",
                row["life"],
                stored_before,
                limit,
            )
            if gone:
                floor = max(each["rev"] for each in gone)
                await conn.execute(
                    "UPDATE docs SET floor = greatest(floor, $2) WHERE doc_id = $1", doc_id, floor
                )
            return len(gone)

        return await self._database.write(write)

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        self._snapshots.forget(doc_id)
        await self._database.write(lambda conn: delete(conn, doc_id, _NAME, tombstone))

    @asynccontextmanager
    async def exclusively(self, doc_id: str) -> AsyncIterator[LWWPostgresServerStore]:
        """See `patches_server.documents.backend.StoreExclusively`: the document's row is locked."""
        async with self._backend.database.transaction() as bound:
            await lock_row(bound.conn, doc_id)
            yield LWWPostgresServerStore(self._backend, runtime=self._runtime, database=bound)

    async def close(self) -> None:
        """Finish what is being saved."""
        await self._saves.close()

    async def _snapshot(self, conn: Connection, doc_id: str, head: Record) -> SavedSnapshot | None:
        kept = self._snapshots.get(doc_id)
        if kept is not None and (kept[0], kept[1].rev) == (head["life"], head["snapshot_rev"]):
            return kept[1]
        packed = await conn.fetchval(
            "SELECT state FROM lww_snapshots WHERE life = $1 AND rev = $2",
            head["life"],
            head["snapshot_rev"],
        )
        if packed is None:
            return None
        snapshot = SavedSnapshot(rev=head["snapshot_rev"], state=unpack(doc_id, packed))
        self._snapshots.put(doc_id, (head["life"], snapshot), len(snapshot.state))
        return snapshot

    # Saving.

    async def _save_chains(self, chains: list[list[Save]]) -> list[list[Exception | None]]:
        saves = [save for (save,) in chains]  # no save of LWW is decided upon another
        together = [save for save in saves if save.expected_rev]
        stored: set[str] = set()
        if together:
            try:
                stored = await self._write(together)
            except PatchesError:  # each is tried alone
                pass
        return [[None if save.doc_id in stored else await self._save_alone(save)] for save in saves]

    async def _save_alone(self, save: Save) -> Exception | None:
        try:
            if await self._write([save]):
                return None
            return await self._database.read(partial(_refusal_of, save=save))
        except PatchesError as exc:
            return exc

    async def _write(self, saves: list[Save]) -> set[str]:
        async def run(conn: Connection, may_have_run: bool) -> set[str]:
            sql = SAVE if saves[0].expected_rev else CREATE
            rows = await conn.fetch(sql, *arguments(saves))
            stored = {saves[row["n"] - 1].doc_id for row in rows}
            if may_have_run:
                for save in saves:
                    if save.doc_id not in stored and await _is_stored(conn, save):
                        stored.add(save.doc_id)
            return stored

        return await self._database.save(run)


async def _refusal_of(conn: Connection, save: Save) -> PatchesError:
    """Why a save took no effect, as the stores say it."""
    row = await conn.fetchrow(f"SELECT * FROM {HEAD}", save.doc_id)  # noqa: S608 -- fixed text
    try:
        require_not_deleted(save.doc_id, row)
        assert row is not None, "there is a row of meta"
        require_algorithm(save.doc_id, row["algorithm"], _NAME)
    except PatchesError as exc:
        return exc
    return RevConflictError()


async def _is_stored(conn: Connection, save: Save) -> bool:
    """Whether a save that was cut off has taken effect after all: all of its ids are there."""
    keys = list(dict.fromkeys(map(to_key, save.change_ids)))
    count = await conn.fetchval(
        "SELECT count(*) FROM lww_change_ids i JOIN docs d ON d.life = i.life "
        "WHERE d.doc_id = $1 AND i.rev = $2 AND i.change_id = ANY ($3)",
        save.doc_id,
        save.expected_rev + 1,
        keys,
    )
    return bool(keys) and count == len(keys)

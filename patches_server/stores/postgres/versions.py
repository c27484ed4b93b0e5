"""`PostgresVersions`: versions in PostgreSQL, their states compressed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from patches.model import codec
from patches.model.json_values import Json
from patches.runtime import Runtime
from patches.stores.sqlite.keys import from_key, to_key
from patches_server.documents.records import ListVersionsOptions, Version
from patches_server.documents.version_store import ORDERS
from patches_server.stores.checksums import pack, require_row, row_crc, unpack
from patches_server.stores.postgres.database import Connection, PostgresDatabase, Record
from patches_server.stores.postgres.documents import require_not_deleted

_RECORD: Final = "version_id, origin, group_id, start_rev, end_rev, started_at, record, crc"
_COLUMNS: Final = {"startedAt": "started_at", "endRev": "end_rev", "startRev": "start_rev"}
#: For the transaction that deletes a document whose versions go with it.
DELETE_VERSIONS: Final = "DELETE FROM versions WHERE doc_id = $1"


class PostgresVersions:
    """A `VersionStore` over a database that it shares. Keeps each state as compressed JSON text."""

    def __init__(self, database: PostgresDatabase, *, runtime: Runtime) -> None:
        self._database = database
        self._runtime = runtime

    async def create_version(self, doc_id: str, version: Version, state: bytes | None) -> None:
        packed = None
        if state is not None:
            packed = await self._runtime.run_blocking(lambda: pack(state))
        columns = (
            to_key(version.id),
            version.origin,
            None if version.group_id is None else to_key(version.group_id),
            version.start_rev,
            version.end_rev,
            float(version.started_at),
            codec.encode(version.to_wire()),
        )

        async def write(conn: Connection) -> None:
            # The lock lets no deletion come between the test and the row.
            row = await conn.fetchrow("SELECT * FROM docs WHERE doc_id = $1 FOR SHARE", doc_id)
            require_not_deleted(doc_id, row)
            await conn.execute(
                "INSERT INTO versions (doc_id, version_id, origin, group_id, start_rev, end_rev, "
                "started_at, record, crc, state) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
                "ON CONFLICT DO NOTHING",
                doc_id,
                *columns,
                row_crc(doc_id, *columns),
                packed,
            )

        await self._database.write(write)

    async def list_versions(
        self, doc_id: str, options: ListVersionsOptions | None = None
    ) -> list[Version]:
        sql, values = _list_query(doc_id, options or ListVersionsOptions())
        rows = await self._database.read(lambda conn: conn.fetch(sql, *values))
        return [version_of(doc_id, row) for row in rows]

    async def load_version(self, doc_id: str, version_id: str) -> Version | None:
        row = await self._load(_RECORD, doc_id, version_id)
        return None if row is None else version_of(doc_id, row)

    async def load_version_state(self, doc_id: str, version_id: str) -> bytes | None:
        row = await self._load("state", doc_id, version_id)
        if row is None or row[0] is None:
            return None
        return await self._runtime.run_blocking(lambda: unpack(doc_id, row[0]))

    async def update_version(
        self, doc_id: str, version_id: str, metadata: Mapping[str, Json]
    ) -> None:
        async def write(conn: Connection) -> None:
            key = to_key(version_id)
            row = await conn.fetchrow(
                f"SELECT {_RECORD} FROM versions "  # noqa: S608 -- fixed names
                "WHERE doc_id = $1 AND version_id = $2 FOR UPDATE",
                doc_id,
                key,
            )
            if row is None:
                return
            version_of(doc_id, row)  # raises if it is damaged
            *columns, old, _ = row
            record = codec.encode({**codec.decode(old), **metadata})
            await conn.execute(
                "UPDATE versions SET record = $3, crc = $4 WHERE doc_id = $1 AND version_id = $2",
                doc_id,
                key,
                record,
                row_crc(doc_id, *columns, record),
            )

        await self._database.write(write)

    async def _load(self, columns: str, doc_id: str, version_id: str) -> Record | None:
        sql = f"SELECT {columns} FROM versions WHERE doc_id = $1 AND version_id = $2"  # noqa: S608 -- the names above
        return await self._database.read(
            lambda conn: conn.fetchrow(sql, doc_id, to_key(version_id))
        )


async def newest_main(conn: Connection, doc_id: str, through_rev: int) -> Record | None:
    """The newest main version that ends at or before a revision: its record, and `state`."""
    return await conn.fetchrow(
        f"SELECT {_RECORD}, state FROM versions WHERE doc_id = $1 AND origin = 'main' "  # noqa: S608 -- fixed names
        "AND end_rev <= $2 ORDER BY end_rev DESC, seq DESC LIMIT 1",
        doc_id,
        through_rev,
    )


def version_of(doc_id: str, row: Record) -> Version:
    """The version of a row. Raises `CorruptDataError`."""
    columns = tuple(row)[:7]
    what = f"document {doc_id!r}: the record of version {from_key(row['version_id'])!r}"
    require_row(row_crc(doc_id, *columns) == row["crc"], what)
    return Version.from_wire(codec.decode(row["record"]))


def _list_query(doc_id: str, options: ListVersionsOptions) -> tuple[str, list[Any]]:
    order_by = options.order_by or "endRev"
    assert order_by in ORDERS
    column = _COLUMNS[order_by]
    direction, after, before = ("DESC", "<", ">") if options.reverse else ("ASC", ">", "<")
    group = None if options.group_id is None else to_key(options.group_id)
    after_value = None if options.start_after is None else float(options.start_after)
    before_value = None if options.end_before is None else float(options.end_before)
    tests, values = ["doc_id = $1"], [doc_id]
    for test, value in (
        ("origin = $", options.origin),
        ("group_id = $", group),
        (f"{column} {after} $", after_value),
        (f"{column} {before} $", before_value),
    ):
        if value is not None:
            values.append(value)  # type: ignore[arg-type]  # numbers and keys beside strings
            cast = "::float8" if isinstance(value, float) else ""
            tests.append(f"{test}{len(values)}{cast}")
    limit = "" if options.limit is None else f" LIMIT {max(0, int(options.limit))}"
    sql = (
        f"SELECT {_RECORD} FROM versions WHERE {' AND '.join(tests)} "  # noqa: S608 -- fixed names, bound values
        f"ORDER BY {column} {direction}, seq {direction}{limit}"
    )
    return sql, values

"""`SqliteVersions`: versions in a SQLite file, their states compressed."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from patches.model import codec
from patches.model.json_values import Json
from patches.runtime import Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.file_kind import Schema
from patches_server.documents.records import ListVersionsOptions, Version
from patches_server.documents.version_store import ORDERS
from patches_server.stores.checksums import pack as pack
from patches_server.stores.checksums import unpack as unpack
from patches_server.stores.sqlite.checksums import (
    NO_ROWS,
    Sums,
    change_sums,
    load_sums,
    put_sums,
    require_row,
    require_rows,
    row_crc,
)
from patches_server.stores.sqlite.documents import check_not_deleted

_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS server_versions (
    seq INTEGER PRIMARY KEY, doc_id TEXT NOT NULL, version_id TEXT NOT NULL,
    origin TEXT NOT NULL, group_id TEXT, start_rev INTEGER NOT NULL, end_rev INTEGER NOT NULL,
    started_at NOT NULL, record BLOB NOT NULL, crc INTEGER NOT NULL, state BLOB,
    UNIQUE (doc_id, version_id)
);
CREATE INDEX IF NOT EXISTS server_versions_by_rev ON server_versions (doc_id, end_rev, seq);
"""


#: The name of the sums, and the columns of a record, the checksum last.
VERSIONS: Final = "versions"
RECORD: Final = "version_id, origin, group_id, start_rev, end_rev, started_at, record, crc"


def _to_version_2(conn: sqlite3.Connection) -> None:
    """Give records checksums, and count them."""
    conn.execute("ALTER TABLE server_versions ADD COLUMN crc INTEGER NOT NULL DEFAULT 0")
    sums: dict[str, Sums] = {}
    columns = "doc_id, version_id, origin, group_id, start_rev, end_rev, started_at, record"
    for seq, *row in conn.execute(f"SELECT seq, {columns} FROM server_versions").fetchall():  # noqa: S608 -- fixed names
        crc = row_crc(*row)
        conn.execute("UPDATE server_versions SET crc = ? WHERE seq = ?", (crc, seq))
        sums[row[0]] = sums.get(row[0], NO_ROWS).plus([crc])
    for doc_id, each in sums.items():
        put_sums(conn, VERSIONS, doc_id, each)


VERSIONS_SCHEMA: Final = Schema(
    name="versions",
    version=2,
    script=_SCRIPT,
    known_by=frozenset({"server_versions"}),
    migrations={1: _to_version_2},
)


class SqliteVersions:
    """A `VersionStore` over a database that it shares. Keeps each state as compressed JSON text."""

    def __init__(self, database: SqliteDatabase, *, runtime: Runtime | None = None) -> None:
        self._database = database
        self._runtime = runtime or Runtime()
        database.add_schema(VERSIONS_SCHEMA)

    async def create_version(self, doc_id: str, version: Version, state: bytes | None) -> None:
        packed = None
        if state is not None:  # before the transaction, which others wait for
            packed = await self._runtime.run_blocking(lambda: pack(state))

        columns = (
            doc_id,
            version.id,
            version.origin,
            version.group_id,
            version.start_rev,
            version.end_rev,
            version.started_at,
            codec.encode(version.to_wire()),
        )
        crc = row_crc(*columns)

        def write(conn: sqlite3.Connection) -> None:
            check_not_deleted(conn, doc_id)
            is_new = conn.execute(
                "INSERT INTO server_versions (doc_id, version_id, origin, group_id, start_rev, "
                "end_rev, started_at, record, crc, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (*columns, crc, packed),
            ).rowcount
            if is_new:
                change_sums(conn, VERSIONS, doc_id, gone=(), new=[crc])

        await self._database.write(write)

    async def list_versions(
        self, doc_id: str, options: ListVersionsOptions | None = None
    ) -> list[Version]:
        sql, values = _list_query(doc_id, options or ListVersionsOptions())

        def read(conn: sqlite3.Connection) -> list[Version]:
            found = counted(conn, doc_id)
            require_rows(load_sums(conn, VERSIONS, doc_id), found, f"versions of {doc_id!r}")
            return [_version(doc_id, row) for row in conn.execute(sql, values)]

        return await self._database.read(read)

    async def load_version(self, doc_id: str, version_id: str) -> Version | None:
        row = await self._load(RECORD, doc_id, version_id)
        return None if row is None else _version(doc_id, row)

    async def load_version_state(self, doc_id: str, version_id: str) -> bytes | None:
        row = await self._load("state", doc_id, version_id)
        if row is None or row[0] is None:
            return None
        packed = row[0]
        return await self._runtime.run_blocking(lambda: unpack(doc_id, packed))

    async def update_version(
        self, doc_id: str, version_id: str, metadata: Mapping[str, Json]
    ) -> None:
        def write(conn: sqlite3.Connection) -> None:
            row = conn.execute(
                f"SELECT {RECORD} FROM server_versions WHERE doc_id = ? AND version_id = ?",  # noqa: S608 -- fixed names
                (doc_id, version_id),
            ).fetchone()
            if row is not None:
                *columns, old, crc = row
                require_version(doc_id, row)
                record = codec.encode({**codec.decode(old), **metadata})
                new = row_crc(doc_id, *columns, record)
                conn.execute(
                    "UPDATE server_versions SET record = ?, crc = ? "
                    "WHERE doc_id = ? AND version_id = ?",
                    (record, new, doc_id, version_id),
                )
                change_sums(conn, VERSIONS, doc_id, gone=[crc], new=[new])

        await self._database.write(write)

    async def _load(self, columns: str, doc_id: str, version_id: str) -> tuple[Any, ...] | None:
        sql = f"SELECT {columns} FROM server_versions WHERE doc_id = ? AND version_id = ?"  # noqa: S608 -- the names above
        return await self._database.read(
            lambda conn: conn.execute(sql, (doc_id, version_id)).fetchone()
        )


def newest_main(
    conn: sqlite3.Connection, doc_id: str, *, through_rev: int
) -> tuple[Version, bytes | None] | None:
    """The newest main version that ends at or before a revision, and its state."""
    row = conn.execute(
        f"SELECT {RECORD}, state FROM server_versions WHERE doc_id = ? AND origin = 'main' "  # noqa: S608 -- fixed names
        "AND end_rev <= ? ORDER BY end_rev DESC, seq DESC LIMIT 1",
        (doc_id, through_rev),
    ).fetchone()
    if row is None:
        return None
    return _version(doc_id, row[:-1]), unpack(doc_id, row[-1]) if row[-1] else None


def delete_versions(conn: sqlite3.Connection, doc_id: str) -> None:
    """Forget all versions of a document; for the transaction that deletes it."""
    conn.execute("DELETE FROM server_versions WHERE doc_id = ?", (doc_id,))
    put_sums(conn, VERSIONS, doc_id, NO_ROWS)


def counted(conn: sqlite3.Connection, doc_id: str) -> Sums:
    """A document's versions."""
    rows = conn.execute("SELECT crc FROM server_versions WHERE doc_id = ?", (doc_id,))
    return NO_ROWS.plus(crc for (crc,) in rows)


def require_version(doc_id: str, row: tuple[Any, ...]) -> None:
    """Raise `CorruptDataError` for a record without its checksum: the columns of `RECORD`."""
    is_whole = row_crc(doc_id, *row[:-1]) == row[-1]
    require_row(is_whole, f"document {doc_id!r}: the record of a version")


def _list_query(doc_id: str, options: ListVersionsOptions) -> tuple[str, list[Any]]:
    column = ORDERS[options.order_by or "endRev"]
    direction, after, before = ("DESC", "<", ">") if options.reverse else ("ASC", ">", "<")
    tests, values = ["doc_id = ?"], [doc_id]
    for test, value in (
        ("origin = ?", options.origin),
        ("group_id = ?", options.group_id),
        (f"{column} {after} ?", options.start_after),
        (f"{column} {before} ?", options.end_before),
    ):
        if value is not None:
            tests.append(test)
            values.append(value)  # type: ignore[arg-type]  # numbers beside text: SQLite's values
    sql = (
        f"SELECT {RECORD} FROM server_versions WHERE {' AND '.join(tests)} "  # noqa: S608 -- fixed names, bound values
        f"ORDER BY {column} {direction}, seq {direction} LIMIT ?"
    )
    return sql, [*values, -1 if options.limit is None else max(0, options.limit)]


def _version(doc_id: str, row: tuple[Any, ...]) -> Version:
    require_version(doc_id, row)
    return Version.from_wire(codec.decode(row[-2]))

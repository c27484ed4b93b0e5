"""`SqliteVersions`: versions in a SQLite file, their states compressed."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping
from typing import Any, Final

from patches.errors import CorruptDataError
from patches.model import codec
from patches.model.json_values import Json
from patches.runtime import Runtime
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.file_kind import Schema
from patches_server.documents.records import ListVersionsOptions, Version
from patches_server.documents.version_store import ORDERS
from patches_server.stores.sqlite.documents import check_not_deleted

_SCRIPT: Final = """
CREATE TABLE IF NOT EXISTS server_versions (
    seq INTEGER PRIMARY KEY, doc_id TEXT NOT NULL, version_id TEXT NOT NULL,
    origin TEXT NOT NULL, group_id TEXT, start_rev INTEGER NOT NULL, end_rev INTEGER NOT NULL,
    started_at NOT NULL, record BLOB NOT NULL, state BLOB,
    UNIQUE (doc_id, version_id)
);
CREATE INDEX IF NOT EXISTS server_versions_by_rev ON server_versions (doc_id, end_rev, seq);
"""
VERSIONS_SCHEMA: Final = Schema(
    name="versions", script=_SCRIPT, known_by=frozenset({"server_versions"})
)


class SqliteVersions:
    """A `VersionStore` over a database that it shares. Keeps each state as compressed JSON text."""

    def __init__(self, database: SqliteDatabase, *, runtime: Runtime | None = None) -> None:
        self._database = database
        self._runtime = runtime or Runtime()
        database.add_schema(VERSIONS_SCHEMA)

    async def create_version(self, doc_id: str, version: Version, state: bytes | None) -> None:
        now = self._runtime.wall_ms()
        packed = None
        if state is not None:  # before the transaction, which others wait for
            packed = await self._runtime.run_blocking(lambda: pack(state))

        def write(conn: sqlite3.Connection) -> None:
            check_not_deleted(conn, doc_id, now=now)
            conn.execute(
                "INSERT INTO server_versions (doc_id, version_id, origin, group_id, start_rev, "
                "end_rev, started_at, record, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (
                    doc_id,
                    version.id,
                    version.origin,
                    version.group_id,
                    version.start_rev,
                    version.end_rev,
                    version.started_at,
                    codec.encode(version.to_wire()),
                    packed,
                ),
            )

        await self._database.write(write)

    async def list_versions(
        self, doc_id: str, options: ListVersionsOptions | None = None
    ) -> list[Version]:
        sql, values = _list_query(doc_id, options or ListVersionsOptions())
        rows = await self._database.read(lambda conn: conn.execute(sql, values).fetchall())
        return [_version(row[0]) for row in rows]

    async def load_version(self, doc_id: str, version_id: str) -> Version | None:
        record = await self._load("record", doc_id, version_id)
        return None if record is None else _version(record)

    async def load_version_state(self, doc_id: str, version_id: str) -> bytes | None:
        packed = await self._load("state", doc_id, version_id)
        if packed is None:
            return None
        return await self._runtime.run_blocking(lambda: unpack(doc_id, packed))

    async def update_version(
        self, doc_id: str, version_id: str, metadata: Mapping[str, Json]
    ) -> None:
        def write(conn: sqlite3.Connection) -> None:
            row = conn.execute(
                "SELECT record FROM server_versions WHERE doc_id = ? AND version_id = ?",
                (doc_id, version_id),
            ).fetchone()
            if row is not None:
                record = codec.encode({**codec.decode(row[0]), **metadata})
                conn.execute(
                    "UPDATE server_versions SET record = ? WHERE doc_id = ? AND version_id = ?",
                    (record, doc_id, version_id),
                )

        await self._database.write(write)

    async def _load(self, column: str, doc_id: str, version_id: str) -> bytes | None:
        sql = f"SELECT {column} FROM server_versions WHERE doc_id = ? AND version_id = ?"  # noqa: S608 -- one of two names above
        row = await self._database.read(
            lambda conn: conn.execute(sql, (doc_id, version_id)).fetchone()
        )
        return row[0] if row else None


def pack(state: bytes) -> bytes:
    """A state as it is stored: compressed, and so with a checksum."""
    return zlib.compress(state, 1)


def unpack(doc_id: str, packed: bytes) -> bytes:
    """The state that was stored. Raises `CorruptDataError`."""
    try:
        return zlib.decompress(packed)
    except zlib.error as exc:
        raise CorruptDataError(f"document {doc_id!r}: a stored state is damaged") from exc


def newest_main(
    conn: sqlite3.Connection, doc_id: str, *, through_rev: int
) -> tuple[Version, bytes | None] | None:
    """The newest main version that ends at or before a revision, and its state."""
    row = conn.execute(
        "SELECT record, state FROM server_versions WHERE doc_id = ? AND origin = 'main' "
        "AND end_rev <= ? ORDER BY end_rev DESC, seq DESC LIMIT 1",
        (doc_id, through_rev),
    ).fetchone()
    if row is None:
        return None
    return _version(row[0]), unpack(doc_id, row[1]) if row[1] else None


def delete_versions(conn: sqlite3.Connection, doc_id: str) -> None:
    """Forget all versions of a document; for the transaction that deletes it."""
    conn.execute("DELETE FROM server_versions WHERE doc_id = ?", (doc_id,))


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
        f"SELECT record FROM server_versions WHERE {' AND '.join(tests)} "  # noqa: S608 -- fixed names, bound values
        f"ORDER BY {column} {direction}, seq {direction} LIMIT ?"
    )
    return sql, [*values, -1 if options.limit is None else max(0, options.limit)]


def _version(record: bytes) -> Version:
    return Version.from_wire(codec.decode(record))

"""Migrations: files `sql/NNNN_name.sql`, applied in order, each in one transaction.

A file begins with `-- expand`, or with `-- contract: usable_from=N` if it takes away what servers
below level N need. A server that knows a level starts on every database that this level can use.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final, TypeVar

import asyncpg

from patches.errors import WrongFileError
from patches_server.stores.postgres.errors import as_storage_error
from patches_server.stores.postgres.identity import IDENTITY, NEW_EPOCH

T = TypeVar("T")

#: Serializes migrations of one database.
_LOCK: Final = 0x50415443
_NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql")
_CONTRACT: Final = re.compile(r"-- contract: usable_from=(\d+)")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    level: int
    name: str
    sql: str

    @property
    def sha256(self) -> bytes:
        """The checksum that a database remembers it by."""
        return hashlib.sha256(self.sql.encode()).digest()

    @property
    def usable_from(self) -> int | None:
        """The lowest level of servers that can use the schema afterwards, if that changes."""
        found = _CONTRACT.match(self.sql)
        return None if found is None else int(found[1])


@cache
def migrations() -> tuple[Migration, ...]:
    """All that this version knows, in order."""
    folder = resources.files("patches_server.stores.postgres").joinpath("sql")
    found = []
    for file in folder.iterdir():
        match = _NAME.fullmatch(file.name)
        if match is not None:
            found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    return tuple(sorted(found, key=lambda each: each.level))


def level() -> int:
    """The level of schema that this version needs."""
    return migrations()[-1].level


async def migrate(dsn: str) -> list[str]:
    """Bring a database to the level of this version; the names of what was applied."""
    return await on_one_connection(dsn, migrate_on)


async def migrate_on(conn: Any) -> list[str]:
    """The same on a connection. Several processes may do it at once: one applies each file."""
    await conn.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        applied = await _applied(conn)
        done = []
        for migration in migrations():
            if migration.level in applied:
                if applied[migration.level] != migration.sha256:
                    raise WrongFileError(
                        f"migration {migration.level:04} of the database is another one than "
                        f"{migration.name!r} of this version"
                    )
                continue
            async with conn.transaction():
                await _apply(conn, migration)
            done.append(f"{migration.level:04}_{migration.name}")
    finally:
        await conn.execute("SELECT pg_advisory_unlock($1)", _LOCK)
    return done


async def _apply(conn: Any, migration: Migration) -> None:
    await conn.execute("SET LOCAL lock_timeout = '2s'")
    await conn.execute(migration.sql)
    if migration.level == 1:
        await conn.execute(
            f"INSERT INTO patches.meta (level, usable_from, epoch, identity) "  # noqa: S608 -- fixed text
            f"VALUES (1, 1, {NEW_EPOCH}, {IDENTITY})"
        )
    await conn.execute(
        "UPDATE patches.meta SET level = $1, usable_from = coalesce($2, usable_from)",
        migration.level,
        migration.usable_from,
    )
    await conn.execute(
        "INSERT INTO patches.migrations (level, name, sha256) VALUES ($1, $2, $3)",
        migration.level,
        migration.name,
        migration.sha256,
    )


async def missing(dsn: str) -> list[str]:
    """The names of what `migrate` would apply."""
    applied = await on_one_connection(dsn, _applied)
    return [f"{each.level:04}_{each.name}" for each in migrations() if each.level not in applied]


async def on_one_connection(dsn: str, do: Callable[[Any], Awaitable[T]]) -> T:
    """Connect for one thing that a person has asked for. Raises `StorageError`."""
    try:
        conn = await asyncpg.connect(dsn, timeout=10.0)
        try:
            return await do(conn)
        finally:
            await conn.close(timeout=5.0)
    except (
        OSError,
        TimeoutError,
        ValueError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
    ) as exc:
        raise as_storage_error(exc) from exc


async def is_empty(conn: Any) -> bool:
    """Whether a database has nothing of ours."""
    return await conn.fetchval("SELECT to_regclass('patches.meta')") is None


async def require_usable(conn: Any) -> None:
    """Raise `WrongFileError`, which names the command to run, unless this version can use it."""
    found = await conn.fetchrow("SELECT level, usable_from FROM patches.meta")
    if found is None or found["level"] < level():
        raise WrongFileError(
            f"the database has schema level {found and found['level']}, this version needs "
            f"{level()}: run patches-server migrate --store URL"
        )
    if found["usable_from"] > level():
        raise WrongFileError(
            f"the database can be used from schema level {found['usable_from']} on, this version "
            f"knows {level()}: install a newer version"
        )


async def _applied(conn: Any) -> dict[int, bytes]:
    if await is_empty(conn):
        return {}
    rows = await conn.fetch("SELECT level, sha256 FROM patches.migrations")
    return {row["level"]: row["sha256"] for row in rows}

"""Stores of both kinds, clients on them, and a clock that tests set."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.lww.stores.sqlite import LWWSqliteStore
from patches.algorithms.lww.tables import LWWStore
from patches.runtime import Runtime
from patches.stores.sqlite.database import SqliteDatabase


class Clock:
    """Milliseconds, as the test says."""

    def __init__(self) -> None:
        self.now = 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runtime(clock: Clock) -> Runtime:
    return Runtime(wall_ms=clock, random=random.Random(7))


@pytest.fixture(params=["memory", "sqlite"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, runtime: Runtime
) -> AsyncIterator[LWWStore]:
    """A client's store, of each kind."""
    if request.param == "memory":
        yield LWWMemoryStore(runtime=runtime)
        return
    database = SqliteDatabase(tmp_path / "client.db", durability="relaxed")
    yield LWWSqliteStore(database, runtime=runtime)
    await database.close()


@pytest.fixture
async def sqlite_store(
    tmp_path: Path, runtime: Runtime
) -> AsyncIterator[Callable[[], LWWSqliteStore]]:
    """Stores that share one file, as processes do: each with a connection of its own."""
    databases: list[SqliteDatabase] = []

    def opened() -> LWWSqliteStore:
        databases.append(SqliteDatabase(tmp_path / "shared.db", durability="relaxed"))
        return LWWSqliteStore(databases[-1], runtime=runtime)

    yield opened
    for database in databases:
        await database.close()

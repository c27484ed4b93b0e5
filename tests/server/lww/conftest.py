"""What the tests of the LWW server share."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable

import pytest

from patches.runtime import Runtime
from patches_server.lww import LWWServer
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend


class Clock:
    """A wall clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def runtime(self) -> Runtime:
        return Runtime(wall_ms=lambda: self.now, random=random.Random(1))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> LWWServer:
    """A server over a memory store."""
    runtime = clock.runtime()
    return LWWServer(MemoryBackend(runtime=runtime), runtime=runtime)


@pytest.fixture
async def sqlite_server(clock: Clock) -> AsyncIterator[Callable[[], LWWServer]]:
    """Makes servers over one SQLite database."""
    runtime = clock.runtime()
    backend = SqliteBackend(":memory:", runtime=runtime)
    yield lambda: LWWServer(backend, runtime=runtime)
    await backend.close()

"""A whole server in memory, and raw peers that try to break it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest

from patches.limits import Limits
from patches_server.algorithms import services_on
from patches_server.auth.access import allow_all
from patches_server.service.server import PatchesServer
from patches_server.stores.memory.backend import MemoryBackend
from tests.support.raw_peer import Peers

Serve: TypeAlias = Callable[..., Awaitable[Peers]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Makes a server of OT and LWW documents in memory, with the options given."""
    async with AsyncExitStack() as servers:

        async def started(
            limits: Limits | None = None, backend: Any = None, **options: Any
        ) -> Peers:
            if backend is None:
                backend = MemoryBackend()
            else:
                servers.push_async_callback(backend.close)
            given: dict[str, Any] = {
                "auth": allow_all,
                "algorithm_of": backend.algorithm_of,
                "get_tombstone": backend.get_tombstone,
                "relay": False,
                "drain_s": 1.0,
                **options,
            }
            server = PatchesServer(services_on(backend, limits=limits), limits=limits, **given)
            return Peers(await servers.enter_async_context(server))

        yield started


@pytest.fixture
async def connect(serve: Serve) -> Peers:
    """A server that allows everything."""
    return await serve()

"""`LocalServer`: the real server in this process, reached without a socket.

    async with LocalServer() as server, Patches() as patches:
        async with PatchesSync(patches, server.connection()) as sync: ...

Frames go through memory, in the loop's own time and, unless a runtime is given, its own thread, so
it runs under `VirtualTimeLoop` too. Its `network` can be cut and taken down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from patches.aio.tasks import TaskScope
from patches.errors import NetworkError
from patches.net.connection import RpcConnection
from patches.runtime import Runtime
from patches.testing.streams import MemoryNetwork, MemoryStream, memory_transport
from patches_server.algorithms import services_on
from patches_server.auth.access import allow_all
from patches_server.documents.backend import Backend
from patches_server.service.fanout.outbox import LOST
from patches_server.service.json_rpc import JsonRpcPeer
from patches_server.service.server import PatchesServer
from patches_server.stores.url import open_backend

T = TypeVar("T")


async def _inline(fn: Callable[[], T], /) -> T:
    """Virtual time knows nothing of threads."""
    await asyncio.sleep(0)
    return fn()


class LocalServer:
    """A server with OT and LWW documents, in memory unless a backend is given."""

    def __init__(
        self,
        backend: Backend | None = None,
        *,
        runtime: Runtime | None = None,
        auth: Any = allow_all,
        **options: Any,
    ) -> None:
        runtime = runtime or Runtime(run_blocking=_inline)
        self.runtime = runtime
        self.backend: Backend = backend or open_backend("memory:", runtime=runtime)
        limits = options.get("limits")
        services = services_on(self.backend, limits=limits, runtime=runtime)
        self.server: PatchesServer = PatchesServer(
            {**services, **options.pop("services", {})},
            auth=auth,
            algorithm_of=self.backend.algorithm_of,
            get_tombstone=self.backend.get_tombstone,
            runtime=runtime,
            drain_s=options.pop("drain_s", 1.0),
            **options,
        )
        self.services = services
        self.network: MemoryNetwork = MemoryNetwork(self._accept)
        self._scope = TaskScope("local server")
        self._stack = AsyncExitStack()

    def connection(self) -> RpcConnection:
        """A connection to this server, for a `PatchesSync`."""
        return RpcConnection(memory_transport(self.network, runtime=self.runtime), url="memory:")

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.server)
        self._scope.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.network.up = False
        self.network.cut(1001)
        await self._stack.aclose()
        await self._scope.close()
        await self.backend.close()

    def _accept(self, stream: MemoryStream) -> None:
        session = self.server.connect()
        self._scope.spawn(serve_stream(session, stream), name="local session")


async def serve_stream(session: JsonRpcPeer, stream: MemoryStream) -> None:
    """Serve one peer over the server's end of a stream, until it ends."""
    writer = asyncio.ensure_future(_write(session, stream))
    try:
        while True:
            await session.receive(await stream.receive())
    except NetworkError:
        pass
    finally:
        session.end()
        writer.cancel()
        await asyncio.wait([writer])


async def _write(session: JsonRpcPeer, stream: MemoryStream) -> None:
    try:
        while (frame := await session.outbox.get()) is not None:
            await stream.send(frame)
    except NetworkError:
        session.outbox.close(LOST, "the connection was lost", discard=True)
        return
    closing = session.outbox.closing
    stream.cut(closing.code if closing is not None else 1000)

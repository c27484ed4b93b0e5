"""What the pytest fixtures are: a server and clients in one process, with faults on the way.

    async with ServerFixture() as server:
        ann = await server.client("ann")
        doc = await ann.open_doc("plan")
        ann.link.lose_answer("commitChanges")
        doc.change(lambda draft: draft.update(title="Plan"))
        await server.settled()

They need no pytest: other test runners and programs can use them as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeAlias

from aiohttp import web

from patches.aio.tasks import TaskScope
from patches.client.patches import Patches
from patches.documents.document import Document
from patches.errors import NetworkError
from patches.json_patch import JSONPatch
from patches.model.change import Change
from patches.model.json_values import Json
from patches.net.websocket import WebSocketOptions
from patches.runtime import Runtime
from patches.sync import PatchesSync
from patches.testing.clock import FakeClock
from patches.testing.faults import Link
from patches.testing.local_server import serve_stream
from patches.testing.streams import MemoryStream
from patches_server import MemoryBackend, PatchesServer, allow_all, create_app
from patches_server.documents.document_server import DocumentServer
from patches_server.http.app import SERVER

#: Seconds after which waiting for everybody to be equal has failed.
PATIENCE_S = 10.0


class ServerFixture:
    """A whole server in this process, which clients reach through memory or through a websocket.

    `options` are those of `create_app`; by default everybody may do everything, and documents are
    kept in memory, from where they survive a restart. With a `clock`, all of it lives in its time.
    """

    def __init__(
        self, options: Mapping[str, Any] | None = None, *, clock: FakeClock | None = None
    ) -> None:
        self.clock = clock
        self.runtime: Runtime = clock.runtime if clock is not None else Runtime()
        #: The clients made here.
        self.clients: list[ClientFixture] = []
        self._options = {
            "store": MemoryBackend(runtime=self.runtime),
            "auth": allow_all,
            "drain_s": 1.0,
            "runtime": self.runtime,
            **(options or {}),
        }
        self._app: web.Application | None = None
        self._runner: web.AppRunner | None = None
        self._port: int | None = None
        self._sessions = TaskScope("sessions over links")

    # ---- life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self.clock.running() if self.clock is not None else contextlib.nullcontext():
            for client in self.clients:
                await client.close()
            await self.stop()

    async def start(self) -> None:
        """Start, over the documents that there are. Without effect while it runs."""
        if self._runner is not None:
            return
        if self.clock is not None:
            self.clock.install()
        self._app = create_app(**self._options)
        self._runner = web.AppRunner(self._app, access_log=None, handle_signals=False)
        await self._runner.setup()
        self._sessions.start()
        if self._port is not None:
            await self._listen()

    async def stop(self, *, lose: bool = False) -> None:
        """End every connection, and refuse new ones; with `lose`, what is on the way is lost."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for client in self.clients:
            client.link.cut(code=1006 if lose else 1001, lose=lose)
        await self._sessions.close()
        await runner.cleanup()

    async def restart(self, *, lose: bool = False) -> None:
        """Stop and start. Clients come back by themselves."""
        await self.stop(lose=lose)
        await self.start()

    @property
    def app(self) -> PatchesServer:
        """The running server."""
        assert self._app is not None, "the server was not started"
        return self._app[SERVER]

    async def url(self) -> str:
        """The address of a real websocket on the loopback interface; opened at the first call."""
        if self._port is None:
            self._port = 0
            await self._listen()
        return f"ws://127.0.0.1:{self._port}/ws"

    async def _listen(self) -> None:
        assert self._runner is not None, "the server is stopped"
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    # ---- clients ---------------------------------------------------------------------------------

    async def client(
        self,
        name: str = "",
        *,
        store: Any = None,
        principal: object = None,
        connect: bool = True,
        websocket: bool | WebSocketOptions = False,
        **options: Any,
    ) -> ClientFixture:
        """A client of this server, connected unless `connect` is false.

        `store` and the other options are those of `Patches`, with `debug` on: a write to
        `doc.state` raises. `principal` is who the server takes it
        for, without authentication. With `websocket` (true, or options as for `PatchesSync`) it
        comes through a real one, and its link has no effect.
        """
        client = ClientFixture(
            self,
            name or f"client {len(self.clients) + 1}",
            Link(lambda stream: self._accept(stream, principal)),
            {"store": store, "runtime": self.runtime, "debug": True, **options},
            url=await self.url() if websocket is not False else None,
            websocket=None if isinstance(websocket, bool) else websocket,
        )
        self.clients.append(client)
        await client.open(connect=connect)
        return client

    async def settled(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until every client has sent everything, and each open document is at the server's
        revision. Raises `TimeoutError`, and what keeps a document from being sent.

        With a fake clock, time moves meanwhile, as far as it has to.
        """
        with self.clock.running() if self.clock is not None else contextlib.nullcontext():
            async with asyncio.timeout(timeout_s):
                for client in self.clients:
                    await client.sync.settled()
                for client in self.clients:
                    for doc in client.docs:
                        await client.reach(doc, await self.rev(doc.id))

    def _accept(self, stream: MemoryStream, principal: object) -> None:
        if self._runner is None or self.app.closing:
            raise NetworkError("cannot connect: the server is stopped")
        session = self.app.connect(principal)
        self._sessions.spawn(serve_stream(session, stream), name="session over a link")

    # ---- documents on the server -----------------------------------------------------------------

    async def documents(self, doc_id: str) -> DocumentServer:
        """The document server that a document belongs to."""
        return (await self.app.router.find(doc_id)).documents

    async def state(self, doc_id: str) -> Json:
        """What the server has of a document."""
        other = Patches(runtime=self.runtime)
        snapshot = await (await self.documents(doc_id)).get_doc(doc_id)
        async with other:
            name = (await self.documents(doc_id)).name
            await other.track_docs([doc_id], name)
            await other.algorithm_of(doc_id).install_snapshot(doc_id, snapshot, None)
            return (await other.open_doc(doc_id)).state

    async def rev(self, doc_id: str) -> int:
        """The revision that the server is at."""
        snapshot = await (await self.documents(doc_id)).get_doc(doc_id)
        return snapshot.changes[-1].rev if snapshot.changes else snapshot.rev

    async def change(self, doc_id: str, edit: Callable[[JSONPatch], object]) -> Change | None:
        """Edit a document on the server; subscribers hear of it."""
        return await (await self.documents(doc_id)).change(doc_id, edit)


class ClientFixture:
    """A client: its `patches`, its `sync`, and the `link` to the server, which has the switches."""

    def __init__(
        self,
        server: ServerFixture,
        name: str,
        link: Link,
        options: Mapping[str, Any],
        *,
        url: str | None,
        websocket: WebSocketOptions | None,
    ) -> None:
        self.name = name
        self.server = server
        self.link = link
        self.docs: list[Document] = []
        #: What went wrong, as `PatchesSync.on_error` told.
        self.errors: list[Exception] = []
        self._options = options
        self._url = url
        self._websocket = websocket
        self._stack = AsyncExitStack()
        self.patches: Patches
        self.sync: PatchesSync

    async def open(self, *, connect: bool = True) -> None:
        """Begin, or begin again after `close` with what is in the store."""
        self.patches = await self._stack.enter_async_context(Patches(**self._options))
        self.patches.on_open_doc(self.docs.append)
        self.sync = PatchesSync(
            self.patches,
            self._url or self.link.connection(runtime=self.server.runtime),
            websocket=self._websocket,
        )
        self.sync.on_error(lambda error, _context: self.errors.append(error))
        self._stack.push_async_callback(self.sync.disconnect)
        if connect:
            await self.sync.connect()

    async def close(self) -> None:
        """End, as a program does that is closed."""
        self.docs.clear()
        await self._stack.aclose()

    async def restart(self, *, connect: bool = True) -> None:
        """Close and open; with a `store` that is a file, its documents are there again."""
        await self.close()
        await self.open(connect=connect)

    async def open_doc(self, doc_id: str, **options: Any) -> Document:
        """`Patches.open_doc`."""
        return await self.patches.open_doc(doc_id, **options)

    async def reach(self, doc: Document, rev: int) -> None:
        """Wait until a document has a revision of the server."""
        moved = asyncio.Event()
        unsubscribe = self.sync.on_synced_change(lambda _synced: moved.set())
        try:
            while doc.committed_rev < rev and not doc.is_closed:
                moved.clear()
                await moved.wait()
        finally:
            unsubscribe()


#: What the fixture `patches_client` is: `ServerFixture.client`.
PatchesClient: TypeAlias = Callable[..., Awaitable[ClientFixture]]

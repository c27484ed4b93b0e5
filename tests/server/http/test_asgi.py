"""ASGI, and the contract of doors: aiohttp and ASGI under two servers pass it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import unused_port

from patches.errors import NetworkError
from patches.testing.contracts.door import DoorContract, client, refusal, socket
from patches_server import PatchesServer, allow_all, create_server, setup
from patches_server.http.app import HostedServer
from patches_server.http.asgi import NOT_STARTED, AsgiApp

SOON_S = 10.0


@asynccontextmanager
async def aiohttp_site(app: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@asynccontextmanager
async def uvicorn_site(app: Any, **options: Any) -> AsyncIterator[int]:
    uvicorn = pytest.importorskip("uvicorn")
    port = unused_port()
    config = uvicorn.Config(
        app, port=port, log_config=None, timeout_graceful_shutdown=2, ws_max_size=2**24, **options
    )
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(SOON_S):
            while not server.started:
                await asyncio.sleep(0.01)
                if task.done():
                    task.result()
        yield port
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def hypercorn_site(app: Any) -> AsyncIterator[int]:
    hypercorn = pytest.importorskip("hypercorn")
    from hypercorn.asyncio import serve

    config = hypercorn.Config()
    port = unused_port()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = config.shutdown_timeout = 2.0
    ended = asyncio.Event()
    task = asyncio.create_task(serve(app, config, shutdown_trigger=ended.wait))
    try:
        async with asyncio.timeout(SOON_S):
            while not await listens(port):  # noqa: ASYNC110  # it does not say when it is ready
                await asyncio.sleep(0.01)
        yield port
    finally:
        ended.set()
        await task


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


class TestAiohttp(DoorContract):
    @asynccontextmanager
    async def serve(self, **options: Any) -> AsyncIterator[tuple[PatchesServer, str]]:
        server = create_server(**options)
        async with aiohttp_site(server.app()) as port:
            yield server, f"ws://127.0.0.1:{port}/ws"


class TestInAnAiohttpApplication(DoorContract):
    @asynccontextmanager
    async def serve(self, **options: Any) -> AsyncIterator[tuple[PatchesServer, str]]:
        server, app = create_server(**options), web.Application()
        setup(app, server, path="/collab")
        async with aiohttp_site(app) as port:
            yield server, f"ws://127.0.0.1:{port}/collab/ws"


class TestUvicorn(DoorContract):
    @asynccontextmanager
    async def serve(self, **options: Any) -> AsyncIterator[tuple[PatchesServer, str]]:
        server = create_server(**options)
        async with uvicorn_site(server.asgi()) as port:
            yield server, f"ws://127.0.0.1:{port}/ws"


class TestHypercorn(DoorContract):
    @asynccontextmanager
    async def serve(self, **options: Any) -> AsyncIterator[tuple[PatchesServer, str]]:
        server = create_server(**options)
        async with hypercorn_site(server.asgi()) as port:
            yield server, f"ws://127.0.0.1:{port}/ws"


class TestMountedInFastAPI(DoorContract):
    @asynccontextmanager
    async def serve(self, **options: Any) -> AsyncIterator[tuple[PatchesServer, str]]:
        fastapi = pytest.importorskip("fastapi")
        server = create_server(**options)
        app = fastapi.FastAPI(lifespan=server.lifespan)
        app.mount("/collab", server.asgi())
        async with uvicorn_site(app) as port:
            yield server, f"ws://127.0.0.1:{port}/collab/ws"


# ---- what is of ASGI alone -----------------------------------------------------------------------


async def test_mistake_17_a_mounted_server_that_nobody_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fastapi = pytest.importorskip("fastapi")
    server = create_server(auth=allow_all)
    app = fastapi.FastAPI()
    app.mount("/collab", server.asgi())
    async with uvicorn_site(app) as port:
        assert await refusal(f"ws://127.0.0.1:{port}/collab/ws") == 503
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/collab/healthz") as answer,
        ):
            assert answer.status == 503
    errors = [each.message for each in caplog.records if each.levelno == logging.ERROR]
    assert NOT_STARTED in errors


async def test_health_and_paths() -> None:
    server = create_server(auth=allow_all)
    async with uvicorn_site(server.asgi()) as port, aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{port}"
        found: dict[str, tuple[int, Any]] = {}
        for path in ("/healthz", "/readyz", "/ws", "/nothing"):
            async with session.get(base + path) as answer:
                found[path] = answer.status, await answer.json()
        assert found["/healthz"] == (
            200,
            {"status": "ok", "connections": 0, "epoch": server.epoch},
        )
        assert found["/readyz"] == (200, {"status": "ok"})
        assert found["/ws"][0] == 426
        assert found["/nothing"][0] == 404
        with pytest.raises(NetworkError, match="there is nothing here"):
            async with client(f"ws://127.0.0.1:{port}/nothing"):
                pass


async def test_a_silent_connection_is_closed_after_idle_s() -> None:
    server = create_server(auth=allow_all)
    async with uvicorn_site(server.asgi(idle_s=0.1)) as port:
        async with socket(f"ws://127.0.0.1:{port}/ws") as opened, asyncio.timeout(SOON_S):
            while not opened.closed:
                await opened.receive()
            assert opened.close_code == 1001


class Scripted:
    """An ASGI server that says what it is told to, and keeps what it is sent."""

    def __init__(self, *received: dict[str, Any]) -> None:
        self._received = list(received)
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if not self._received:
            await asyncio.Event().wait()
        return self._received.pop(0)

    async def send(self, message: Any) -> None:
        self.sent.append(dict(message))


def scope(**more: Any) -> dict[str, Any]:
    return {"type": "websocket", "path": "/ws", "headers": [], "extensions": {}, **more}


async def test_a_server_without_denials_gets_a_close_code() -> None:
    async with create_server(auth=allow_all) as server:
        said = Scripted({"type": "websocket.connect"})
        origin = [(b"origin", b"https://elsewhere.example"), (b"host", b"here.example")]
        await AsgiApp(server)(scope(headers=origin), said.receive, said.send)
        assert said.sent == [
            {"type": "websocket.accept"},
            {"type": "websocket.close", "code": 4403, "reason": "this origin may not connect"},
        ]


async def test_paths_below_a_root_that_the_path_has_or_not() -> None:
    async with create_server(auth=allow_all) as server:
        for path in ("/ws", "/collab/ws"):
            leaving = ({"type": "websocket.connect"}, {"type": "websocket.disconnect"})
            said = Scripted(*leaving)
            mounted = scope(path=path, root_path="/collab", subprotocols=["x", "patches"])
            await server.asgi()(mounted, said.receive, said.send)
            assert said.sent[0] == {"type": "websocket.accept", "subprotocol": "patches"}
        assert not server.sessions


async def test_a_server_that_cannot_start_fails_the_lifespan() -> None:
    server: HostedServer = create_server("sqlite:////nowhere/at/all.db", auth=allow_all)
    said = Scripted({"type": "lifespan.startup"})
    with pytest.raises(Exception, match="nowhere"):
        await server.asgi()({"type": "lifespan"}, said.receive, said.send)
    [failed] = said.sent
    assert failed["type"] == "lifespan.startup.failed"

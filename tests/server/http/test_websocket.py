from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType, web
from pytest_aiohttp.plugin import AiohttpClient

from patches import Limits, Patches, PatchesSync
from patches_server import allow_all, create_app
from patches_server.http.app import SERVER

_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Door:
    """Lets a peer in when it has gone."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answered = asyncio.Event()

    async def authenticate(self, request: web.Request) -> str:
        assert request.transport is not None
        transport = request.transport
        self.asked.set()
        while not transport.is_closing():  # noqa: ASYNC110  # it has no event for this
            await asyncio.sleep(0)
        self.answered.set()
        return "ann"

    async def can_access(self, *_: object) -> bool:
        return True


async def test_a_peer_that_leaves_during_the_handshake_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    door = Door()
    runner = web.AppRunner(create_app(auth=door))  # its handlers are not cancelled, as in use
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with asyncio.timeout(10):
            _, writer = await asyncio.open_connection(*runner.addresses[0])
            writer.write(_UPGRADE)
            await door.asked.wait()
            writer.transport.abort()
            await door.answered.wait()
            for _ in range(20):
                await asyncio.sleep(0)
    finally:
        await runner.cleanup()
    assert caplog.records == []


async def test_what_follows_an_answer_that_stored_nothing_waits_until_the_peer_has_taken_it(
    aiohttp_client: AiohttpClient,
) -> None:
    client = await aiohttp_client(create_app(auth=allow_all))
    sender = await client.ws_connect("/ws", autoping=False)
    other = await client.ws_connect("/ws")
    change = {"id": "c1", "ops": [{"op": "replace", "path": "/a", "value": 1}]}
    lost = {"id": "old", "ops": [{"op": "replace", "path": "/a", "value": 0, "ts": 1}]}
    await call(other, "commitChanges", "lww/d", [change])
    await call(sender, "subscribe", "lww/d")
    assert (await call(sender, "commitChanges", "lww/d", [lost]))["changes"][0]["rev"] == 1
    ping = await sender.receive(5)
    assert ping.type is WSMsgType.PING
    await call(other, "commitChanges", "lww/d", [{**change, "id": "c2"}])
    assert await call(sender, "getChangesSince", "lww/e", 0) == []  # nothing came before it
    await sender.pong(b"999999999999999999999")  # none of the server's
    await sender.pong(ping.data)
    assert (await sender.receive_json(timeout=5))["params"]["changes"][0]["id"] == "c2"


async def call(ws: ClientWebSocketResponse, method: str, *params: Any) -> Any:
    """A call whose answer is the next message but the roster."""
    await ws.send_json({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    while True:
        message = await ws.receive(5)
        assert message.type is WSMsgType.TEXT, message
        frame = json.loads(message.data)
        if frame.get("method") not in ("peer-welcome",):
            return frame["result"]


@contextlib.asynccontextmanager
async def throttled(port: int, bytes_per_s: int) -> AsyncIterator[int]:
    """A proxy whose way down is slow: a peer that reads as fast as its line is. Gives its port."""
    writers: list[asyncio.StreamWriter] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(64 * 1024):
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(len(data) / rate)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        down, up = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024)
        await asyncio.gather(pipe(reader, up, 1e9), pipe(down, writer, bytes_per_s))

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0, limit=64 * 1024)
    async with proxy:
        yield proxy.sockets[0].getsockname()[1]
    for writer in writers:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)


async def test_more_than_the_buffer_reaches_a_slow_reader_and_broadcasts_come_meanwhile(
    aiohttp_client: AiohttpClient,
) -> None:
    limits = Limits(heartbeat_s=0.2, max_response_buffer_bytes=2**20)
    app = create_app(auth=allow_all, limits=limits)
    client = await aiohttp_client(app)
    documents = app[SERVER].router.services["ot"].documents
    names = [f"large-{number}" for number in range(30)]
    for name in names:
        await documents.change(name, lambda patch: patch.add("/text", "x" * 600_000))
    async with throttled(client.port or 0, 12_000_000) as port, Patches() as patches:
        sync = PatchesSync(patches, f"ws://127.0.0.1:{port}/ws")
        states: list[str] = []
        sync.connection.on_state_change(states.append)
        opened = [await patches.open_doc(name) for name in [*names, "small"]]
        loaded = asyncio.Event()

        def look(_state: object) -> None:
            if sum(doc.committed_rev for doc in opened) >= 5:
                loaded.set()

        for doc in opened:
            doc.on_update(look)
        async with asyncio.timeout(60), sync:
            await loaded.wait()
            await documents.change("small", lambda patch: patch.add("/n", 1))
            await sync.settled()
            assert [doc.committed_rev for doc in opened] == [1] * 31
            assert states == ["connecting", "connected"]

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web

from patches_server import create_app

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

"""Websockets over a real socket, against a small aiohttp server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from patches.errors import FrameTooLargeError, InvalidRequestError, NetworkError
from patches.net.websocket import HANDSHAKE_S, WebSocketTransport
from patches.testing.virtual_time import virtual_time

Handler = Callable[[web.Request, web.WebSocketResponse], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handler, **options: Any) -> AsyncIterator[str]:
    async def serve(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(**options)
        await socket.prepare(request)
        await handle(request, socket)
        return socket

    app = web.Application()
    app.router.add_get("/ws", serve)
    async with TestServer(app) as server:
        yield str(server.make_url("/ws")).replace("http", "ws", 1)


async def echo(_request: web.Request, socket: web.WebSocketResponse) -> None:
    async for message in socket:
        await socket.send_str(message.data)


async def until(transport: WebSocketTransport, state: str) -> None:
    changed = asyncio.Event()
    transport.on_state_change(lambda _state: changed.set())
    async with asyncio.timeout(5):
        while transport.state != state:
            changed.clear()
            await changed.wait()


async def test_frames_go_both_ways() -> None:
    async with serving(echo) as url:
        transport = WebSocketTransport(url)
        got: asyncio.Queue[bytes] = asyncio.Queue()
        transport.on_frame(got.put_nowait)
        await transport.connect()
        sent = [b'{"a":1}', '"😀"'.encode()]
        for frame in sent:
            transport.send(frame)
        async with asyncio.timeout(5):
            assert await got.get() == sent[0]
            assert await got.get() == sent[1]
        await transport.disconnect()
        assert transport.state == "disconnected"


async def test_a_frame_above_four_mebibytes_is_received() -> None:
    big = "x" * (5 * 1024 * 1024)

    async def handle(_request: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_str(big)
        await socket.receive()

    async with serving(handle) as url:
        transport = WebSocketTransport(url)
        got: asyncio.Queue[bytes] = asyncio.Queue()
        transport.on_frame(got.put_nowait)
        await transport.connect()
        async with asyncio.timeout(5):
            assert len(await got.get()) == len(big)
        await transport.disconnect()


async def test_a_frame_that_the_server_finds_too_large_ends_in_1009() -> None:
    async with serving(echo, max_msg_size=1000) as url:
        transport = WebSocketTransport(url)
        await transport.connect()
        transport.send(b"x" * 2000)
        await until(transport, "disconnected")
        assert isinstance(transport.failure, FrameTooLargeError)
        await transport.disconnect()


@pytest.mark.parametrize(
    ("code", "text"), [(1001, "going away"), (1013, "try again later"), (4401, "sign-in")]
)
async def test_the_close_code_is_named(code: int, text: str) -> None:
    async def close(_request: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.close(code=code, message=b"because")

    async with serving(close) as url:
        transport = WebSocketTransport(url)
        await transport.connect()
        await until(transport, "disconnected")
        assert text in str(transport.failure)
        assert "because" in str(transport.failure)
        await transport.disconnect()


async def test_a_refused_handshake_names_the_status() -> None:
    app = web.Application()

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=403)

    app.router.add_get("/ws", refuse)
    async with TestServer(app) as server:
        transport = WebSocketTransport(str(server.make_url("/ws")))
        with pytest.raises(NetworkError, match="403"):
            await transport.connect()
        await transport.disconnect()


async def test_nobody_there_is_a_network_error_that_names_the_url(
    unused_tcp_port: int,
) -> None:
    url = f"ws://127.0.0.1:{unused_tcp_port}/ws"
    transport = WebSocketTransport(url)
    with pytest.raises(NetworkError, match=url):
        await transport.connect()
    await transport.disconnect()


async def test_options_are_asked_for_at_each_attempt() -> None:
    tokens: list[str | None] = []

    async def note(request: web.Request, socket: web.WebSocketResponse) -> None:
        tokens.append(request.headers.get("Authorization"))
        assert socket.ws_protocol == "v1"
        await socket.receive()

    asked = 0

    async def headers() -> dict[str, str]:
        nonlocal asked
        asked += 1
        return {"Authorization": f"token {asked}"}

    async with serving(note, protocols=["v1"]) as url:
        for options in (
            {"headers": headers, "protocols": ["v1"]},
            lambda: {"headers": headers, "protocols": lambda: ["v1"]},
        ):
            transport = WebSocketTransport(url, options=options)
            await transport.connect()
            await transport.disconnect()
    assert tokens == ["token 1", "token 2"]


@virtual_time
async def test_a_function_for_options_that_never_returns_is_a_failed_attempt() -> None:
    asked = 0

    async def hang() -> dict[str, str]:
        nonlocal asked
        asked += 1
        await asyncio.Event().wait()
        return {}

    transport = WebSocketTransport("ws://127.0.0.1:9/ws", options={"headers": hang})
    with pytest.raises(NetworkError, match="no answer in time"):
        await transport.connect()
    assert asyncio.get_running_loop().time() == HANDSHAKE_S
    await asyncio.sleep(HANDSHAKE_S + 1)
    assert asked == 2
    await transport.disconnect()


async def test_a_frame_larger_than_the_client_takes_is_no_fault_of_what_it_sent() -> None:
    async def handle(_request: web.Request, socket: web.WebSocketResponse) -> None:
        await socket.send_str("x" * 2000)
        await socket.receive()

    async with serving(handle) as url:
        transport = WebSocketTransport(url, options={"max_msg_size": 1000})
        await transport.connect()
        await until(transport, "disconnected")
        assert transport.failure is not None
        assert not isinstance(transport.failure, FrameTooLargeError)
        assert "max_msg_size" in str(transport.failure)
        await transport.disconnect()


async def test_a_session_of_the_application_is_used_and_left_open() -> None:
    async with serving(echo) as url, aiohttp.ClientSession() as session:
        transport = WebSocketTransport(url, options={"session": session, "heartbeat": None})
        await transport.connect()
        await transport.disconnect()
        assert not session.closed


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000/ws", "ftp://x/", "file:///etc"])
def test_a_url_that_is_none_of_a_websocket_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="websocket url"):
        WebSocketTransport(url)


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match="'header'"):
        WebSocketTransport("ws://127.0.0.1/ws", options={"header": {}})


async def test_a_heartbeat_that_is_not_answered_ends_the_connection() -> None:
    asleep = asyncio.Event()

    async def sleep(_request: web.Request, _socket: web.WebSocketResponse) -> None:
        await asleep.wait()  # reads nothing, so answers no ping

    async with serving(sleep) as url:
        transport = WebSocketTransport(url, options={"heartbeat": 0.05})
        await transport.connect()
        await until(transport, "disconnected")
        assert transport.failure is not None
        await transport.disconnect()
        asleep.set()

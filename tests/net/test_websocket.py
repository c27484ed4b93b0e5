"""Websockets over a real socket, against a small aiohttp server."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from patches.errors import FrameTooLargeError, InvalidRequestError, NetworkError
from patches.net.websocket import HANDSHAKE_S, WebSocketTransport
from patches.net.websocket_stream import WebSocketStream
from patches.testing.virtual_time import virtual_time

Handler = Callable[[web.Request, web.WebSocketResponse], Awaitable[None]]


def an_app(handle: Handler, **options: Any) -> web.Application:
    async def serve(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(**options)
        await socket.prepare(request)
        await handle(request, socket)
        return socket

    app = web.Application()
    app.router.add_get("/ws", serve)
    return app


@asynccontextmanager
async def serving(handle: Handler, **options: Any) -> AsyncIterator[str]:
    async with TestServer(an_app(handle, **options)) as server:
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


async def test_nobody_there_is_a_network_error_that_names_the_address(
    unused_tcp_port: int,
) -> None:
    url = f"ws://127.0.0.1:{unused_tcp_port}/ws"
    transport = WebSocketTransport(url)
    with pytest.raises(NetworkError, match=f"nothing listens on 127.0.0.1:{unused_tcp_port} "):
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


async def test_a_proxy_is_what_is_connected_to() -> None:
    async with serving(echo) as url:
        transport = WebSocketTransport(
            "ws://documents.invalid/ws", options={"proxy": url.replace("ws", "http", 1)}
        )
        await transport.connect()  # the name means nothing here
        assert transport.state == "connected"
        await transport.disconnect()


def certificate_for(address: str, path: Path) -> Path:
    """A certificate that vouches for itself, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "patches test")])
    begin = datetime(2000, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(pem)
    )
    return path


async def test_a_certificate_of_ones_own_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    pem = certificate_for("127.0.0.1", tmp_path / "own.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    server = TestServer(an_app(echo), host="127.0.0.1")
    await server.start_server(ssl=tls)
    try:
        url = str(server.make_url("/ws")).replace("https", "wss", 1)
        strange = WebSocketTransport(url)
        with pytest.raises(NetworkError, match="CERTIFICATE_VERIFY_FAILED"):
            await strange.connect()
        await strange.disconnect()
        trusted = WebSocketTransport(
            url, options={"ssl": ssl.create_default_context(cafile=str(pem))}
        )
        await trusted.connect()
        assert trusted.state == "connected"
        await trusted.disconnect()
    finally:
        await server.close()


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


class _ClosedWhileAsleep:
    """aiohttp's socket as a client finds it that was frozen while the peer hung up: the answer to
    the peer's last ping fails inside `receive`."""

    async def receive(self) -> Any:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")


async def test_a_pong_that_cannot_be_sent_ends_the_stream() -> None:
    stream = WebSocketStream(cast(Any, _ClosedWhileAsleep()), None)
    with pytest.raises(NetworkError, match="closing transport"):
        await stream.receive()

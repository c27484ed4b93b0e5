"""Threats to connecting, and to keeping a connection.

The rules: `docs/internals/reliability.md` 4, T1-T3, T16, T33.
"""

from __future__ import annotations

import asyncio
import io
import logging
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import pytest

from patches.errors import UnauthorizedError
from patches.limits import Limits
from patches_server.auth.access import Principal, allow_all
from patches_server.cli.logs import JsonLines, OncePerMinute
from patches_server.http.app import SERVER, create_app

UPGRADE = (
    "GET /ws{query} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
GET_DOC = b'{"id":1,"method":"getDoc","params":["d"]}'


class Door:
    """A provider that lets everybody in who has the word, and counts who asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def authenticate(self, request: Any) -> Principal:
        self.asked += 1
        await self.open.wait()
        if request.query.get("token") != "sesame":
            raise UnauthorizedError("not signed in")
        return Principal(id="ann")

    async def can_access(self, *_: Any) -> bool:
        return True


def masked(payload: bytes, *, announced: int | None = None, first: int = 0x81) -> bytes:
    """A text frame as clients send it; `announced` bytes of it are said to come."""
    size = len(payload) if announced is None else announced
    head = bytes([first, 0x80 | size]) if size < 126 else bytes([first, 0xFE]) + size.to_bytes(2)
    return head + b"\0\0\0\0" + payload


@asynccontextmanager
async def raw(
    client: Any, query: str = ""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A socket that has asked for an upgrade."""
    host, port = client.server.host, client.server.port
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(UPGRADE.format(query=query, host=f"{host}:{port}").encode())
        yield reader, writer
    finally:
        writer.close()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "x"])
async def test_t01_a_page_of_another_site_gets_no_socket_and_no_hook_is_called(
    aiohttp_client: Any, origin: str
) -> None:
    door = Door()
    client = await aiohttp_client(create_app(auth=door, relay=False))
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect("/ws?token=sesame", headers={"Origin": origin})
    assert refused.value.status == 403
    assert door.asked == 0
    assert client.app[SERVER].sessions == {}
    own = f"http://{client.server.host}:{client.server.port}"
    for headers in ({"Origin": own}, {}):
        await (await client.ws_connect("/ws?token=sesame", headers=headers)).close()


async def test_t01_any_origin_must_be_spelled_out_and_is_warned_of(caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        create_app(auth=Door(), allowed_origins=("*",))
    assert "any origin" in caplog.text


async def test_t02_no_frame_is_read_before_authentication_and_it_has_its_time(
    aiohttp_client: Any,
) -> None:
    door = Door()
    door.open.clear()
    app = create_app(auth=door, relay=False, limits=Limits(handshake_timeout_s=0.1))
    client = await aiohttp_client(app)
    async with raw(client, "?token=sesame") as (reader, writer):
        writer.write(masked(GET_DOC) * 100)
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        assert b"503" in answer
        assert door.asked == 1
        assert app[SERVER].sessions == {}
    door.open.set()
    async with raw(client, "?token=sesame") as (reader, writer):
        writer.write(masked(GET_DOC))
        assert b'"result":{"state":null' in await asyncio.wait_for(reader.readuntil(b"]}}"), 5)


async def test_t03_no_log_and_no_error_repeats_the_query(aiohttp_client: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, logger="patches_server")
    client = await aiohttp_client(create_app(auth=Door(), relay=False))
    response = await client.get("/ws", params={"token": "s3cret"})
    assert "s3cret" not in await response.text()
    async with client.ws_connect("/ws?token=sesame") as ws:
        await ws.send_str('{"id":1,"method":"x","params":["d"]}')
        assert "sesame" not in (await ws.receive(timeout=5)).data
    own = [record for record in caplog.records if record.name.startswith("patches")]
    assert not any("token" in record.getMessage() for record in own)


async def test_t16_a_compressed_bomb_ends_its_connection(aiohttp_client: Any) -> None:
    limits = Limits(compress=True, max_frame_bytes=1_000_000)
    client = await aiohttp_client(create_app(auth=allow_all, limits=limits, relay=False))
    async with client.ws_connect("/ws", compress=15) as hostile, client.ws_connect("/ws") as honest:
        assert hostile.compress
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = packer.compress(b" " * 50_000_000) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]
        assert len(bomb) < 65_536
        hostile._conn.transport.write(masked(bomb, first=0xC1))
        message = await hostile.receive(timeout=10)
        assert message.data == 1009
        await honest.send_bytes(GET_DOC)
        assert (await honest.receive_json(timeout=5))["id"] == 1


@pytest.mark.parametrize("drips", [True, False], ids=["byte by byte", "and then nothing"])
async def test_t33_a_message_that_never_ends_is_given_up(aiohttp_client: Any, drips: bool) -> None:
    app = create_app(auth=allow_all, relay=False, limits=Limits(heartbeat_s=0.1))
    client = await aiohttp_client(app)
    async with raw(client) as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked(b"{", announced=60_000))
        async with asyncio.timeout(10):
            while not reader.at_eof():
                try:
                    if drips:
                        writer.write(b" ")
                    await asyncio.wait_for(reader.read(100), 0.02)
                except TimeoutError:
                    pass
                except ConnectionError:
                    break
            while app[SERVER].sessions:  # noqa: ASYNC110  # its task ends a few turns later
                await asyncio.sleep(0)


async def test_t33_who_is_quiet_and_answers_pings_stays(aiohttp_client: Any) -> None:
    app = create_app(auth=allow_all, relay=False, limits=Limits(heartbeat_s=0.1))
    client = await aiohttp_client(app)
    async with client.ws_connect("/ws") as ws:
        answer = asyncio.ensure_future(ws.receive_json())
        await asyncio.wait([answer], timeout=1.0)
        assert not answer.done()
        await ws.ping(b"also honest")
        await ws.send_bytes(GET_DOC)
        assert (await asyncio.wait_for(answer, 5))["id"] == 1


async def test_t33_a_request_that_never_ends_is_given_up(aiohttp_server: Any) -> None:
    server = await aiohttp_server(create_app(auth=allow_all), keepalive_timeout=0.1)
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_t33_who_pings_and_reads_nothing_is_cut_off(aiohttp_client: Any) -> None:
    app = create_app(auth=allow_all, relay=False, limits=Limits(send_timeout_s=0.1))
    client = await aiohttp_client(app)
    async with raw(client) as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's has it
        ping = masked(b"x" * 100, first=0x89)
        async with asyncio.timeout(20):
            while app[SERVER].sessions:
                if writer.transport.get_write_buffer_size() < 100_000:
                    writer.write(ping * 1_000)
                await asyncio.sleep(0)


async def test_t02_those_who_are_being_authenticated_count_as_connections(
    aiohttp_client: Any,
) -> None:
    door = Door()
    door.open.clear()
    limits = Limits(max_connections=3)
    client = await aiohttp_client(create_app(auth=door, relay=False, limits=limits))
    opening = [asyncio.ensure_future(client.ws_connect("/ws?token=sesame")) for _ in range(3)]
    async with asyncio.timeout(5):
        while door.asked < 3:  # noqa: ASYNC110  # it is counted, not signalled
            await asyncio.sleep(0)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect("/ws?token=sesame")
    assert (refused.value.status, door.asked) == (503, 3)
    door.open.set()
    for each in opening:
        await (await each).close()


async def test_t01_a_second_origin_does_not_help(aiohttp_client: Any) -> None:
    door = Door()
    client = await aiohttp_client(create_app(auth=door, relay=False))
    host = f"{client.server.host}:{client.server.port}"
    own, other = f"Origin: http://{host}\r\n", "Origin: https://evil.example\r\n"
    for headers in (own + other, other + own, other + f"X-Forwarded-Host: {host}\r\n"):
        reader, writer = await asyncio.open_connection(client.server.host, client.server.port)
        request = UPGRADE.format(query="?token=sesame", host=host)
        writer.write(request.replace("\r\n\r\n", f"\r\n{headers}\r\n").encode())
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
        writer.close()
        assert b"403" in answer or b"400" in answer
    assert door.asked == 0


@contextmanager
def written_by(logger: str) -> Iterator[io.StringIO]:
    """What `patches-server` would write of a logger's lines."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    handler.addFilter(OncePerMinute())
    logging.getLogger(logger).addHandler(handler)
    try:
        yield written
    finally:
        logging.getLogger(logger).removeHandler(handler)


async def test_t03_a_token_among_the_sub_protocols_is_not_logged(aiohttp_client: Any) -> None:
    client = await aiohttp_client(create_app(auth=allow_all, relay=False))
    with written_by("aiohttp.websocket") as written:
        async with client.ws_connect("/ws", protocols=("s3cret",)) as ws:
            assert ws.protocol is None
        async with client.ws_connect("/ws", protocols=("patches", "s3cret")) as ws:
            assert ws.protocol == "patches"
    [line] = written.getvalue().splitlines()
    assert "sub-protocols" in line
    assert "s3cret" not in line


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /ws?token=s3cret HTTP/9.9",
        b"GET /ws?token=s3cret" + b"x" * 20_000 + b" HTTP/1.1",
        b"GET /ws?token=s3cret HTTP/1.1\r\nbad header",
    ],
    ids=["version", "length", "header"],
)
async def test_t03_t31_what_is_no_request_is_logged_without_its_text(
    aiohttp_client: Any, request_line: bytes
) -> None:
    client = await aiohttp_client(create_app(auth=allow_all, relay=False))
    with written_by("aiohttp.server") as written:
        for _ in range(2):
            reader, writer = await asyncio.open_connection(client.server.host, client.server.port)
            writer.write(request_line + b"\r\nHost: x\r\n\r\n")
            assert b"400" in await asyncio.wait_for(reader.read(), 5)
            writer.close()
    [line] = written.getvalue().splitlines()
    assert "no HTTP" in line
    assert "s3cret" not in line
    assert "Traceback" not in line

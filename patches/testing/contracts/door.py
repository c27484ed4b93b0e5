"""`DoorContract`: what every way into a server does, whatever carries its frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import pytest

from patches.client.patches import Patches
from patches.errors import (
    ForbiddenError,
    FrameTooLargeError,
    NetworkError,
    UnauthorizedError,
)
from patches.limits import Limits
from patches.model import codec
from patches.net.connection import WebSocketConnection
from patches.sync.patches_sync import PatchesSync
from patches_server.auth.access import Principal, allow_all
from patches_server.service.server import PatchesServer

SOON_S: Final = 10.0


def _write(number: int, draft: Any) -> None:
    draft[f"k{number}"] = "é😀" * number


class Members:
    """Lets in who brings a name; everybody may read, `ann` may write."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    async def authenticate(self, request: Any) -> object:
        self.requests.append(request)
        name = request.headers.get("X-Name") or request.query.get("name")
        if name is None:
            raise UnauthorizedError("please sign in")
        return Principal(id=name)

    async def can_access(self, principal: Any, _doc_id: str, kind: str, *_call: Any) -> bool:
        return kind == "read" or principal.id == "ann"


@asynccontextmanager
async def client(url: str, name: str | None = None) -> AsyncIterator[tuple[Patches, PatchesSync]]:
    """A client, and what keeps it in sync."""
    websocket = None if name is None else {"headers": {"X-Name": name}}
    async with Patches() as patches, PatchesSync(patches, url, websocket=websocket) as sync:
        yield patches, sync


@asynccontextmanager
async def socket(url: str, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A websocket of nobody's client."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url, **options) as opened:
        yield opened


async def call(opened: aiohttp.ClientWebSocketResponse, frame: bytes) -> dict[str, Any]:
    """Send a frame; the next answer."""
    await opened.send_str(frame.decode())
    async with asyncio.timeout(SOON_S):
        while True:
            message = codec.decode(await opened.receive_str())
            if isinstance(message, dict) and "method" not in message:
                return message


async def refusal(url: str, **options: Any) -> int:
    """The status of a refused connection, or the close code of one that tells it so."""
    async with aiohttp.ClientSession() as session:
        try:
            opened = await session.ws_connect(url, **options)
        except aiohttp.WSServerHandshakeError as exc:
            return exc.status
        async with opened, asyncio.timeout(SOON_S):
            message = await opened.receive()
            assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            return (opened.close_code or 0) - 4000


class DoorContract:
    """Every door passes these. Subclass it and give `serve`."""

    def serve(self, **options: Any) -> AbstractAsyncContextManager[tuple[PatchesServer, str]]:
        """A server with these options of `create_server`, and the url of its door."""
        raise NotImplementedError

    @pytest.mark.parametrize("doc_id", ["plan", "lww/plan"])
    async def test_edits_reach_the_others(self, doc_id: str) -> None:
        async with self.serve(auth=allow_all) as (_, url):
            async with client(url) as (ann, ann_sync), client(url) as (ben, ben_sync):
                plan = await ann.open_doc(doc_id)
                seen = await ben.open_doc(doc_id)
                await ben_sync.settled(SOON_S)
                for number in range(20):
                    plan.change(partial(_write, number))
                await ann_sync.settled(SOON_S)
                async with asyncio.timeout(SOON_S):
                    async for state in seen:
                        if state == plan.state:
                            break

    async def test_a_page_of_another_origin_is_refused(self) -> None:
        async with self.serve(auth=allow_all) as (_, url):
            assert await refusal(url, headers={"Origin": "https://elsewhere.example"}) == 403
        async with self.serve(auth=allow_all, allowed_origins=["https://elsewhere.example"]) as (
            _,
            url,
        ):
            async with socket(url, headers={"Origin": "https://elsewhere.example"}) as opened:
                assert not opened.closed

    async def test_who_is_not_signed_in_is_refused(self) -> None:
        async with self.serve(auth=Members()) as (_, url):
            assert await refusal(url) == 401

    async def test_a_request_has_the_names_that_authentication_uses(self) -> None:
        members = Members()
        async with self.serve(auth=members) as (_, url):
            cookies = {"Cookie": "theme=dark; session=s1"}
            async with socket(f"{url}?name=ben&x=1&x=2", headers=cookies):
                [request] = members.requests
                assert request.method == "GET"
                assert request.path == urlsplit(url).path
                assert request.headers["cookie"] == "theme=dark; session=s1"
                assert dict(request.cookies) == {"theme": "dark", "session": "s1"}
                assert request.query["name"] == "ben"
                assert request.query.getall("x") == ["1", "2"]
                assert request.remote == "127.0.0.1"
                assert request.scheme in ("ws", "http")

    async def test_rights_are_those_of_who_signed_in(self) -> None:
        async with self.serve(auth=Members()) as (_, url):
            async with client(url, "ann") as (ann, sync):
                (await ann.open_doc("plan")).change(lambda draft: draft.update(n=1))
                await sync.settled(SOON_S)
            async with client(url, "ben") as (ben, sync):
                plan = await ben.open_doc("plan")
                await sync.settled(SOON_S)
                assert plan.state == {"n": 1}
                plan.change(lambda draft: draft.update(n=2))
                with pytest.raises(ForbiddenError):
                    await sync.settled(SOON_S)

    async def test_connections_are_counted(self) -> None:
        async with self.serve(
            auth=Members(), limits=Limits(max_connections=2, max_connections_per_principal=1)
        ) as (server, url):
            async with socket(url, headers={"X-Name": "ann"}):
                assert await refusal(url, headers={"X-Name": "ann"}) == 429
                async with socket(url, headers={"X-Name": "ben"}):
                    assert await refusal(url, headers={"X-Name": "cleo"}) == 503
            async with asyncio.timeout(SOON_S):  # a close is noticed soon, not at once
                while server.sessions:  # noqa: ASYNC110  # nothing says that it is over
                    await asyncio.sleep(0.02)
            async with socket(url, headers={"X-Name": "ann"}) as opened:
                assert not opened.closed

    async def test_bad_frames_are_answered_and_the_connection_goes_on(self) -> None:
        async with self.serve(auth=allow_all) as (_, url), socket(url) as opened:
            assert (await call(opened, b"{"))["error"]["code"] == -32700
            unknown = b'{"jsonrpc":"2.0","id":1,"method":"nothing","params":[]}'
            assert (await call(opened, unknown))["error"]["code"] == -32000
            fine = b'{"jsonrpc":"2.0","id":2,"method":"subscribe","params":["plan"]}'
            assert (await call(opened, fine)) == {"jsonrpc": "2.0", "id": 2, "result": ["plan"]}

    async def test_a_frame_beyond_the_limit_closes_with_1009(self) -> None:
        async with self.serve(auth=allow_all, limits=Limits(max_frame_bytes=10_000)) as (_, url):
            async with socket(url) as opened:
                await opened.send_str("x" * 10_001)
                async with asyncio.timeout(SOON_S):
                    while not opened.closed:
                        await opened.receive()
                assert opened.close_code == 1009
            connection = WebSocketConnection(url)
            await connection.connect()
            with pytest.raises(FrameTooLargeError):
                await connection.call("subscribe", "x" * 10_001)
            await connection.disconnect()

    async def test_calls_beyond_the_rate_are_refused(self) -> None:
        async with self.serve(
            auth=allow_all, limits=Limits(requests_per_s=1.0, requests_burst=5)
        ) as (_, url):
            connection = WebSocketConnection(url)
            await connection.connect()
            calls = [connection.call("getChangesSince", "plan", 0) for _ in range(50)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert [] in answers
            assert 429 in [getattr(answer, "code", None) for answer in answers]
            await connection.disconnect()

    async def test_who_is_signed_out_is_cut_off(self) -> None:
        async with self.serve(auth=Members()) as (server, url):
            async with socket(url, headers={"X-Name": "ann"}) as opened:
                server.revoke(principal="ann")
                async with asyncio.timeout(SOON_S):
                    while not opened.closed:
                        await opened.receive()
                assert opened.close_code == 4401

    async def test_a_peer_that_reads_nothing_is_cut_off_and_catches_up(self) -> None:
        """And delays nobody meanwhile."""
        limits = Limits(max_response_buffer_bytes=200_000, send_timeout_s=1.0)
        async with self.serve(auth=allow_all, limits=limits) as (server, url):
            async with aiohttp.ClientSession() as session:
                slow = await session.ws_connect(url, max_msg_size=0)
                fine = b'{"jsonrpc":"2.0","id":2,"method":"subscribe","params":["plan"]}'
                assert (await call(slow, fine))["result"] == ["plan"]
                transport: Any = slow._writer.transport
                transport.pause_reading()
                async with client(url) as (ann, sync):
                    plan = await ann.open_doc("plan")
                    async with asyncio.timeout(4 * SOON_S):
                        while len(server.sessions) > 1:
                            plan.change(lambda draft: draft.update(text="x" * 100_000))
                            await sync.settled(SOON_S)
                    transport.resume_reading()
                    await slow.close()
                    async with client(url) as (late, late_sync):
                        again = await late.open_doc("plan")
                        await late_sync.settled(SOON_S)
                        assert again.state == plan.state

    async def test_a_server_that_ends_closes_its_connections(self) -> None:
        async with self.serve(auth=allow_all) as (server, url), socket(url) as opened:
            await server.close()
            async with asyncio.timeout(SOON_S):
                while not opened.closed:
                    await opened.receive()
            assert opened.close_code == 1001
            with pytest.raises(NetworkError):
                await WebSocketConnection(url).connect()

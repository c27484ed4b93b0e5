"""Broadcasts that go straight to the transport: in order, bounded, and for few calls of Python."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, ClientWSTimeout
from aiohttp.test_utils import TestClient
from pytest_aiohttp.plugin import AiohttpClient

from patches.limits import Limits
from patches.model.change import Change
from patches_server import allow_all, create_app
from patches_server.http.app import SERVER
from patches_server.http.websocket import websocket_frame
from patches_server.service.fanout.outbox import Event, Outbox
from patches_server.service.json_rpc import render
from patches_server.service.server import PatchesServer

#: Measured: 6.4 for 50 subscribers; two of them are the transport's.
MAX_CALLS_PER_DELIVERY = 7


@pytest.fixture
async def subscribed(aiohttp_client: AiohttpClient) -> Any:
    """Starts a server with so many sockets that are subscribed to "d"."""

    async def started(
        number: int, *, deflate: bool = False, **limits: Any
    ) -> tuple[PatchesServer, list[ClientWebSocketResponse[Any]]]:
        limits["compress"] = deflate
        app = create_app(auth=allow_all, relay=False, limits=Limits(**limits))
        client: TestClient[Any, Any] = await aiohttp_client(app)
        sockets = []
        for _ in range(number):
            socket: ClientWebSocketResponse[Any] = await client.ws_connect(
                "/ws",
                compress=15 if deflate else 0,
                max_msg_size=2**26,
                timeout=ClientWSTimeout(ws_close=0.1),  # some have been cut off, and never close
            )
            await socket.send_json({"id": 1, "method": "subscribe", "params": ["d"]})
            assert (await socket.receive_json(timeout=5))["result"] == ["d"]
            sockets.append(socket)
        return app[SERVER], sockets

    return started


def publish(server: PatchesServer, rev: int, value: str = "x") -> None:
    ops = [{"op": "replace", "path": "/a", "value": value}]
    change = Change(id=f"c{rev}", ops=ops, base_rev=rev - 1, rev=rev, created_at=1)
    server.hub.publish("d", [change], None, None)


def outboxes(server: PatchesServer) -> list[Outbox]:
    return [session.outbox for session in server.sessions.values()]


async def revs(socket: ClientWebSocketResponse[Any], number: int) -> list[int]:
    frames = [json.loads((await socket.receive(5)).data) for _ in range(number)]
    return [frame["params"]["changes"][0]["rev"] for frame in frames]


async def test_a_broadcast_leaves_in_the_turn_in_which_it_comes(subscribed: Any) -> None:
    server, sockets = await subscribed(3)
    await asyncio.sleep(0.05)
    publish(server, 1)
    assert [len(outbox) for outbox in outboxes(server)] == [0, 0, 0]
    assert [await revs(socket, 1) for socket in sockets] == [[1], [1], [1]]


async def test_a_broadcast_does_not_overtake_what_is_queued_or_being_written(
    subscribed: Any,
) -> None:
    server, [socket] = await subscribed(1)
    [outbox] = outboxes(server)
    for rev in range(1, 200):
        publish(server, rev, "x" * (200_000 if rev % 20 == 0 else 10))
        if rev % 3 == 0:  # an answer between them, which the writer task takes
            outbox.answer(render(Event("answer", b'{"changes":[{"rev":%d}]}' % -rev)))
        if rev % 7 == 0:
            await asyncio.sleep(0)
    expected = []
    for rev in range(1, 200):
        expected += [rev, -rev] if rev % 3 == 0 else [rev]
    assert await revs(socket, len(expected)) == expected


async def test_a_broadcast_to_many_takes_no_long_turn(
    subscribed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patches_server.service.fanout.hub._MAX_AT_ONCE", 2)
    server, sockets = await subscribed(4)
    await asyncio.sleep(0.05)
    publish(server, 1)
    assert [len(outbox) for outbox in outboxes(server)] == [0, 0, 1, 1]
    publish(server, 2)
    assert [await revs(socket, 2) for socket in sockets] == [[1, 2]] * 4


async def test_one_who_reads_nothing_is_cut_off_as_before(subscribed: Any) -> None:
    server, sockets = await subscribed(
        2, max_response_buffer_bytes=300_000, send_timeout_s=30.0, heartbeat_s=None
    )
    [slow, reader] = sockets
    slow._conn.transport.pause_reading()
    [outbox, other] = outboxes(server)
    rev = 0
    while outbox.closing is None:
        rev += 1
        publish(server, rev, "x" * 100_000)
        assert await revs(reader, 1) == [rev]
        assert rev < 1_000
    assert outbox.closing.code == 1013
    assert other.closing is None


async def test_a_stalled_peer_is_aborted_though_only_direct_writes_were_made(
    subscribed: Any,
) -> None:
    server, [slow] = await subscribed(1, send_timeout_s=0.05, heartbeat_s=0.05)
    await asyncio.sleep(0.01)
    slow._conn.transport.pause_reading()
    for rev in range(1, 100):
        publish(server, rev, "x" * 200_000)
    async with asyncio.timeout(10):
        while server.sessions:  # noqa: ASYNC110  # its end has no event
            await asyncio.sleep(0.01)


async def test_where_frames_are_compressed_nothing_goes_past_aiohttp(subscribed: Any) -> None:
    server, [socket] = await subscribed(1, deflate=True)
    [outbox] = outboxes(server)
    assert outbox.write_now is None
    publish(server, 1)
    assert await revs(socket, 1) == [1]


@pytest.mark.parametrize("size", [0, 60, 125, 126, 65_535, 65_536, 200_000])
def test_a_frame_is_one_of_websockets(size: int) -> None:
    event = Event("m", b'"' + b"x" * size + b'"')
    payload, frame = render(event), websocket_frame(event)
    assert frame.endswith(payload)
    head = frame[: -len(payload)]
    assert head[0] == 0x81
    length = head[1] if head[1] < 126 else int.from_bytes(head[2:], "big")
    assert length == len(payload)
    assert len(head) == 2 + {126: 2, 127: 8}.get(head[1], 0)


async def test_a_delivery_costs_few_calls(subscribed: Any) -> None:
    number = 50
    server, sockets = await subscribed(number)
    await asyncio.sleep(0.05)
    calls = 0

    def count(_frame: Any, event: str, _arg: Any) -> None:
        nonlocal calls
        calls += event == "call"

    publish(server, 1)
    sys.setprofile(count)
    publish(server, 2)
    sys.setprofile(None)
    assert calls / number <= MAX_CALLS_PER_DELIVERY
    assert [await revs(socket, 2) for socket in sockets] == [[1, 2]] * number

"""Threats by load and time (`spec/reliability.md` 4.3)."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import aiohttp

from patches import codec
from patches.limits import Limits
from patches_server.app import SERVER, create_app
from patches_server.auth import allow_all

_ids = itertools.count(1)


def change(change_id: str, value: Any = 1, **fields: Any) -> dict[str, Any]:
    return {"id": change_id, "ops": [{"op": "replace", "path": "/a", "value": value}], **fields}


async def call(ws: Any, method: str, *params: Any) -> Any:
    request_id = next(_ids)
    frame = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}
    await ws.send_str(codec.encode_text(frame))
    while (answer := await ws.receive_json(timeout=10)).get("id") != request_id:
        pass
    return answer


async def test_t16_a_huge_frame_ends_only_its_own_connection(aiohttp_client: Any) -> None:
    client = await aiohttp_client(
        create_app(auth=allow_all, limits=Limits(max_frame_bytes=100_000), relay=False)
    )
    async with client.ws_connect("/ws") as honest, client.ws_connect("/ws") as hostile:
        await hostile.send_str("[" + "1," * 100_000)
        message = await hostile.receive(timeout=10)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
        assert "result" in await call(honest, "getDoc", "d")


async def test_t32_a_slow_reader_is_dropped_and_nobody_waits_for_it(aiohttp_client: Any) -> None:
    limits = Limits(max_response_buffer_bytes=200_000)
    app = create_app(auth=allow_all, limits=limits, relay=False)
    client = await aiohttp_client(app)
    slow = await client.ws_connect("/ws", max_msg_size=0)
    await call(slow, "subscribe", "d")
    transport = slow._conn.transport
    transport.pause_reading()  # from here on it takes nothing
    async with client.ws_connect("/ws") as reader, client.ws_connect("/ws") as author:
        await call(reader, "subscribe", "d")
        for number in range(200):
            if len(app[SERVER].sessions) == 2:
                break
            answer = await call(author, "commitChanges", "d", [change(f"c{number}", "x" * 100_000)])
            assert "result" in answer
            told = await reader.receive_json(timeout=10)
            assert told["params"]["changes"][0]["id"] == f"c{number}"
        async with asyncio.timeout(10):
            while len(app[SERVER].sessions) > 2:  # noqa: ASYNC110  # it is closing
                await asyncio.sleep(0.01)
    assert len(app[SERVER].hub) <= 1
    transport.resume_reading()
    await slow.close()


async def test_t34_subscriptions_leave_nothing_behind(serve: Any) -> None:
    connect = await serve(limits=Limits(requests_per_s=None))
    for _ in range(100):
        peer = connect()
        await peer.result("subscribe", [f"d{number}" for number in range(1_000)])
        peer.session.end()
    peer = connect()
    for _ in range(50):
        await peer.result("subscribe", ["a", "b"])
        await peer.result("unsubscribe", ["a", "b"])
    assert len(connect.server.hub) == 0
    assert connect.server.hub._table == {}
    assert len(connect.server.sessions) == 1


async def test_t37_t38_a_change_id_is_committed_once(connect: Any) -> None:
    for doc_id in ("d", "lww/d"):
        one, two = connect(), connect()
        wire = {"id": "c1", "ops": [{"op": "@inc", "path": "/n", "value": 1}], "createdAt": 5}
        both = [await peer.start("commitChanges", doc_id, [wire]) for peer in (one, two)]
        for peer, request_id in zip((one, two), both, strict=True):
            assert "result" in await peer.answer(request_id)
        await one.result("commitChanges", doc_id, [wire])
        since = await one.result("getChangesSince", doc_id, 0)
        assert len(since) == 1
        assert since[0]["rev"] == 1


async def test_t39_times_from_the_future_are_lowered(connect: Any) -> None:
    peer = connect()
    far = 4_000_000_000_000_000
    [stored] = (await peer.result("commitChanges", "d", [change("c1", createdAt=far)]))["changes"]
    assert stored["createdAt"] <= stored["committedAt"] < far
    ops = [{"op": "replace", "path": "/a", "value": 1, "ts": far}]
    answer = await peer.result("commitChanges", "lww/d", [{"id": "c2", "ops": ops}])
    assert answer["changes"][0]["ops"][0]["ts"] < far


async def test_t40_presence_is_bounded_and_signed_by_the_server(serve: Any) -> None:
    connect = await serve(relay=True, limits=Limits(presence_per_s=2.0, max_presence_bytes=1_000))
    spammer, victim = connect(), connect()
    for number in range(100):
        params = [victim.id, {"from": "admin", "n": number}]
        await spammer.send({"jsonrpc": "2.0", "method": "peer-signal", "params": params})
    params = [victim.id, "x" * 2_000]
    await spammer.send({"jsonrpc": "2.0", "method": "peer-signal", "params": params})
    heard = victim.unread("signal")
    assert len(heard) == 2
    assert {frame["params"]["from"] for frame in heard} == {spammer.id}
    spammer.session.end()
    assert len(victim.unread("peer-disconnected")) == 1

"""The relay of presence messages."""

from __future__ import annotations

from typing import Any

import pytest

from patches.limits import Limits


@pytest.fixture
async def relay(serve: Any) -> Any:
    return await serve(relay=True)


async def test_a_newcomer_is_told_its_id_and_who_is_there(relay: Any) -> None:
    ann = relay()
    assert await ann.notification("peer-welcome") == {"id": ann.id, "peers": []}
    bob = relay()
    assert await bob.notification("peer-welcome") == {"id": bob.id, "peers": [ann.id]}
    assert ann.unread() == [], "the others hear of it when it speaks"


async def test_a_signal_goes_to_its_target_with_the_senders_id(relay: Any) -> None:
    ann, bob, eve = relay(), relay(), relay()
    data = '{"name":"Ann","cursor":1,"id":"forged"}'
    await ann.send({"jsonrpc": "2.0", "method": "peer-signal", "params": [bob.id, data]})
    assert await bob.notification("signal") == {"from": ann.id, "data": data}
    assert eve.unread("signal") == ann.unread("signal") == []


async def test_a_signal_with_an_id_is_answered(relay: Any) -> None:
    ann, bob = relay(), relay()
    await ann.notification("peer-welcome")
    await ann.start("peer-signal", bob.id, {"x": 1})
    assert await ann.next_bytes() == b'{"jsonrpc":"2.0","result":"ok","id":1}'
    assert (await bob.notification("signal"))["data"] == {"x": 1}
    error = await ann.error("peer-signal", "nobody", "x")
    assert error == {"code": -32000, "message": "Target not connected"}
    await ann.send({"jsonrpc": "2.0", "method": "peer-signal", "params": ["nobody", "x"]})
    assert ann.unread() == []


@pytest.mark.parametrize(
    "frame",
    [
        {"jsonrpc": "1.0", "id": 1, "method": "peer-signal", "params": ["x", "y"]},
        {"jsonrpc": "2.0", "id": 1, "method": "peer-signal", "params": ["", "y"]},
        {"jsonrpc": "2.0", "id": 1, "method": "peer-signal", "params": [7, "y"]},
        {"jsonrpc": "2.0", "id": 1, "method": "peer-signal"},
    ],
    ids=["another protocol", "an empty target", "a number as target", "no params"],
)
async def test_anything_else_falls_through_to_the_documents(relay: Any, frame: Any) -> None:
    ann = relay()
    await ann.send(frame)
    answer = await ann.answer(1)
    assert answer["error"]["message"] == "Unknown method 'peer-signal'."


async def test_the_others_hear_of_a_departure(relay: Any) -> None:
    ann, bob = relay(), relay()
    bob.session.end()
    assert await ann.notification("peer-disconnected") == {"id": bob.id}


async def test_a_room_needs_the_document_on_both_sides(relay: Any) -> None:
    ann, bob = relay(), relay()
    await ann.result("subscribe", "room")
    assert (await ann.error("peer-signal", bob.id, "x", "room"))["message"] == (
        "Target not connected"
    )
    await bob.result("subscribe", "room")
    await ann.call("peer-signal", bob.id, "x", "room")
    assert await bob.notification("signal") == {"from": ann.id, "data": "x", "room": "room"}


async def test_too_large_and_too_many_messages_are_dropped_and_counted(serve: Any) -> None:
    connect = await serve(relay=True, limits=Limits(max_presence_bytes=200, presence_per_s=3.0))
    ann, bob = connect(), connect()
    await ann.send({"jsonrpc": "2.0", "method": "peer-signal", "params": [bob.id, "x" * 300]})
    for number in range(5):
        await ann.send({"jsonrpc": "2.0", "method": "peer-signal", "params": [bob.id, number]})
    assert [frame["params"]["data"] for frame in bob.unread("signal")] == [0, 1, 2]
    assert connect.server.relay.dropped == 3


async def test_a_server_without_the_relay_knows_no_such_method(connect: Any) -> None:
    ann, bob = connect(), connect()
    assert ann.unread() == []
    error = await ann.error("peer-signal", bob.id, "x")
    assert error["message"] == "Unknown method 'peer-signal'."

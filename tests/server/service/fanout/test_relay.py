"""The relay of presence messages."""

from __future__ import annotations

import asyncio
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


async def a_server_with_rights(serve: Any, **options: Any) -> Any:
    """Everybody may read what begins with their name, or with "all"."""

    async def can_access(principal: Any, doc_id: str, *_: object) -> bool:
        return doc_id.startswith((principal, "all"))

    return await serve(relay=True, auth=can_access, **options)


async def test_without_a_room_a_message_goes_to_who_shares_a_document(serve: Any) -> None:
    connect = await a_server_with_rights(serve)
    ann, bob, eve = connect("ann"), connect("bob"), connect("eve")
    for peer, doc_ids in ((ann, ["all", "ann's"]), (bob, ["all", "bob's"]), (eve, ["eve's"])):
        assert await peer.result("subscribe", doc_ids) == doc_ids
    error = await eve.error("peer-signal", ann.id, "here I am")
    assert error["message"] == "Target not connected"
    assert await bob.call("peer-signal", ann.id, "hello") == {
        "jsonrpc": "2.0",
        "result": "ok",
        "id": 2,
    }
    assert ann.unread("signal") == [
        {
            "jsonrpc": "2.0",
            "method": "signal",
            "params": {"from": bob.id, "data": "hello", "room": "all"},
        }
    ]


async def test_a_message_that_waits_for_a_right_is_held_back_or_dropped(serve: Any) -> None:
    asked = asyncio.Event()
    gate = asyncio.Event()
    gate.set()

    async def can_access(*_: object) -> bool:
        asked.set()
        await gate.wait()
        return True

    connect = await serve(relay=True, auth=can_access, limits=Limits(presence_per_s=None))
    ann, bob = connect(), connect()
    for peer in (ann, bob):
        await peer.result("subscribe", "d")
    gate.clear()
    connect.server.revoke(doc_id="d")
    for number in range(150):
        await ann.call("peer-signal", bob.id, number, "d")
    assert bob.unread("signal") == []
    gate.set()
    told = [(await bob.notification("signal"))["data"] for _ in range(100)]
    assert told == list(range(100))
    assert connect.server.relay.dropped == 50
    assert len(connect.server.hub) == 2


async def test_a_flood_is_dropped_and_never_ends_its_receiver(serve: Any) -> None:
    connect = await serve(relay=True, limits=Limits(presence_per_s=None, requests_per_s=None))
    floods, victim = [connect() for _ in range(20)], connect()
    for _ in range(100):
        for peer in floods:
            await peer.send(
                {"jsonrpc": "2.0", "method": "peer-signal", "params": [victim.id, "x" * 15_000]}
            )
    assert victim.session.outbox.closing is None
    assert victim.session.outbox.queued_bytes < 1_100_000
    assert connect.server.relay.dropped > 1_900
    assert (await victim.call("getChangesSince", "d", 0))["result"] == []


async def test_the_bytes_of_one_sender_are_limited(serve: Any) -> None:
    connect = await serve(relay=True, limits=Limits(presence_bytes_per_s=1_000.0))
    ann, others = connect(), [connect() for _ in range(5)]
    for other in others:
        await ann.send({"jsonrpc": "2.0", "method": "peer-signal", "params": [other.id, "x" * 300]})
    assert [len(other.unread("signal")) for other in others] == [1, 1, 0, 0, 0]


async def test_a_subscription_is_a_welcome_in_its_room(relay: Any) -> None:
    ann, bob = relay(), relay()
    for peer in (ann, bob):
        await peer.notification("peer-welcome")
    await ann.result("subscribe", ["d"])
    assert await ann.notification("peer-welcome") == {"id": ann.id, "peers": [bob.id], "room": "d"}
    await bob.result("subscribe", [f"d{number}" for number in range(33)])
    assert bob.unread("peer-welcome") == []


async def test_many_peers_are_listed_if_they_share_a_document(relay: Any) -> None:
    peers = [relay() for _ in range(40)]
    for peer in peers[:3]:
        await peer.result("subscribe", ["d"])
    await peers[3].result("subscribe", ["e"])
    await peers[4].result("subscribe", ["d", "e"])
    welcome = peers[4].unread("peer-welcome")[-1]["params"]
    assert sorted(welcome["peers"]) == sorted(peer.id for peer in peers[:4])


async def test_a_departure_is_told_in_the_rooms_in_which_two_have_met(relay: Any) -> None:
    ann, bob, eve = relay(), relay(), relay()
    for peer in (ann, bob, eve):
        await peer.result("subscribe", ["d", "e"])
    await ann.call("peer-signal", bob.id, "x", "d")
    for peer in (ann, bob, eve):
        peer.unread()
        peer._unread.clear()
    await ann.result("unsubscribe", "d")
    gone = {"id": ann.id, "room": "d"}
    assert await bob.notification("peer-disconnected") == gone
    assert eve.unread("peer-disconnected") == []
    await ann.result("subscribe", "d")
    await ann.call("peer-signal", bob.id, "x", "d")
    await ann.send({"jsonrpc": "2.0", "method": "peer-leave", "params": ["d"]})
    assert await bob.notification("peer-disconnected") == gone
    await ann.send({"jsonrpc": "2.0", "method": "peer-leave"})
    assert await bob.notification("peer-disconnected") == {"id": ann.id, "withdrawn": True}
    await ann.call("peer-signal", bob.id, "x", "d")
    ann.session.end()
    assert await bob.notification("peer-disconnected") == {"id": ann.id}
    assert await bob.notification("peer-disconnected") == gone
    bob.session.end()
    assert relay.server.relay._met == {}

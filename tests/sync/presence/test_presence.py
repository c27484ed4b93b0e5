"""Who is here, through the real relay."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from patches.client.patches import Patches
from patches.errors import InvalidRequestError, PatchError
from patches.model import codec
from patches.model.change import Snapshot
from patches.model.json_values import Json
from patches.runtime import Runtime
from patches.sync import PatchesSync
from patches.sync.presence.presence import Room
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import idle, virtual_time
from tests.support.raw_peer import RawPeer
from tests.support.sync_scene import sync_scene

_seeds = itertools.count()


@asynccontextmanager
async def client(server: LocalServer, *doc_ids: str) -> AsyncIterator[PatchesSync]:
    seed = next(_seeds)  # alike clients would make alike change ids
    async with (
        Patches(runtime=Runtime(random=random.Random(seed))) as patches,
        PatchesSync(patches, server.connection()) as sync,
    ):
        for doc_id in doc_ids:
            await patches.open_doc(doc_id)
        await sync.settled(5)
        yield sync


def names(room: Room) -> list[Any]:
    return sorted(str(state["name"]) for state in room.others.values())


@virtual_time
async def test_everybody_in_a_room_sees_everybody_else_whoever_came_first() -> None:
    async with (
        LocalServer() as server,
        client(server, "d") as ann,
        client(server, "d") as bob,
        client(server, "d") as eve,
    ):
        async with (
            bob.presence("d", {"name": "Bob"}) as bobs,
            ann.presence("d", {"name": "Ann"}) as anns,
            eve.presence("d", {"name": "Eve"}) as eves,
        ):
            await asyncio.sleep(1)
            assert names(anns) == ["Bob", "Eve"]
            assert names(bobs) == ["Ann", "Eve"]
            assert names(eves) == ["Ann", "Bob"]
            assert anns.id is not None
            assert anns.id in bobs.others


@virtual_time
async def test_one_who_connects_later_is_known_to_those_who_were_there() -> None:
    async with LocalServer() as server, client(server, "d") as ann:
        async with (
            client(server, "d") as bob,
            bob.presence("d", {"name": "Bob"}) as bobs,
        ):
            await asyncio.sleep(1)
            async with ann.presence("d", {"name": "Ann"}) as anns:
                await asyncio.sleep(1)
                assert names(anns) == ["Bob"]
                assert names(bobs) == ["Ann"]


@virtual_time
async def test_a_state_that_changes_is_sent_soon_and_not_too_often() -> None:
    async with LocalServer() as server, client(server, "d") as ann, client(server, "d") as bob:
        async with (
            ann.presence("d", {"name": "Ann"}) as anns,
            bob.presence("d", {"name": "Bob"}) as bobs,
        ):
            await idle()
            told: list[Mapping[str, Mapping[str, Json]]] = []
            bobs.on_change(told.append)
            for number in range(20):
                anns.update(cursor=number)
                await idle(3)
            await asyncio.sleep(0.2)
            assert len(told) <= 3
            (state,) = bobs.others.values()
            assert state == {"name": "Ann", "cursor": 19, "id": anns.id}
            assert anns.state == {"name": "Ann", "cursor": 19}


@virtual_time
async def test_what_is_said_again_is_no_change() -> None:
    connection = FakeConnection()
    async with sync_scene(connection) as scene, scene.sync.presence("d", {}) as room:
        told: list[Mapping[str, Mapping[str, Json]]] = []
        room.on_change(told.append)
        for cursor in ("1", "1", "true", "true", "1"):
            data = f'{{"id":"a","cursor":{cursor}}}'
            connection.on_notification.emit("signal", {"from": "a", "data": data, "room": "d"})
        assert [others["a"]["cursor"] for others in told] == [1, True, 1]


@virtual_time
async def test_who_leaves_the_room_or_the_server_is_gone() -> None:
    async with LocalServer() as server, client(server, "d") as ann:
        async with ann.presence("d", {"name": "Ann"}) as anns:
            async with client(server, "d") as bob:
                async with bob.presence("d", {"name": "Bob"}):
                    await idle()
                    assert names(anns) == ["Bob"]
                await idle()
                assert names(anns) == []
                async with bob.presence("d", {"name": "Bob again"}):
                    await idle()
                    assert names(anns) == ["Bob again"]
                    await bob.disconnect()
                    await idle()
                    assert names(anns) == []


@virtual_time
async def test_who_leaves_before_anybody_has_answered_is_gone_too() -> None:
    async with LocalServer() as server, client(server, "d") as ann, client(server, "d") as bob:
        async with ann.presence("d", {"name": "Ann"}) as anns:
            heard = asyncio.Event()
            anns.on_change(lambda _others: heard.set())
            async with bob.presence("d", {"name": "Bob"}):
                await heard.wait()  # and the answer is under way
            await asyncio.sleep(1)
            assert names(anns) == []


@pytest.mark.parametrize("turns", range(8))
@virtual_time
async def test_who_leave_at_almost_the_same_time_see_each_other_when_back(turns: int) -> None:
    async with LocalServer() as server, client(server, "d") as ann, client(server, "d") as bob:
        rooms = [ann.presence("d", {"name": "Ann"}), bob.presence("d", {"name": "Bob"})]
        for _ in range(2):
            await asyncio.gather(*(room.__aenter__() for room in rooms))
            await asyncio.sleep(1)
            assert [names(room) for room in rooms] == [["Bob"], ["Ann"]]
            leaving = asyncio.create_task(rooms[0].__aexit__(None, None, None))
            for _ in range(turns):
                await asyncio.sleep(0)
            await rooms[1].__aexit__(None, None, None)
            await leaving
            await asyncio.sleep(1)


@virtual_time
async def test_a_peer_that_was_withdrawn_is_greeted_by_who_enters_a_room() -> None:
    connection = FakeConnection()
    async with sync_scene(connection) as scene:
        connection.on_notification.emit("peer-welcome", {"id": "me", "peers": ["a", "b"]})
        connection.on_notification.emit("peer-disconnected", {"id": "a", "withdrawn": True})
        connection.on_notification.emit("peer-disconnected", {"id": "b"})
        async with scene.sync.presence("d", {"name": "Me"}):
            await idle()
        sent = [call.args for call in connection.calls if call.method == "peer-signal"]
        assert ("a", "{}", None) in sent
        assert "b" not in {args[0] for args in sent}


@virtual_time
async def test_many_rooms_together_are_not_told_faster_than_the_relay_passes_on() -> None:
    doc_ids = [f"d{number}" for number in range(30)]
    async with (
        LocalServer() as server,
        client(server, *doc_ids) as ann,
        client(server, *doc_ids) as bob,
        AsyncExitStack() as inside,
    ):
        anns = [ann.presence(doc_id, {"name": "Ann"}) for doc_id in doc_ids]
        bobs = [bob.presence(doc_id, {"name": "Bob"}) for doc_id in doc_ids]
        for room in (*anns, *bobs):
            await inside.enter_async_context(room)
        await asyncio.sleep(10)
        assert [names(room) for room in anns] == [["Bob"]] * 30
        assert [names(room) for room in bobs] == [["Ann"]] * 30
        for number in range(40):
            for room in anns:
                room.update(cursor=number)
            await asyncio.sleep(0.05)
        await asyncio.sleep(10)
        shown = [state["cursor"] for room in bobs for state in room.others.values()]
        assert shown == [39] * 30
        assert server.server.relay is not None
        assert server.server.relay.dropped == 0


@virtual_time
async def test_a_state_that_the_relay_would_drop_is_refused_and_nothing_changes() -> None:
    async with LocalServer() as server, client(server, "d") as ann, client(server, "d") as bob:
        with pytest.raises(InvalidRequestError, match="16384"):
            ann.presence("d", {"text": "x" * 16_384})
        async with (
            ann.presence("d", {"name": "Ann"}) as anns,
            bob.presence("d", {"name": "Bob"}) as bobs,
        ):
            with pytest.raises(InvalidRequestError, match="16384"):
                anns.update(name="x", text='"' * 9_000)  # twice as long in its frame
            assert anns.state == {"name": "Ann"}
            anns.update(text="x" * 16_000)  # the largest that goes, about
            await asyncio.sleep(1)
            (state,) = bobs.others.values()
            assert state["text"] == "x" * 16_000


@virtual_time
async def test_rooms_are_apart_and_need_the_document() -> None:
    async with (
        LocalServer() as server,
        client(server, "d", "e") as ann,
        client(server, "d") as bob,
        client(server) as eve,
    ):
        async with (
            ann.presence("d", {"name": "Ann"}) as in_d,
            ann.presence("e", {"name": "Ann"}) as in_e,
            bob.presence("d", {"name": "Bob"}) as bobs,
            eve.presence("d", {"name": "Eve"}) as eves,
        ):
            await asyncio.sleep(1)
            assert names(in_d) == ["Bob"]
            assert names(in_e) == []
            assert names(bobs) == ["Ann"]
            assert names(eves) == []


@virtual_time
async def test_a_lost_connection_empties_the_room_and_the_next_one_fills_it() -> None:
    async with LocalServer() as server, client(server, "d") as ann, client(server, "d") as bob:
        async with (
            ann.presence("d", {"name": "Ann"}) as anns,
            bob.presence("d", {"name": "Bob"}) as bobs,
        ):
            await idle()
            server.network.cut()
            await idle()
            assert names(anns) == []
            await asyncio.sleep(5)
            assert names(anns) == ["Bob"]
            assert names(bobs) == ["Ann"]


@virtual_time
async def test_cursors_move_as_the_text_changes() -> None:
    async with LocalServer() as server, client(server, "d") as ann, client(server, "d") as bob:
        anns_doc, bobs_doc = (sync.patches.get_open_doc("d") for sync in (ann, bob))
        assert anns_doc is not None
        assert bobs_doc is not None
        anns_doc.change(lambda draft: draft.text("body").insert(0, "hello"))
        await ann.settled(5)
        await asyncio.sleep(1)
        async with (
            ann.presence("d", {"name": "Ann", "cursor": [2, 4]}, text="/body") as anns,
            bob.presence("d", {"name": "Bob", "cursor": 1}, text="/body") as bobs,
        ):
            await asyncio.sleep(1)
            bobs_doc.change(lambda draft: draft.text("body").insert(0, "oh "))
            (shown,) = bobs.others.values()
            assert shown["cursor"] == [5, 7]
            assert bobs.state["cursor"] == 4
            await bob.settled(5)
            await asyncio.sleep(1)
            assert anns.state["cursor"] == [5, 7]
            (shown,) = anns.others.values()
            assert shown["cursor"] == 4


@virtual_time
async def test_anchors_are_sent_as_positions_and_received_as_anchors() -> None:
    async with (
        LocalServer() as server,
        client(server, "d") as ann,
        client(server, "d") as bob,
    ):
        mine, other = ann.patches.get_open_doc("d"), bob.patches.get_open_doc("d")
        assert mine is not None
        assert other is not None
        mine.change(lambda draft: draft.text("body").append("\U0001f600 Dear all"))
        await ann.settled(5)
        await bob.settled(5)
        async with (
            ann.presence("d", {"name": "Ann"}, text="/body") as anns,
            bob.presence("d", {"name": "Bob"}, text="/body") as bobs,
        ):
            anns.update(cursor=mine.anchor("/body", 2), selection=mine.span("/body", 2, 6))
            assert (anns.state["cursor"], anns.state["selection"]) == (3, [3, 7])
            await asyncio.sleep(1)
            ((cursor,),) = bobs.cursors().values()
            ((start, end),) = bobs.cursors("selection").values()
            other.change(lambda draft: draft.text("body").insert(0, "Oh, "))
            assert (cursor.index, start.index, end.index) == (6, 6, 10)
            assert bobs.cursors("colour") == {}
        async with bob.presence("d", {"name": "Bob"}) as room:
            with pytest.raises(PatchError, match="text=path"):
                room.cursors()


@virtual_time
async def test_a_text_that_arrives_is_not_typed_before_the_cursors_in_it() -> None:
    connection = FakeConnection()
    async with sync_scene(connection) as scene:
        doc = await scene.open()
        load = await connection.next_call("getDoc")
        async with scene.sync.presence("d", {"cursor": 3}, text="/body") as room:
            data = '{"id":"a","cursor":2}'
            connection.on_notification.emit("signal", {"from": "a", "data": data, "room": "d"})
            load.answer(Snapshot(state={"body": "hello"}, rev=1))
            await idle()
            assert doc.state == {"body": "hello"}
            assert (room.others["a"]["cursor"], room.state["cursor"]) == (2, 3)
            ops = [{"op": "replace", "path": "/body", "value": "oh hello"}]
            scene.broadcast(committed(2).replace(ops=ops))
            await idle()
            assert (room.others["a"]["cursor"], room.state["cursor"]) == (5, 6)


@virtual_time
async def test_what_other_clients_say_is_taken_with_care() -> None:
    connection = FakeConnection()
    async with sync_scene(connection) as scene:
        for method, params in (
            ("peer-welcome", {"id": "me", "peers": ["old", 7, "me"]}),
            ("peer-welcome", None),
            ("signal", ["x"]),
        ):
            connection.on_notification.emit(method, params)
        async with scene.sync.presence("d", {"name": "Me"}) as room:
            await idle()
            say = connection.on_notification.emit
            say("signal", {"from": "a", "data": '{"id":"forged","name":"A"}', "room": "d"})
            say("signal", {"from": "b", "data": {"id": "b", "name": "B"}})  # no text, no room
            say("signal", {"from": "c", "data": '{"id":"c","name":"C"}', "room": "other"})
            say("signal", {"from": "d", "data": "nonsense"})
            say("signal", {"from": "e", "data": "{}"})
            say("signal", {"from": "me", "data": '{"id":"me"}', "room": "d"})
            say("signal", {"from": 5, "data": '{"id":"x"}'})
            await asyncio.sleep(1)
            assert names(room) == ["A", "B"]
            assert room.others["a"]["id"] == "a"
            say("peer-disconnected", {"id": "a"})
            say("peer-disconnected", {})
            assert names(room) == ["B"]
            # a repeated welcome is the roster: who is not in it has gone
            say("peer-welcome", {"id": "me2", "peers": []})
            assert names(room) == []
        sent = [call.args for call in connection.calls if call.method == "peer-signal"]
        assert ("old", "{}", None) in sent
        assert ("old", '{"name":"Me","id":"me"}', "d") in sent
        assert ("e", '{"name":"Me","id":"me"}', "d") in sent


# ---- peers of @dabble/patches 0.28.1 -------------------------------------------------------------


class OriginalPeer:
    """The presence of that library's client: it names no room, and keeps the latest state of each
    peer until it hears that the peer is gone."""

    def __init__(self, server: LocalServer, name: str, room: str | None = None) -> None:
        self._peer = RawPeer(server.server.connect())
        self._name, self._room = name, room
        self.id: str | None = None
        self._known: set[str] = set()
        self.states: dict[str, Any] = {}

    async def subscribe(self, doc_id: str) -> None:
        await self._peer.result("subscribe", doc_id)

    async def read(self) -> None:
        """Take what has come, and answer it."""
        await idle()
        for frame in self._peer.unread():
            params = frame.get("params")
            if not isinstance(params, dict) or (self._room and params.get("room") != self._room):
                continue
            if frame["method"] == "peer-welcome":
                self.id = params["id"]
                for peer in self._known - set(params["peers"]):
                    self._gone(peer)
                for peer in params["peers"]:
                    await self._met(peer)
            elif frame["method"] == "peer-disconnected":
                self._gone(params["id"])
            elif frame["method"] == "signal":
                await self._met(params["from"])
                state = codec.decode(params["data"])
                if "id" in state:
                    self.states[state["id"]] = state
        await idle()

    def names(self) -> list[Any]:
        return sorted(str(state.get("name")) for state in self.states.values())

    async def _met(self, peer: str) -> None:
        if peer in self._known:
            return
        self._known.add(peer)
        data = codec.encode_text({"name": self._name, "id": self.id})
        params = [peer, data, *([self._room] if self._room else [])]
        await self._peer.send({"jsonrpc": "2.0", "method": "peer-signal", "params": params})

    def _gone(self, peer: str) -> None:
        self._known.discard(peer)
        self.states.pop(peer, None)


@virtual_time
async def test_a_peer_on_its_own_signaling_socket_and_ours_see_each_other() -> None:
    async with LocalServer() as server, client(server, "d") as ann:
        before = OriginalPeer(server, "Before")
        await before.read()
        async with ann.presence("d", {"name": "Ann"}) as room:
            for _ in range(3):
                await asyncio.sleep(0.2)
                await before.read()
            after = OriginalPeer(server, "After")
            for _ in range(3):
                await after.read()
                await asyncio.sleep(0.2)
            assert names(room) == ["After", "Before"]
            assert (before.names(), after.names()) == (["Ann"], ["Ann"])
            room.update(name="Ann Lee")
            await asyncio.sleep(0.2)
            await before.read()
            assert before.names() == ["After", "Ann Lee"]
        await asyncio.sleep(0.2)
        await before.read()
        assert before.names() == ["After"], "leaving leaves no ghost"


@virtual_time
async def test_who_leaves_one_of_two_rooms_is_shown_as_it_is_in_the_other() -> None:
    async with LocalServer() as server, client(server, "d", "e") as ann:
        peer = OriginalPeer(server, "Peer")
        await peer.read()
        async with ann.presence("d", {"name": "in d"}):
            async with ann.presence("e", {"name": "in e"}):
                for _ in range(3):
                    await asyncio.sleep(0.3)
                    await peer.read()
                assert peer.names() == ["in e"]
            await asyncio.sleep(0.3)
            await peer.read()
            assert peer.names() == ["in d"]


@virtual_time
async def test_who_spoke_before_a_room_was_entered_is_in_it() -> None:
    async with LocalServer() as server, client(server, "d", "e") as ann:
        peer = OriginalPeer(server, "Peer")
        await peer.read()
        async with ann.presence("d", {"name": "Ann"}) as first:
            for _ in range(3):
                await asyncio.sleep(0.2)
                await peer.read()
            assert names(first) == ["Peer"]
            async with ann.presence("e", {"name": "Ann"}) as second:
                assert names(second) == ["Peer"]


@virtual_time
async def test_a_relay_that_is_told_a_room_gets_its_id_and_sees_ours() -> None:
    async with LocalServer() as server, client(server, "d", "e") as ann:
        async with ann.presence("d", {"name": "Ann"}) as in_d, ann.presence("e", {}) as in_e:
            peer = OriginalPeer(server, "Peer", room="d")
            await peer.read()
            await peer.subscribe("d")
            for _ in range(3):
                await peer.read()
                await asyncio.sleep(0.3)
            assert peer.id is not None
            assert names(in_d) == ["Peer"]
            assert names(in_e) == []
            assert peer.names() == ["Ann"]
        await asyncio.sleep(0.3)
        await peer.read()
        assert peer.names() == []


@virtual_time
async def test_who_unsubscribes_from_a_document_is_gone_from_its_room_alone() -> None:
    async with (
        LocalServer() as server,
        client(server, "d", "e") as ann,
        client(server, "d", "e") as bob,
    ):
        async with (
            ann.presence("d", {"name": "Ann"}),
            ann.presence("e", {"name": "Ann"}),
            bob.presence("d", {"name": "Bob"}) as in_d,
            bob.presence("e", {"name": "Bob"}) as in_e,
        ):
            await asyncio.sleep(1)
            assert (names(in_d), names(in_e)) == (["Ann"], ["Ann"])
            await ann.patches.close_doc("d", untrack=True)
            await asyncio.sleep(1)
            assert (names(in_d), names(in_e)) == ([], ["Ann"])


@virtual_time
async def test_where_rights_are_asked_a_stranger_is_in_no_room() -> None:
    def may(principal: Any, doc_id: str, *_: Any) -> bool:
        return True

    async with LocalServer(auth=may) as server, client(server, "d", "e") as ann:
        async with ann.presence("d", {"name": "Ann"}) as in_d, ann.presence("e", {}) as in_e:
            stranger, reader = OriginalPeer(server, "Stranger"), OriginalPeer(server, "Reader")
            await reader.subscribe("d")
            for _ in range(3):
                await stranger.read()
                await reader.read()
                await asyncio.sleep(0.3)
            assert (names(in_d), names(in_e)) == (["Reader"], [])
            assert (stranger.names(), reader.names()) == ([], ["Ann"])

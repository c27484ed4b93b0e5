"""What the model of the original's client sends, against recorded sessions, and its known defects.

The recordings are `conformance/transcripts`; the defects are those of `docs/internals/sync.md` 12
that the other tests rely on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from patches.errors import JSONRPCError, JSONRPCParseError, NetworkError, StatusError
from patches.model.json_values import Json
from tests.interop.edits import DOC, LWW, append, put, root
from tests.interop.original.rpc import OriginalRpc
from tests.interop.peers import OriginalPeer
from tests.interop.test_the_model import CASES
from tests.interop.world import World
from tests.support.conformance import conformance_dir


def sent_by(peer: OriginalPeer) -> list[Any]:
    """A list that gets every frame that this client sends from now on."""
    frames: list[Any] = []
    send: Callable[[str], None] = peer.client.socket.send

    def record(text: str) -> None:
        frames.append(json.loads(text))
        send(text)

    peer.client.rpc.send = record
    return frames


def shape(frame: Any) -> Json:
    """Method, keys, and what is no id, time or value."""
    params = frame["params"]
    if frame["method"] != "commitChanges":
        return [list(frame), frame["method"], len(params)]
    changes = [
        [sorted(c), c["baseRev"], c["rev"], [op["op"] for op in c["ops"]]] for c in params[1]
    ]
    return [list(frame), frame["method"], changes]


def recorded(name: str, client: str, first: int, last: int) -> list[Any]:
    """The frames of one client in a recording, between two ids."""
    path = conformance_dir("transcripts", default=CASES) / f"{name}.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        line["frame"]
        for line in lines
        if line["client"] == client
        and line["dir"] == "c2s"
        and first <= line["frame"]["id"] <= last
    ]


async def test_a_reconnect_subscribes_once_and_pipelines_the_commits(world: World) -> None:
    # As B of `offline`: it has both documents at revision 1, edits them offline and comes back.
    ann, bob = await world.original("A"), await world.original("B")
    await world.all_open(DOC, [root(list=["x"], log=[])], ann, bob)
    await world.all_open(LWW, [put("/k", 1)], ann, bob)
    bob.go_offline()
    bob.change(DOC, append("/list", "b-offline-1"))
    bob.change(DOC, append("/log", "b1"))
    bob.change(DOC, append("/log", "b2"))
    bob.change(LWW, {"op": "@inc", "path": "/k", "value": 10})
    await world.until(lambda: bob.client.is_quiet)
    frames = sent_by(bob)
    bob.go_online()
    await world.converged(DOC)
    await world.converged(LWW, "lww")
    expected = recorded("offline", "B", 5, 7)
    assert [frame["method"] for frame in expected] == [
        "subscribe",
        "commitChanges",
        "commitChanges",
    ]
    assert shape(frames[0]) == shape(expected[0])
    commits = [shape(frame) for frame in frames[1:3]]  # of the two documents, in either order
    assert sorted(commits, key=str) == sorted(map(shape, expected[1:]), key=str)
    assert [frame["id"] for frame in frames] == list(range(frames[0]["id"], frames[-1]["id"] + 1))
    assert frames[0]["id"] > 1, "ids go on"


async def test_lww_edits_behind_one_that_is_sent_again_wait_for_the_next(world: World) -> None:
    # 12.1: the follow-up compares the head of the queue, which LWW does not have.
    ann = await world.original()
    await world.all_open(LWW, [put("/n", 0)], ann)
    await world.raw.call("subscribe", LWW)
    ann.client.socket.deaf = True
    ann.change(LWW, {"op": "@inc", "path": "/n", "value": 1})
    await world.until(lambda: bool(world.raw.notifications))
    ann.go_offline()
    ann.change(LWW, {"op": "@inc", "path": "/n", "value": 10})
    await world.until(lambda: ann.client.is_quiet)
    ann.go_online()
    await world.until(lambda: ann.is_stuck(LWW))
    assert (await world.server_state(LWW, "lww"))[0] == {"n": 1}
    ann.drop()
    assert await world.converged(LWW, "lww") == {"n": 11}


async def test_it_looks_at_keys_and_matches_by_the_id_alone() -> None:
    told: list[str] = []
    rpc = OriginalRpc(lambda text: None, lambda method, params: told.append(method))
    calls = [asyncio.ensure_future(rpc.call("getDoc", DOC)) for _ in range(5)]
    await asyncio.sleep(0)
    rpc.receive('{"jsonrpc":"2.0","id":3}')
    rpc.receive('{"method":"told","id":2,"result":7}')
    rpc.receive('{"id":1,"result":1,"error":null}')
    rpc.receive('{"id":4,"error":{"code":410,"message":"gone","data":{"lastRev":1}}}')
    rpc.receive('{"id":9,"result":1}')
    rpc.receive('{"method":"told"}')
    rpc.receive("[1]")
    rpc.receive("{")  # rejects what is in flight
    first, second, third, gone, last = await asyncio.gather(*calls, return_exceptions=True)
    assert (second, third, told) == (7, None, ["told"])
    assert isinstance(first, JSONRPCError)
    assert isinstance(gone, StatusError)
    assert (gone.code, gone.data) == (410, {"lastRev": 1})
    assert isinstance(last, JSONRPCParseError)
    assert rpc.ignored == [{"id": 9, "result": 1}, [1]]


async def test_calls_in_flight_end_with_the_connection(world: World) -> None:
    ann = await world.original()
    ann.client.socket.deaf = True
    call = asyncio.ensure_future(ann.client.rpc.call("getDoc", DOC))
    await asyncio.sleep(0)
    ann.drop()
    with pytest.raises(NetworkError, match="Transport disconnected"):
        await call
    with pytest.raises(RuntimeError, match="not connected"):  # 12.5: no network error
        await ann.client.rpc.call("getDoc", DOC)

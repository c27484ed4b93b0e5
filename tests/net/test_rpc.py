"""JSON-RPC over frames (`docs/protocol.md`)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from patches.errors import (
    ForbiddenError,
    FrameTooLargeError,
    JSONRPCError,
    JSONRPCParseError,
    NetworkError,
    StatusError,
)
from patches.model import codec
from patches.net.rpc import RpcPeer, error_from_wire
from patches.testing.virtual_time import idle, virtual_time


class Wire:
    """What was sent, and whether sending works."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.up = True

    def send(self, frame: bytes) -> None:
        if not self.up:
            raise NetworkError("down")
        self.frames.append(json.loads(frame))


def answer(peer: RpcPeer, **message: Any) -> None:
    peer.receive(codec.encode({"jsonrpc": "2.0", **message}))


@pytest.mark.parametrize(("kind", "doing"), [("READ", "reading"), ("WRITE", "writing to")])
def test_a_refused_right_is_told_in_words(kind: str, doing: str) -> None:
    error = error_from_wire({"code": 403, "message": f"{kind}_FORBIDDEN:t"})
    assert isinstance(error, ForbiddenError)
    assert str(error) == (f"the server does not allow {doing} document 't' ({kind}_FORBIDDEN:t)")


@virtual_time
async def test_parameters_are_positional_and_trailing_absent_ones_left_out() -> None:
    wire = Wire()
    peer = RpcPeer(wire.send)
    calls = [
        asyncio.ensure_future(call)
        for call in (peer.call("a"), peer.call("b", "x", None), peer.call("c", None, 1, None))
    ]
    await idle()
    assert wire.frames == [
        {"jsonrpc": "2.0", "id": 1, "method": "a"},
        {"jsonrpc": "2.0", "id": 2, "method": "b", "params": ["x"]},
        {"jsonrpc": "2.0", "id": 3, "method": "c", "params": [None, 1]},
    ]
    peer.reject_all(NetworkError("end"))
    await asyncio.gather(*calls, return_exceptions=True)


@virtual_time
async def test_answers_are_matched_by_id_in_any_order() -> None:
    peer = RpcPeer(Wire().send)
    first, second = (asyncio.ensure_future(peer.call(name)) for name in ("a", "b"))
    await idle()
    answer(peer, id=True, result="nobody's")
    answer(peer, id=2, result="second")
    answer(peer, id=1)
    assert (await first, await second) == (None, "second")


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"code": 410, "message": "gone", "data": {"lastRev": 3}}, StatusError, 410),
        ({"code": 403, "message": "no"}, ForbiddenError, 403),
        ({"code": -32000, "message": "broken"}, JSONRPCError, -32000),
        ({"code": 0}, JSONRPCError, -32000),
        ({"code": True, "message": "odd"}, JSONRPCError, -32000),
        (None, JSONRPCError, -32000),
        ("text", JSONRPCError, -32000),
    ],
    ids=str,
)
def test_an_error_becomes_the_exception_its_code_calls_for(
    error: Any, kind: type[Exception], code: int
) -> None:
    got = error_from_wire(error)
    assert isinstance(got, kind)
    assert got.code == code
    if isinstance(error, dict) and "message" not in error:
        assert str(got) == "Unknown error"


@virtual_time
async def test_an_error_key_means_failure_even_when_it_is_null() -> None:
    peer = RpcPeer(Wire().send)
    call = asyncio.ensure_future(peer.call("a"))
    await idle()
    answer(peer, id=1, error=None, result=5)
    with pytest.raises(JSONRPCError):
        await call


@virtual_time
async def test_a_frame_that_is_not_json_rejects_all_in_flight_and_later_calls_work() -> None:
    peer = RpcPeer(Wire().send)
    calls = [asyncio.ensure_future(peer.call(name)) for name in ("a", "b")]
    await idle()
    peer.receive("{nonsense " + "x" * 300)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, JSONRPCParseError) for result in results)
    assert isinstance(results[0], JSONRPCParseError)
    assert results[0].raw.startswith("{nonsense")
    assert len(str(results[0])) < 250
    later = asyncio.ensure_future(peer.call("c"))
    await idle()
    answer(peer, id=3, result=1)
    assert await later == 1


@virtual_time
async def test_silence_of_thirty_seconds_is_a_network_error_and_the_late_answer_ignored() -> None:
    peer = RpcPeer(Wire().send)
    with pytest.raises(NetworkError, match="no answer to slow in 30 s"):
        await peer.call("slow")
    assert asyncio.get_running_loop().time() == 30
    answer(peer, id=1, result="late")
    call = asyncio.ensure_future(peer.call("next"))
    await idle()
    answer(peer, id=2, result="next")
    assert await call == "next"


@virtual_time
async def test_a_lost_connection_rejects_every_call() -> None:
    wire = Wire()
    peer = RpcPeer(wire.send, max_in_flight=1)
    calls = [asyncio.ensure_future(peer.call(name)) for name in ("sent", "waiting")]
    await idle()
    peer.reject_all(NetworkError("Transport disconnected"))
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, NetworkError)
    assert [frame["method"] for frame in wire.frames] == ["sent"]  # nor is it sent afterwards


@virtual_time
async def test_a_call_on_a_closed_socket_is_a_network_error_and_leaves_nothing() -> None:
    wire = Wire()
    peer = RpcPeer(wire.send, max_in_flight=1)
    wire.up = False
    for _ in range(3):
        with pytest.raises(NetworkError, match="down"):
            await peer.call("a")
    wire.up = True
    call = asyncio.ensure_future(peer.call("b"))
    await idle()
    answer(peer, id=4, result="ok")
    assert await call == "ok"


@virtual_time
async def test_more_calls_than_the_server_takes_at_once_wait_for_their_turn() -> None:
    wire = Wire()
    peer = RpcPeer(wire.send, max_in_flight=2)
    calls = [asyncio.ensure_future(peer.call(name)) for name in "abcd"]
    await idle()
    assert [frame["method"] for frame in wire.frames] == ["a", "b"]
    await asyncio.sleep(29)
    answer(peer, id=2, result="b")
    await idle()
    assert [frame["method"] for frame in wire.frames] == ["a", "b", "c"]
    calls[3].cancel()
    answer(peer, id=1, result="a")
    await asyncio.sleep(29)  # what waited for its turn has its 30 s from then on
    answer(peer, id=3, result="c")
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[:3] == ["a", "b", "c"]
    assert [frame["method"] for frame in wire.frames] == ["a", "b", "c"]


@virtual_time
async def test_a_frame_too_large_is_told_to_the_largest_call_alone() -> None:
    peer = RpcPeer(Wire().send)
    small = asyncio.ensure_future(peer.call("small", "x"))
    large = asyncio.ensure_future(peer.call("large", "x" * 1000))
    await idle()
    peer.reject_all(FrameTooLargeError("1009"))
    with pytest.raises(FrameTooLargeError):
        await large
    with pytest.raises(NetworkError) as lost:
        await small
    assert not isinstance(lost.value, FrameTooLargeError)


@virtual_time
async def test_notifications_go_to_subscribers_and_odd_frames_are_ignored() -> None:
    peer = RpcPeer(Wire().send)
    got: list[Any] = []
    peer.on_notification(lambda method, params: got.append((method, params)))
    answer(peer, method="docDeleted", params={"docId": "d"})
    answer(peer, method="odd", id=7)  # an id makes it an answer, to nobody
    answer(peer, nothing=1)
    for frame in ("[]", "3", "null", '{"id":"text","result":1}', '{"id":1.5,"result":1}'):
        peer.receive(frame)
    assert got == [("docDeleted", {"docId": "d"})]


@virtual_time
async def test_a_cancelled_call_is_forgotten() -> None:
    peer = RpcPeer(Wire().send)
    call = asyncio.ensure_future(peer.call("a"))
    await idle()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    answer(peer, id=1, result="late")


@virtual_time
async def test_one_timer_serves_all_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    made, call_at = 0, loop.call_at

    def counted(*args: Any, **options: Any) -> asyncio.TimerHandle:
        nonlocal made
        made += 1
        return call_at(*args, **options)

    monkeypatch.setattr(loop, "call_at", counted)
    sent: list[bytes] = []
    peer = RpcPeer(sent.append)
    for number in range(1, 101):
        call = asyncio.ensure_future(peer.call("m"))
        await idle()
        peer.receive(b'{"id":%d,"result":%d}' % (number, number))
        assert await call == number
    assert made == 1


@virtual_time
async def test_large_answers_over_a_slow_line_are_no_silence_but_not_for_ever() -> None:
    peer = RpcPeer(lambda _frame: None)
    calls = [asyncio.ensure_future(peer.call("getDoc")) for _ in range(6)]
    for number in range(1, 5):
        await asyncio.sleep(25)
        peer.receive(b'{"id":%d,"result":1}' % number)
        assert await calls[number - 1] == 1
    assert not calls[5].done()
    for call in calls[4:]:
        with pytest.raises(NetworkError, match="no answer to getDoc in 30 s"):
            await call
    assert asyncio.get_running_loop().time() == 120

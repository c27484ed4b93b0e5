"""The memory that frames may take, all together."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

from patches.limits import Limits
from patches.testing.virtual_time import idle, virtual_time
from patches_server.service.memory_budget import MemoryBudget
from patches_server.wire.frames import memory_needed, parse_frame


async def test_what_does_not_fit_waits_in_order() -> None:
    budget = MemoryBudget(100)
    first, second = await budget.take(60), await budget.take(40)
    waiting = [asyncio.ensure_future(budget.take(amount)) for amount in (50, 10)]
    first.give_back()
    await idle()
    assert [each.done() for each in waiting] == [True, True]
    assert budget.taken == 100
    second.give_back()
    second.give_back()
    assert budget.taken == 60


async def test_the_small_do_not_overtake_the_large() -> None:
    budget = MemoryBudget(100)
    first = await budget.take(60)
    large, small = (asyncio.ensure_future(budget.take(amount)) for amount in (500, 10))
    await idle()
    assert not small.done()
    first.give_back()
    await idle()
    assert (large.done(), small.done()) == (True, False), "more than all is let through alone"
    (await large).give_back()
    await small


async def test_who_is_cancelled_leaves_its_place() -> None:
    budget = MemoryBudget(100)
    first = await budget.take(100)
    gone, there = (asyncio.ensure_future(budget.take(100)) for _ in range(2))
    await idle()
    gone.cancel()
    await idle()
    first.give_back()
    there.cancel()  # in the turn in which its share came
    await idle()
    assert budget.taken == 0


@virtual_time
async def test_a_share_is_given_back_in_time_whatever_its_taker_waits_for() -> None:
    budget = MemoryBudget(100)
    share = await budget.take(100)
    share.give_back_within(10)
    await asyncio.sleep(9)
    assert budget.taken == 100
    await asyncio.sleep(2)
    assert budget.taken == 0
    share.give_back()
    assert budget.taken == 0


def test_the_estimate_is_no_less_than_what_parsing_takes() -> None:
    parts = {
        "lists": "[]",
        "objects": "{}",
        "members": '{"a":1}',
        "numbers": "1.5",
        "large numbers": "123456789",
        "strings": '"abc"',
        "operations": '{"op":"replace","path":"/title/of/it","value":"x"}',
    }
    for name, part in parts.items():
        frame = b"[" + b",".join([part.encode()] * 20_000) + b"]"
        tracemalloc.start()
        try:
            value = parse_frame(b'{"method":"m","id":1,"params":' + frame + b"}", 128)
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert value is not None
        assert taken < memory_needed(frame), name


async def test_frames_are_parsed_as_their_memory_allows(serve: Any) -> None:
    connect = await serve(limits=Limits(max_parsed_bytes=1_000_000))
    most = 0
    take = connect.server.memory.take

    async def watched(amount: int) -> Any:
        nonlocal most
        share = await take(amount)
        most = max(most, connect.server.memory.taken)
        return share

    connect.server.memory.take = watched
    peers = [connect() for _ in range(4)]
    frame = b"[" + b",".join([b"[]"] * 20_000) + b"]"
    await asyncio.gather(*(peer.send(frame) for peer in peers for _ in range(3)))
    for peer in peers:
        answers = [await peer.next() for _ in range(3)]
        assert [answer["error"]["code"] for answer in answers] == [-32600] * 3
    assert 0 < most <= memory_needed(frame), "each of them needs more than all may have"
    assert connect.server.memory.taken == 0


async def test_a_large_commit_gives_its_share_back_when_it_is_answered(serve: Any) -> None:
    connect = await serve()
    change = {"id": "c1", "ops": [{"op": "replace", "path": "/a", "value": "x" * 100_000}]}
    assert "result" in await connect().call("commitChanges", "d", [change])
    await idle()
    assert connect.server.memory.taken == 0

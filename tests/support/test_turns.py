"""The meter of what runs between two turns of the event loop."""

from __future__ import annotations

import asyncio
import sys

from tests.support.turns import TurnMeter


def lines(count: int) -> int:
    total = 0
    for number in range(count):
        total += number
    return total


async def test_lines_are_counted_from_turn_to_turn() -> None:
    with TurnMeter() as meter:
        for _ in range(10):
            lines(1_000)
            await asyncio.sleep(0)
    assert 2_000 <= meter.longest < 3_000
    with TurnMeter() as meter:
        for _ in range(10):
            lines(1_000)
    assert meter.longest > 20_000


async def test_what_runs_in_a_thread_is_not_counted() -> None:
    with TurnMeter() as meter:
        await asyncio.to_thread(lines, 100_000)
    assert meter.longest < 2_000


async def test_the_tracing_of_others_is_put_back() -> None:
    before = sys.gettrace()
    with TurnMeter():
        assert sys.gettrace() != before
    assert sys.gettrace() == before

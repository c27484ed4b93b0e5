"""Token buckets and gates."""

from __future__ import annotations

import asyncio

import pytest

from patches.errors import UnavailableError
from patches_server.documents.concurrency_limit import ConcurrencyLimit
from patches_server.service.rates import TokenBucket


def test_a_burst_is_served_and_then_the_wait_is_told() -> None:
    bucket = TokenBucket(2.0, 4, now=0.0)
    assert [bucket.take(1, now=0.0) for _ in range(4)] == [0.0] * 4
    assert bucket.take(1, now=0.0) == pytest.approx(0.5)
    assert bucket.take(1, now=0.5) == 0.0


def test_it_never_holds_more_than_the_burst() -> None:
    bucket = TokenBucket(1.0, 2, now=0.0)
    assert bucket.take(2, now=1_000.0) == 0.0
    assert bucket.take(1, now=1_000.0) == 1.0


def test_more_than_the_burst_passes_when_it_is_full_and_is_paid_for_later() -> None:
    bucket = TokenBucket(1.0, 2, now=0.0)
    assert bucket.take(10, now=0.0) == 0.0
    assert bucket.take(1, now=0.0) == pytest.approx(9.0)


def test_no_rate_is_no_limit() -> None:
    bucket = TokenBucket(None, 0, now=0.0)
    assert all(bucket.take(1e9, now=0.0) == 0.0 for _ in range(100))


async def test_a_gate_lets_a_few_through_a_few_wait_and_refuses_the_rest() -> None:
    gate, leave = ConcurrencyLimit(1, queue=1), asyncio.Event()
    inside: list[int] = []

    async def enter(number: int) -> None:
        async with gate():
            inside.append(number)
            await leave.wait()

    async with asyncio.TaskGroup() as tasks:
        for number in (1, 2):
            tasks.create_task(enter(number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert inside == [1]
        with pytest.raises(UnavailableError, match="too many"):
            await enter(3)
        leave.set()
    assert inside == [1, 2]
    await enter(4)

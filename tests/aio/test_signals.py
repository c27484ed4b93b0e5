"""Signals: in order, each on its own, and async ones in the owner's tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from patches.aio.signals import Signal
from patches.aio.tasks import TaskScope
from patches.testing.virtual_time import idle, virtual_time


def test_subscribers_are_told_in_order_until_they_unsubscribe() -> None:
    signal: Signal[[int]] = Signal("on_number")
    told: list[Any] = []
    end = signal(lambda n: told.append(("first", n)))
    signal(lambda n: told.append(("second", n)))
    signal.emit(1)
    end()
    end()
    signal.emit(2)
    assert told == [("first", 1), ("second", 1), ("second", 2)]


def test_a_function_subscribes_once() -> None:
    signal: Signal[[int]] = Signal("on_number")
    told: list[int] = []
    signal(told.append)
    signal(told.append)
    signal.emit(1)
    assert told == [1]


def test_it_decorates_and_is_true_while_somebody_listens() -> None:
    signal: Signal[[]] = Signal("on_event")
    assert not signal

    @signal
    def listener() -> None:
        return None

    assert signal
    signal.clear()
    assert not signal
    signal.emit()


def test_one_that_raises_is_reported_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    signal: Signal[[int]] = Signal("on_number")
    told: list[int] = []
    signal(lambda n: n / 0)
    signal(told.append)
    signal.emit(1)
    assert told == [1]
    assert "on_number" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_who_subscribes_or_leaves_while_it_is_told_counts_from_the_next_time() -> None:
    signal: Signal[[int]] = Signal("on_number")
    told: list[Any] = []

    def first(n: int) -> None:
        end()
        signal(lambda n: told.append(("new", n)))

    signal(first)
    end = signal(lambda n: told.append(("old", n)))
    signal.emit(1)
    assert told == [("old", 1)]
    signal.emit(2)
    assert ("new", 2) in told
    assert ("old", 2) not in told


@virtual_time
async def test_async_subscribers_go_on_in_the_owners_tasks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = TaskScope("owner")
    tasks.start()
    signal: Signal[[int]] = Signal("on_number", spawn=tasks.spawn)
    told: list[int] = []

    async def later(n: int) -> None:
        await asyncio.sleep(1)
        told.append(n)

    async def broken(n: int) -> None:
        raise LookupError("mine")

    signal(later)
    signal(broken)
    signal.emit(1)
    assert told == []
    await asyncio.sleep(2)
    assert told == [1]
    assert "mine" in caplog.text
    signal.emit(2)
    await tasks.close()
    assert told == [1], "closing the owner ends them"


@virtual_time
async def test_emit_and_wait_waits_for_all_and_raises_for_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    signal: Signal[[int]] = Signal("on_number")
    told: list[Any] = []

    async def later(n: int) -> None:
        await asyncio.sleep(n)
        told.append(n)

    def future(n: int) -> asyncio.Future[None]:
        made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(2, made.set_exception, LookupError("mine"))
        return made

    signal(later)
    signal(future)
    signal(told.append)
    await signal.emit_and_wait(3)
    assert told == [3, 3]
    assert "mine" in caplog.text


@virtual_time
async def test_without_an_owner_async_subscribers_are_reported_and_not_left_unawaited(
    caplog: pytest.LogCaptureFixture,
) -> None:
    signal: Signal[[int]] = Signal("on_number")

    async def never(n: int) -> None:
        raise AssertionError

    signal(never)
    signal.emit(1)
    assert "needs a running owner" in caplog.text


@virtual_time
async def test_tell_tells_one_subscriber_only() -> None:
    spawned: list[Coroutine[Any, Any, Any]] = []
    signal: Signal[[int]] = Signal("on_number", spawn=spawned.append)
    told: list[int] = []

    async def later(n: int) -> None:
        told.append(n)

    signal(told.append)
    signal.notify(told.append, 1)
    signal.notify(later, 2)
    await spawned.pop()
    await idle(2)
    assert told == [1, 2]

"""The one task of an object, which owns its others."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from patches.aio.tasks import Reported, TaskScope
from patches.testing.virtual_time import idle, virtual_time


@virtual_time
async def test_one_task_that_fails_is_reported_and_the_others_go_on() -> None:
    failures: list[Exception] = []
    done: list[str] = []
    tasks = TaskScope("owner", on_error=failures.append)

    async def work(name: str) -> None:
        await asyncio.sleep(1)
        done.append(name)

    async def fail() -> None:
        raise LookupError("mine")

    tasks.start()
    tasks.spawn(work("early"))  # before the scope's own task has had a turn
    tasks.spawn(fail())
    await idle()
    tasks.spawn(work("late"), name="late")
    await asyncio.sleep(5)
    assert done == ["early", "late"]
    assert [str(failure) for failure in failures] == ["mine"]
    assert tasks.running
    await tasks.close()
    assert not tasks.running


@virtual_time
async def test_a_failure_that_nobody_takes_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise LookupError("mine")

    tasks = TaskScope("owner")
    tasks.start()
    tasks.spawn(fail())
    await idle()
    await tasks.close()
    assert "LookupError: mine" in caplog.text


@virtual_time
async def test_closing_cancels_every_task_and_waits_for_its_end() -> None:
    ended: list[str] = []
    tasks = TaskScope("owner")

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(1)
            ended.append(name)

    tasks.start()
    tasks.start()
    for name in "ab":
        tasks.spawn(work(name))
    await idle()
    await tasks.close()
    assert sorted(ended) == ["a", "b"]
    await tasks.close()


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_nothing_is_left_unawaited_when_closing_comes_at_once(turns: int) -> None:
    @virtual_time
    async def run() -> None:
        async def work() -> None:
            await asyncio.sleep(100)
            raise AssertionError

        tasks = TaskScope("owner")
        tasks.start()
        await idle(turns)
        tasks.spawn(work())
        await tasks.close()
        tasks.spawn(work())

    run()  # an unawaited coroutine would be a warning, and so an error


@virtual_time
async def test_a_scope_can_be_started_again() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    tasks = TaskScope("owner")
    for _ in range(2):
        tasks.start()
        tasks.spawn(work())
        await idle()
        await tasks.close()
    assert done == [1, 1]


async def fail() -> None:
    raise LookupError("mine")


async def succeed() -> int:
    await asyncio.sleep(0)
    return 5


@virtual_time
async def test_what_is_spawned_by_a_task_that_ends_with_the_scope_is_closed() -> None:
    tasks = TaskScope("owner")

    async def late() -> None:
        raise AssertionError("is not started any more")

    spawned = late()

    async def work() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            tasks.spawn(spawned)

    tasks.start()
    await idle()
    tasks.spawn(work(), name="work")
    await idle()
    scope = next(task for task in asyncio.all_tasks() if task.get_name() == "owner")
    scope.cancel()  # from outside, as at the end of the loop
    await asyncio.wait([scope])
    assert inspect.getcoroutinestate(spawned) == inspect.CORO_CLOSED


@pytest.mark.parametrize("awaited", [asyncio.create_task, lambda reported: reported])
@pytest.mark.parametrize(("work", "told"), [(fail, ["mine"]), (succeed, [])])
async def test_a_reported_coroutine_returns_nothing_and_raises_nothing(
    work: Callable[[], Any], told: list[str], awaited: Callable[[Any], Any]
) -> None:
    failures: list[Exception] = []
    result = await awaited(Reported(work(), failures.append))
    assert result is None
    assert [str(failure) for failure in failures] == told


async def test_cancelling_goes_through_to_what_is_wrapped() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.set()

    failures: list[Exception] = []
    for turns in (0, 2):
        task = asyncio.create_task(Reported(work(), failures.append))
        await idle(turns)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
    assert ended.is_set()
    assert not failures

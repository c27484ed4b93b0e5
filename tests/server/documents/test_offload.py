"""Work that is kept off the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from patches.limits import Limits
from patches.model.change import ChangeInput
from patches.runtime import Runtime
from patches_server.documents.offload import Offloader, steps_of, steps_of_encoded

T = TypeVar("T")


def changes(*ops: Any) -> list[ChangeInput]:
    return [ChangeInput(id=f"c{place}", ops=[op]) for place, op in enumerate(ops)]


@pytest.mark.parametrize(
    ("every_ms", "steps", "in_thread"),
    [(5, 2_000, False), (5, 2_001, True), (1, 401, True), (0, 1, True), (None, 10**9, False)],
)
async def test_small_work_is_done_at_once_and_large_work_in_a_thread(
    every_ms: int | None, steps: int, in_thread: bool
) -> None:
    work = Offloader(Runtime(), Limits(yield_every_ms=every_ms))
    thread = await work(steps, threading.current_thread)
    assert (thread is not threading.current_thread()) == in_thread


async def test_what_it_raises_is_raised() -> None:
    for steps in (1, 10_000, 10**6):
        with pytest.raises(ZeroDivisionError):
            await Offloader(Runtime(), Limits())(steps, lambda: 1 / 0)


async def test_long_work_shares_two_threads_and_shorter_work_does_not_wait_for_it() -> None:
    go_on, running = asyncio.Event(), 0

    async def run_blocking(fn: Callable[[], T], /) -> T:
        nonlocal running
        running += 1
        await go_on.wait()
        return fn()

    offload = Offloader(Runtime(run_blocking=run_blocking), Limits())
    async with asyncio.TaskGroup() as tasks:
        long = [tasks.create_task(offload(10**6, lambda: "done")) for _ in range(5)]
        await asyncio.sleep(0)
        assert running == 2
        short = [tasks.create_task(offload(10**5, lambda: "done")) for _ in range(5)]
        await asyncio.sleep(0)
        assert running == 7
        go_on.set()
    assert {task.result() for task in [*long, *short]} == {"done"}


def test_steps_are_those_of_the_values_wherever_they_are() -> None:
    assert steps_of(changes({"op": "replace", "path": "/a", "value": 1})) < 10
    for value in ([0] * 5_000, {"a": [[[1, 2]] * 5_000]}, dict.fromkeys(map(str, range(5_000)))):
        assert steps_of(changes({"op": "replace", "path": "/a", "value": value})) > 2_500
    assert steps_of(changes(*[{}] * 3_000)) >= 3_000
    assert steps_of(changes(None, "x", 7)) < 10, "what is no operation is refused later"


def test_steps_of_what_is_stored_are_those_of_its_bytes() -> None:
    class Row:
        encoded = b"x" * 1_600

    assert steps_of_encoded([Row()]) == 104
    assert steps_of_encoded([Row()] * 10_000) >= 40_000

from __future__ import annotations

import asyncio

import pytest

from patches_server.documents.kept_tasks import KeptTasks


async def test_work_goes_on_when_its_caller_is_cancelled() -> None:
    tasks, begun, go_on = KeptTasks("work"), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        begun.set()
        await go_on.wait()
        return "done"

    kept = tasks.start(work())
    caller = asyncio.ensure_future(asyncio.shield(kept))
    await begun.wait()
    caller.cancel()
    assert tasks
    go_on.set()
    assert await kept == "done"
    await asyncio.sleep(0)
    assert not tasks
    assert caller.cancelled()


async def test_what_it_raises_is_for_those_who_wait() -> None:
    tasks = KeptTasks("work")

    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await tasks.start(fail())
    tasks.start(fail())  # and nobody has to fetch it
    await asyncio.sleep(0.01)
    assert not tasks

"""A commit that nobody waits for any more leaves no thread at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from patches.limits import Limits
from patches.model.json_values import Op
from patches.runtime import Runtime
from patches_server.ot import commit


async def test_a_long_transform_ends_when_its_call_is_cancelled(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    raised: list[BaseException] = []

    def never_done(*_: Any, checkpoint: Callable[[], object], **__: Any) -> None:
        loop.call_soon_threadsafe(started.set)
        while True:
            checkpoint()

    async def run_blocking(fn: Callable[[], Any], /) -> Any:
        def work() -> Any:
            try:
                return fn()
            except Exception as exc:
                raised.append(exc)
                raise
            finally:
                loop.call_soon_threadsafe(ended.set)

        return await loop.run_in_executor(None, work)

    world.runtime = Runtime(
        wall_ms=lambda: world.now, random=world.runtime.random, run_blocking=run_blocking
    )
    world.serve(limits=Limits(yield_every_ms=0))
    await world.create({"l": list(range(50))})
    moves: list[Op] = [{"op": "move", "from": "/l/3", "path": "/l/7"} for _ in range(20)]
    await world.commit(world.change("moves", moves, base_rev=1), client="u2")
    monkeypatch.setattr(commit, "transform_incoming_changes", never_done)
    removes: list[Op] = [{"op": "remove", "path": "/l/0"} for _ in range(20)]
    started.clear()
    late = asyncio.create_task(world.commit(world.change("removes", removes, base_rev=1)))
    async with asyncio.timeout(10):
        await started.wait()
        ended.clear()
        late.cancel()
        with pytest.raises(asyncio.CancelledError):
            await late
        await ended.wait()
    assert [type(exc).__name__ for exc in raised] == ["_AbandonedError"]
    assert len(await world.ids()) == 2  # the document and the moves

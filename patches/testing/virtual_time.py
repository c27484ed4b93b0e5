"""An event loop whose clock jumps: ten hours of waiting take no time.

When nothing is ready to run, the clock moves to the next timer. Code that waits for nothing but
timers, futures and queues runs as it would, in the same order every time. Sockets and threads work,
but know nothing of the jumps: a thread that takes a real millisecond may be a virtual hour late.

    @virtual_time
    async def test_an_hour_passes() -> None:
        await asyncio.sleep(3600)
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec

P = ParamSpec("P")

#: Real seconds to wait for a socket or a thread when no timer is set, before giving up.
PATIENCE_S: Final = 5.0


class NothingWillHappenError(RuntimeError):
    """Every task waits, no timer is set, and nothing comes from outside: a deadlock."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, at 0 when it is made."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._skipping.now


def virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Make an async test function a plain one that runs on a `VirtualTimeLoop`.

    Tasks that are still there when the test has ended fail it: whoever started them did not wait.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def checked() -> None:
            await test(*args, **kwargs)
            await idle(5)
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert not left, f"left running: {sorted(task.get_name() for task in left)}"

        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(checked())

    return run


class _SkippingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            ready = super().select(PATIENCE_S)
            if not ready:
                raise NothingWillHappenError("every task waits and nothing will wake one")
            return ready
        self.now += max(timeout, 0.0)
        return ready


async def idle(turns: int = 50) -> None:
    """Let everything run that can run now, without moving the clock."""
    for _ in range(turns):
        await asyncio.sleep(0)

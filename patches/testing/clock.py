"""`FakeClock`: time that stands still in a test until the test moves it.

It takes over the clock of the event loop that is running, and a `Runtime` shows the same time as
the wall clock, so that sleeping, timeouts, back-off and time stamps all agree:

    clock = FakeClock()
    clock.install()
    await clock.advance(3600)      # every timer of this hour fires, in order, at once

Only timers are moved. A socket or a thread takes the time that it takes, while the clock waits for
the threads of `clock.runtime`. Loops that are not asyncio's own (uvloop) cannot be taken over.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from patches.runtime import Millis, Runtime
from patches.testing.virtual_time import PATIENCE_S, NothingWillHappenError

T = TypeVar("T")

#: Where a fake wall clock begins: 2026-01-01, midnight, UTC.
NEW_YEAR: Final[Millis] = 1_767_225_600_000


class FakeClock:
    """The time of one test. One event loop at a time is under it."""

    def __init__(self, *, wall_ms: Millis = NEW_YEAR, seed: int = 0) -> None:
        self._began_ms = wall_ms
        self._began = self._now = 0.0
        self._until = float("-inf")
        self._running = 0
        self._threads = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._selector: Any = None
        #: What `Patches` and servers are to be given, so that they live in this time. Its random
        #: numbers come from the seed.
        self.runtime: Final = Runtime(
            wall_ms=lambda: self.wall_ms,
            random=random.Random(seed),
            run_blocking=self._in_thread,
        )

    @property
    def wall_ms(self) -> Millis:
        """Unix time in milliseconds, in this test."""
        return self._began_ms + round((self._now - self._began) * 1000)

    @property
    def elapsed_s(self) -> float:
        """How far the clock was moved, in seconds."""
        return self._now - self._began

    async def advance(self, seconds: float) -> None:
        """Move the clock. Everything that is due on the way happens, each at its time."""
        self.install()
        self._until = max(self._until, self._now + seconds)
        await asyncio.sleep(seconds)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within this block the clock jumps to the next timer whenever everything waits."""
        self.install()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def install(self) -> None:
        """Take over the running event loop's clock. The fixtures do it. Twice does nothing."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("this clock is another event loop's already")
        selector = getattr(loop, "_selector", None)  # asyncio has no public way to set its clock
        if selector is None:
            raise RuntimeError(f"a fake clock needs one of asyncio's own event loops, not {loop!r}")
        elapsed_s = self.elapsed_s
        self._loop, self._selector = loop, selector
        self._now = loop.time()
        self._began = self._now - elapsed_s
        loop._selector = _Selector(self, selector)  # type: ignore[attr-defined]  # see above
        loop.time = lambda: self._now  # type: ignore[method-assign]  # see above

    def uninstall(self) -> None:
        """Give the event loop its own clock back. Without one, it does nothing."""
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            loop._selector = self._selector  # type: ignore[attr-defined]  # see `install`
            del loop.time

    def select(self, timeout: float | None) -> list[Any]:
        """What is ready, for the event loop; moves the clock if nothing is."""
        ready: list[Any] = self._selector.select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None and not self._threads and self._may_move:
            step = timeout if self._running else min(timeout, self._until - self._now)
            self._now += max(step, 1e-6)
            return []
        ready = self._selector.select(PATIENCE_S)
        if not ready and not self._threads:
            self._running += 1  # for whatever is to be ended now
            raise NothingWillHappenError(
                "every task waits, and the clock stands still: move it, `await clock.advance(s)`"
            )
        return ready

    @property
    def _may_move(self) -> bool:
        return self._running > 0 or self._now < self._until

    async def _in_thread(self, fn: Callable[[], T], /) -> T:
        self._threads += 1
        try:
            return await asyncio.to_thread(fn)
        finally:
            self._threads -= 1


class _Selector:
    """An event loop's selector, asked through the clock."""

    def __init__(self, clock: FakeClock, selector: Any) -> None:
        self._clock = clock
        self._own = selector

    def select(self, timeout: float | None = None) -> list[Any]:
        return self._clock.select(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

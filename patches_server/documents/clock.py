"""`ServerClock`: the time that a server stamps on what it commits; it never runs backwards.

The later of the wall clock and the last time that a commit was stored with: otherwise, after the
wall clock was set back, every new last-write-wins write would lose to rows "from the future"
(`docs/internals/reliability.md` 1.3).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Protocol

from patches.runtime import Millis, Runtime

_log = logging.getLogger("patches_server.clock")

_JUMP_MS: Final = 600_000


class KeepsTime(Protocol):
    """A store that remembers the server time of its latest write."""

    async def last_server_time(self) -> Millis:
        """That time, 0 if nothing was written yet."""


class ServerClock:
    """One document server's clock, over its store's memory. `jumps` counts leaps of the wall."""

    def __init__(self, store: KeepsTime, runtime: Runtime) -> None:
        self._store = store
        self._runtime = runtime
        self._last: Millis | None = None
        self._last_wall: Millis | None = None
        self._last_monotonic = 0.0
        self.jumps: int = 0

    async def now(self) -> Millis:
        """Unix milliseconds, never less than the call before, nor than what is stored."""
        if self._last is None:
            self._last = await self._store.last_server_time()
        return self._read(self._last)

    def now_at_once(self) -> Millis | None:
        """The same without waiting; `None` until the store was read once."""
        return None if self._last is None else self._read(self._last)

    def _read(self, last: Millis) -> Millis:
        wall = self._runtime.wall_ms()
        # Less than a leap after the last look it cannot have leapt.
        if self._last_wall is None or not 0 <= wall - self._last_wall <= _JUMP_MS:
            self._watch(wall)
        self._last = wall if wall > last else last
        return self._last

    def _watch(self, wall: Millis) -> None:
        monotonic = asyncio.get_running_loop().time()
        if self._last_wall is not None:
            leap = (wall - self._last_wall) - (monotonic - self._last_monotonic) * 1000
            if leap > _JUMP_MS:
                self.jumps += 1
                _log.warning("the wall clock jumped forward by %d s", leap // 1000)
        self._last_wall, self._last_monotonic = wall, monotonic

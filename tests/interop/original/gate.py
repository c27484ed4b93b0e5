"""`SerialGate`: one run for each key at a time; calls meanwhile make exactly one more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from patches.aio.tasks import TaskScope


class SerialGate:
    """Runs `run(key)` in tasks of `scope`."""

    def __init__(
        self,
        scope: TaskScope,
        run: Callable[[str], Awaitable[None]],
        on_done: Callable[[], object],
    ) -> None:
        self._scope, self._run, self._on_done = scope, run, on_done
        self._running: dict[str, asyncio.Future[None]] = {}
        self._again: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether anything runs."""
        return bool(self._running)

    def call(self, key: str) -> asyncio.Future[None]:
        """Start a run, or join the one under way and make one more follow it."""
        if key in self._running:
            self._again.add(key)
            return self._running[key]
        done = self._running[key] = asyncio.get_running_loop().create_future()
        self._scope.spawn(self._through(key, done), name=f"gate of {key}")
        return done

    async def _through(self, key: str, done: asyncio.Future[None]) -> None:
        try:
            await self._run(key)
        finally:
            del self._running[key]
            if not done.done():
                done.set_result(None)
            if key in self._again:
                self._again.discard(key)
                if self._scope.running:
                    self.call(key)
            self._on_done()

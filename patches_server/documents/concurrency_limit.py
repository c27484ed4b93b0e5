"""`Gate`: what is dear is done by a few at once, while a bounded number waits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from patches.errors import UnavailableError
from patches.limits import Limits

_QUEUE: Final = 1_000


class Gate:
    """Lets `at_once` through together and `queue` wait; more than that is 503."""

    def __init__(self, at_once: int, *, queue: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._queue = queue
        self._waiting = 0

    @classmethod
    def of_snapshots(cls, limits: Limits) -> Gate:
        """For answers as large as whole documents (`max_concurrent_snapshots`)."""
        return cls(limits.max_concurrent_snapshots or 2 * (os.cpu_count() or 1), queue=_QUEUE)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        if self._waiting >= self._queue and self._free.locked():
            raise UnavailableError("too many documents are being loaded", {"reason": "BUSY"})
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()

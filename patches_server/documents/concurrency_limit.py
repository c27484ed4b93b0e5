"""`ConcurrencyLimit`: at most `limit` expensive calls run at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from patches.errors import UnavailableError
from patches.limits import Limits

_QUEUE: Final = 1_000


class ConcurrencyLimit:
    """At most `limit` calls run at once; up to `queue` more wait, the rest get 503."""

    def __init__(self, limit: int, *, queue: int) -> None:
        self._free = asyncio.Semaphore(limit)
        self._queue = queue
        self._waiting = 0

    @classmethod
    def of_snapshots(cls, limits: Limits) -> ConcurrencyLimit:
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

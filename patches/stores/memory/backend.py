"""`MemoryBackend`: the stores of all algorithms, in memory."""

from __future__ import annotations

from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.runtime import Runtime


class MemoryBackend:
    """What a client keeps while it runs, and loses when it ends."""

    def __init__(self, *, runtime: Runtime | None = None) -> None:
        runtime = runtime or Runtime()
        self.ot = OTMemoryStore(runtime=runtime)
        self.lww = LWWMemoryStore(runtime=runtime)

    async def close(self) -> None:
        """Nothing to close."""

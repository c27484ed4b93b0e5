"""`MemoryBackend`: the stores of a client, in memory."""

from __future__ import annotations

from typing import Any, TypeVar

from patches.runtime import Runtime
from patches.stores.backend import StoreFactory

T = TypeVar("T")


class MemoryBackend:
    """What a client keeps while it runs, and loses when it ends."""

    def __init__(self, *, runtime: Runtime | None = None) -> None:
        self._runtime = runtime or Runtime()
        #: The stores that were opened, by the name of their algorithm.
        self.stores: dict[str, Any] = {}

    def open_store(self, factory: StoreFactory[T]) -> T:
        """An algorithm's store."""
        if factory.name not in self.stores:
            self.stores[factory.name] = factory.make("memory", None, self._runtime)
        store: T = self.stores[factory.name]
        return store

    async def close(self) -> None:
        """Nothing to close."""

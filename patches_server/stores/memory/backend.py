"""`MemoryBackend`: everything a server keeps, in memory."""

from __future__ import annotations

from typing import Any, TypeVar

from patches.model.ids import random_id
from patches.runtime import Runtime
from patches.stores.backend import StoreFactory
from patches_server.documents.branch_store import MemoryBranches
from patches_server.documents.listing import ListedDoc
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import MemoryDocuments
from patches_server.documents.version_store import MemoryVersions

T = TypeVar("T")


class MemoryBackend:
    """The stores of all algorithms, and what they share. It is gone when the process ends."""

    def __init__(self, *, runtime: Runtime | None = None) -> None:
        self._runtime = runtime or Runtime()
        self._epoch = random_id(self._runtime.random, 12)
        self.documents: MemoryDocuments = MemoryDocuments(self._epoch)
        self.versions: MemoryVersions = MemoryVersions(self.documents)
        self.branches: MemoryBranches = MemoryBranches()
        #: The stores that were opened, by the name of their algorithm.
        self.stores: dict[str, Any] = {}

    def open_store(self, factory: StoreFactory[T]) -> T:
        """An algorithm's store. A maker is given this object."""
        if factory.name not in self.stores:
            self.stores[factory.name] = factory.make("memory", self, self._runtime)
        store: T = self.stores[factory.name]
        return store

    async def epoch(self) -> str:
        """The id of this memory."""
        return self._epoch

    async def algorithm_of(self, doc_id: str) -> str | None:
        """The algorithm that a document was first committed with, `None` if it does not exist."""
        return self.documents.algorithm_of(doc_id)

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in a document's place."""
        return self.documents.get_tombstone(doc_id)

    async def list_docs(
        self, prefix: str, *, after: str | None, limit: int, deleted: bool
    ) -> list[ListedDoc]:
        """See `ListsDocuments`."""
        return self.documents.list_docs(prefix, after=after, limit=limit, deleted=deleted)

    async def count_docs(self, prefix: str) -> int:
        """How many documents have ids with this prefix."""
        return self.documents.count_docs(prefix)

    async def close(self) -> None:
        """Nothing to close."""

"""`MemoryStore`: what every algorithm's store in memory shares with the others."""

from __future__ import annotations

from patches.runtime import Millis
from patches_server.documents.branch_store import MemoryBranches
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import MemoryDocuments
from patches_server.documents.version_store import MemoryVersions


class MemoryStore:
    """Tombstones, versions, branch records and the last server time. Makes what it is not given."""

    def __init__(
        self,
        documents: MemoryDocuments | None = None,
        versions: MemoryVersions | None = None,
        branches: MemoryBranches | None = None,
    ) -> None:
        self._documents = documents or MemoryDocuments()
        self.versions: MemoryVersions = versions or MemoryVersions(self._documents)
        self.branches: MemoryBranches = branches or MemoryBranches()

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        return self._documents.get_tombstone(doc_id)

    async def remove_tombstone(self, doc_id: str) -> bool:
        return self._documents.remove_tombstone(doc_id)

    async def last_server_time(self) -> Millis:
        return self._documents.last_server_time

"""`ReplayMemoryServerStore`: a replay server's documents in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from patches.errors import DuplicateChangeIdsError, RevConflictError
from patches.runtime import Millis
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import MemoryDocuments, require_algorithm
from patches_server.documents.version_store import MemoryVersions
from patches_server.replay.store import LoadedDoc, Logged
from patches_server.stores.memory.store import MemoryStore


@dataclass(slots=True)
class _Doc:
    rev: int = 0
    floor: int = 0
    state: bytes = b"{}"
    clock: tuple[int, int] = (0, 0)
    log: list[Logged] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)


class ReplayMemoryServerStore(MemoryStore):
    """A `ReplayServerStore` in memory; what it shares with other stores is given or its own."""

    def __init__(
        self, documents: MemoryDocuments | None = None, versions: MemoryVersions | None = None
    ) -> None:
        super().__init__(documents, versions)
        self._docs: dict[str, _Doc] = {}

    async def load(self, doc_id: str, *, now: Millis) -> LoadedDoc:
        self._documents.check_not_deleted(doc_id)
        doc = self._docs.get(doc_id)
        if doc is None:
            return LoadedDoc()
        return LoadedDoc(
            token=self._documents.token_of(doc_id),
            floor=doc.floor,
            state=doc.state,
            clock=doc.clock,
            log=list(doc.log),
            folded_ids=[(id, rev) for id, rev in doc.ids.items() if rev <= doc.floor],
        )

    async def append(
        self, doc_id: str, entries: Sequence[Logged], *, expected_rev: int, now: Millis
    ) -> str:
        self._documents.check_writable(doc_id, "replay")
        doc = self._docs.get(doc_id) or _Doc()
        if doc.rev != expected_rev:
            raise RevConflictError
        known = [entry.change.id for entry in entries if entry.change.id in doc.ids]
        if known:
            raise DuplicateChangeIdsError(doc_id, known)
        self._documents.written(doc_id, "replay", now=now)
        self._docs[doc_id] = doc
        for entry in entries:
            doc.rev = entry.change.rev
            doc.ids[entry.change.id] = entry.change.rev
            doc.log.append(entry)
        token = self._documents.token_of(doc_id)
        assert token is not None
        return token

    async def fold(
        self, doc_id: str, rev: int, state: bytes, clock: tuple[int, int], *, now: Millis
    ) -> None:
        self._documents.check_writable(doc_id, "replay")
        doc = self._docs.get(doc_id)
        if doc is not None and rev > doc.floor:
            doc.floor, doc.state, doc.clock = rev, state, clock
            doc.log = [entry for entry in doc.log if entry.change.rev > rev]

    async def get_current_rev(self, doc_id: str) -> int:
        doc = self._docs.get(doc_id)
        return 0 if doc is None else doc.rev

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        require_algorithm(doc_id, self._documents.algorithm_of(doc_id), "replay")
        self._docs.pop(doc_id, None)
        self._documents.forget_document(doc_id)
        if tombstone is not None:
            self._documents.put_tombstone(tombstone)

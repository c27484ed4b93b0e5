"""`TablesAlgorithm`: for algorithms whose transactions are functions over a document's tables.

Tracking is the same for all of them: a transaction under the document's lock, which is not held
over the network.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from patches.aio.keyed_locks import KeyedLocks
from patches.aio.signals import Signal
from patches.algorithms.base import Algorithm, SyncHost
from patches.algorithms.recovery import Recovery
from patches.errors import ErrorContext, PatchesError
from patches.limits import Limits
from patches.model.change import QuarantinedChange, TrackedDoc
from patches.runtime import Runtime
from patches.stores.backend import Backend, StoreFactory
from patches.stores.tables import TablesStore


class QuarantiningTables(Protocol):
    """What is the same in every algorithm's tables."""

    def discard_quarantined(self, change_id: str) -> None:
        """Forget a change in quarantine, if it is there."""


Tables = TypeVar("Tables", bound=QuarantiningTables)


@dataclass(frozen=True, slots=True)
class TrackingSteps(Generic[Tables]):
    """The transactions of tracking, but for the first."""

    committed_rev: Callable[[Tables], int]
    #: Forget all but the quarantine.
    untrack: Callable[[Tables], None]
    #: Leave a record of the deletion and nothing else; drop that record.
    mark_deleted: Callable[[Tables], None]
    confirm_deleted: Callable[[Tables], None]


class TablesAlgorithm(Algorithm, Generic[Tables]):
    """An algorithm over a `TablesStore`. `store` is usually left to `open_store`."""

    def __init__(
        self,
        store: TablesStore[Tables] | None,
        stores: StoreFactory[TablesStore[Tables]],
        tracking: TrackingSteps[Tables],
        *,
        runtime: Runtime | None,
        limits: Limits | None,
    ) -> None:
        self.on_error: Signal[[Exception, ErrorContext]] = Signal("on_error")
        self._given_store, self._stores, self._tracking = store, stores, tracking
        self._runtime = runtime or Runtime()
        self._limits = limits or Limits()
        self._locks = KeyedLocks()
        self._recovery = Recovery(self)

    def attach(self, host: SyncHost) -> None:
        self._recovery.host = host

    def open_store(self, backend: Backend) -> None:
        """Open this algorithm's store in a backend, unless it was built with one."""
        if self._given_store is None:
            self._given_store = backend.open_store(self._stores)

    @property
    def _store(self) -> TablesStore[Tables]:
        if self._given_store is None:
            raise PatchesError(
                f"the algorithm {self.name!r} has no store yet; pass one, or use it in Patches"
            )
        return self._given_store

    @abstractmethod
    async def track_docs(self, doc_ids: Sequence[str]) -> None: ...

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        """Forget these documents' local data. What is in quarantine stays."""
        for doc_id in doc_ids:
            async with self._locks(doc_id):
                await self._store.change(doc_id, self._tracking.untrack)
                self._forgotten(doc_id)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        """The tracked documents, and with `include_deleted` those whose deletion is unconfirmed."""
        return self._recovery.listed(await self._store.list_docs(include_deleted))

    async def get_committed_rev(self, doc_id: str) -> int:
        """The last revision known here, 0 if none."""
        return await self._store.read(doc_id, self._tracking.committed_rev)

    async def delete_doc(self, doc_id: str) -> None:
        """Replace the document's data by a tombstone until the server has deleted it too."""
        async with self._locks(doc_id):
            await self._store.change(doc_id, self._tracking.mark_deleted)
            self._forgotten(doc_id)

    async def confirm_delete_doc(self, doc_id: str) -> None:
        """Drop the tombstone."""
        async with self._locks(doc_id):
            await self._store.change(doc_id, self._tracking.confirm_deleted)

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """What is in quarantine, for one document or all."""
        return await self._store.list_quarantined(doc_id)

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        """Forget a quarantined change for good. Unknown ones are no error."""
        await self._store.change(doc_id, lambda tables: tables.discard_quarantined(change_id))

    def _forgotten(self, doc_id: str) -> None:
        """What is kept of a document in memory can be dropped."""

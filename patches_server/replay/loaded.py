"""`LoadedDocs`: the replay documents that are in memory, each with its rows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from patches.aio.keyed_locks import KeyedLocks
from patches_server.documents.clock import ServerClock
from patches_server.replay.logbook import Logbook
from patches_server.replay.store import LoadedDoc, ReplayServerStore

Doc = TypeVar("Doc", bound=Logbook)

_KEPT: Final = 200


class LoadedDocs(Generic[Doc]):
    """The documents used last. Everything about one is done under its lock, which `locks` has."""

    def __init__(
        self,
        store: ReplayServerStore,
        make: Callable[[LoadedDoc], Doc],
        *,
        locks: KeyedLocks,
        clock: ServerClock,
    ) -> None:
        self._store, self._make = store, make
        self._locks, self._clock = locks, clock
        self._docs: OrderedDict[str, Doc] = OrderedDict()

    async def load(self, doc_id: str) -> Doc:
        """The document, read from the store if need be. Raises `DocDeletedError`."""
        live = self._docs.get(doc_id)
        if live is not None:
            self._docs.move_to_end(doc_id)
            return live
        loaded = await self._store.load(doc_id, now=await self._clock.now())
        live = self._docs[doc_id] = self._make(loaded)
        while len(self._docs) > _KEPT:
            oldest = next(iter(self._docs))
            if oldest == doc_id or not self._locks.is_free(oldest):
                self._docs.move_to_end(oldest)
                break
            self.forget(oldest)
        return live

    def loaded(self) -> list[str]:
        """The ids of those that are in memory."""
        return list(self._docs)

    def forget(self, doc_id: str) -> None:
        """Read it anew the next time: the store has other rows, or nobody knows which."""
        live = self._docs.pop(doc_id, None)
        if live is not None:
            live.close()

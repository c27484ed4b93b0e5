"""`LoadedDocs`: the replay documents that are in memory, each with its rows and its timeline."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from time import perf_counter
from typing import Final

from patches.aio.keyed_locks import KeyedLocks
from patches.algorithms.replay.actions import Actions
from patches_server.documents.clock import ServerClock
from patches_server.replay.live import LiveDoc
from patches_server.replay.store import ReplayServerStore

_KEPT: Final = 200


class LoadedDocs:
    """The documents used last. Everything about one is done under its lock, which `locks` has."""

    def __init__(
        self,
        store: ReplayServerStore,
        actions: Actions,
        *,
        locks: KeyedLocks,
        clock: ServerClock,
        new_id: Callable[[], str],
        max_action_s: float,
    ) -> None:
        self._store, self._actions = store, actions
        self._locks, self._clock, self._new_id = locks, clock, new_id
        self._max_action_s = max_action_s
        self._docs: OrderedDict[str, LiveDoc] = OrderedDict()

    async def load(self, doc_id: str) -> LiveDoc:
        """The document, read from the store if need be. Raises `DocDeletedError`."""
        live = self._docs.get(doc_id)
        if live is not None:
            self._docs.move_to_end(doc_id)
            return live
        loaded = await self._store.load(doc_id, now=await self._clock.now())
        live = self._docs[doc_id] = LiveDoc(loaded, self._actions, self._new_id, self._deadline)
        while len(self._docs) > _KEPT:
            oldest = next(iter(self._docs))
            if oldest == doc_id or not self._locks.is_free(oldest):
                self._docs.move_to_end(oldest)
                break
            self.forget(oldest)
        return live

    def forget(self, doc_id: str) -> None:
        """Read it anew the next time: the store has other rows, or nobody knows which."""
        live = self._docs.pop(doc_id, None)
        if live is not None:
            live.close()

    def _deadline(self) -> Callable[[], bool]:
        until = perf_counter() + self._max_action_s
        return lambda: perf_counter() > until

"""`Tracking`: which documents are kept in sync here, and by which algorithm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from patches.aio.signals import Signal
from patches.algorithms.base import Algorithm
from patches.errors import DeletionPendingError, DocNotTrackedError


class Tracking:
    """The tracked documents of a `Patches`, as the algorithms' stores record them."""

    def __init__(
        self,
        algorithms: Mapping[str, Algorithm],
        *,
        added: Signal[[Sequence[str], str]],
        removed: Signal[[Sequence[str]]],
        shown: Callable[[Sequence[str]], Awaitable[None]],
    ) -> None:
        self._algorithms = algorithms
        self._added = added
        self._removed = removed
        self._shown = shown
        self._names: dict[str, str] = {}
        self._deleted: set[str] = set()
        self._docs: frozenset[str] | None = None

    @property
    def docs(self) -> frozenset[str]:
        """The ids of all tracked documents."""
        if self._docs is None:
            self._docs = frozenset(self._names)
        return self._docs

    def name_of(self, doc_id: str) -> str | None:
        """The name of a tracked document's algorithm."""
        return self._names.get(doc_id)

    def algorithm_of(self, doc_id: str) -> Algorithm:
        """A tracked document's algorithm. Raises `DocNotTrackedError`."""
        name = self._names.get(doc_id)
        if name is None:
            raise DocNotTrackedError(doc_id)
        return self._algorithms[name]

    async def load(self) -> None:
        """Read what the stores record."""
        for name, algorithm in self._algorithms.items():
            docs = await algorithm.list_docs(include_deleted=True)
            self._record((doc.doc_id for doc in docs if not doc.deleted), name)
            self._deleted.update(doc.doc_id for doc in docs if doc.deleted)

    async def add(self, doc_ids: Iterable[str], name: str) -> None:
        """Track those that are not, and say so once it is stored.

        Returns when all of them are shown.
        """
        doc_ids = list(doc_ids)
        new = self._record(doc_ids, name)
        if not new:
            await self._shown(doc_ids)
            return
        try:
            await self._algorithms[name].track_docs(new)
        except BaseException:
            self._forget_names(new)
            raise
        self._deleted.difference_update(new)
        self._added.emit(new, name)
        await self._shown(doc_ids)

    async def change_algorithm(self, doc_id: str, name: str) -> bool:
        """Keep a document with another algorithm, if nothing of it is here yet. Whether it is."""
        current = self.algorithm_of(doc_id)
        if await current.get_committed_rev(doc_id) or await current.has_pending(doc_id):
            return False
        await current.untrack_docs([doc_id])
        self._names[doc_id] = name
        await self._algorithms[name].track_docs([doc_id])
        return True

    def deleted(self, doc_id: str) -> None:
        """A document was deleted here."""
        self._deleted.add(doc_id)

    def check_not_deleted(self, doc_ids: Iterable[str]) -> None:
        """Raise `DeletionPendingError` for a document whose deletion is not confirmed: tracked
        again, it would take its tombstone's place, and the server's copy would come back.
        """
        for doc_id in doc_ids:
            if doc_id in self._deleted:
                raise DeletionPendingError(doc_id)

    def deletion_confirmed(self, doc_id: str) -> None:
        """The server has deleted a document, too."""
        self._deleted.discard(doc_id)

    def remove(self, doc_ids: Iterable[str]) -> dict[str, str]:
        """Track these no more, and say so; their data stays. Returns which were, by algorithm."""
        known = self._forget_names(doc_ids)
        if known:
            self._removed.emit(list(known))
        return known

    async def forget(self, known: Mapping[str, str]) -> None:
        """Drop the local data of documents that `remove` returned."""
        for name, algorithm in self._algorithms.items():
            mine = [doc_id for doc_id, owner in known.items() if owner == name]
            if mine:
                await algorithm.untrack_docs(mine)

    async def owner_of(self, doc_id: str, *, default: str) -> Algorithm:
        """The algorithm that keeps a document or its tombstone; the default one if none does."""
        try:
            return self.algorithm_of(doc_id)
        except DocNotTrackedError:
            for algorithm in self._algorithms.values():
                docs = await algorithm.list_docs(include_deleted=True)
                if any(doc.doc_id == doc_id for doc in docs):
                    return algorithm
        return self._algorithms[default]

    def _record(self, doc_ids: Iterable[str], name: str) -> list[str]:
        new = [doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id not in self._names]
        self._names.update(dict.fromkeys(new, name))
        self._docs = None
        return new

    def _forget_names(self, doc_ids: Iterable[str]) -> dict[str, str]:
        self._docs = None
        known = [doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id in self._names]
        return {doc_id: self._names.pop(doc_id) for doc_id in known}

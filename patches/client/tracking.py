"""`Tracking`: which documents are kept in sync here, and by which algorithm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from patches.aio.signals import Signal
from patches.algorithms.base import Algorithm
from patches.errors import DocNotTrackedError


class Tracking:
    """The tracked documents of a `Patches`, as the algorithms' stores record them."""

    def __init__(
        self,
        algorithms: Mapping[str, Algorithm],
        *,
        added: Signal[[Sequence[str], str]],
        removed: Signal[[Sequence[str]]],
    ) -> None:
        self._algorithms = algorithms
        self._added = added
        self._removed = removed
        self._names: dict[str, str] = {}
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
            self._record((doc.doc_id for doc in await algorithm.list_docs()), name)

    async def add(self, doc_ids: Iterable[str], name: str) -> None:
        """Track those that are not, and say so once it is stored."""
        new = self._record(doc_ids, name)
        if not new:
            return
        try:
            await self._algorithms[name].track_docs(new)
        except BaseException:
            self._strike(new)
            raise
        self._added.emit(new, name)

    def remove(self, doc_ids: Iterable[str]) -> dict[str, str]:
        """Track these no more, and say so; their data stays. Returns which were, by algorithm."""
        known = self._strike(doc_ids)
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

    def _strike(self, doc_ids: Iterable[str]) -> dict[str, str]:
        self._docs = None
        known = [doc_id for doc_id in dict.fromkeys(doc_ids) if doc_id in self._names]
        return {doc_id: self._names.pop(doc_id) for doc_id in known}

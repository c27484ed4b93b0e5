"""`Published`: the map of documents that a `PatchesSync` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from patches.aio.signals import Signal
from patches.sync.state import SyncedDoc


class Published:
    """Entries by document id. Whoever reads `map` gets a value that never changes; it is copied
    only when it is read after a change.
    """

    def __init__(self, on_change: Signal[[Mapping[str, SyncedDoc]]]) -> None:
        self._on_change = on_change
        self._entries: dict[str, SyncedDoc] = {}
        self._map: Mapping[str, SyncedDoc] | None = MappingProxyType({})
        self._holding = False
        self._held = False

    @property
    def map(self) -> Mapping[str, SyncedDoc]:
        """The entries as they are: the same object until one changes."""
        if self._map is None:
            self._map = MappingProxyType(dict(self._entries))
        return self._map

    def put(self, doc_id: str, entry: SyncedDoc) -> bool:
        """Set an entry; whether it is another than before."""
        if self._entries.get(doc_id) == entry:
            return False
        self._entries[doc_id] = entry
        self._changed()
        return True

    def remove(self, doc_ids: Iterable[str]) -> None:
        """Remove entries, in one change."""
        with self.one_change():
            for doc_id in doc_ids:
                if self._entries.pop(doc_id, None) is not None:
                    self._changed()

    @contextmanager
    def one_change(self) -> Iterator[None]:
        """What changes inside is emitted once, at the end. Holds no await."""
        if self._holding:
            yield
            return
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            if self._held:
                self._held = False
                self._changed()

    def _changed(self) -> None:
        self._map = None
        if self._holding:
            self._held = True
        elif self._on_change.subscribers:
            self._on_change.emit(self.map)

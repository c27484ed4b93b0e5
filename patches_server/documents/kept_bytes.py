"""`KeptBytes`: what was made of documents once, kept for the next reader within a number of bytes.

It holds what can be made again, so the documents that were not asked for longest go first. Whoever
uses what is kept checks that the document still is what it was made of.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

T = TypeVar("T")

MAX_BYTES: Final = 32 * 1024 * 1024
#: For the states that rules judge the next commit by.
RULE_CACHE_BYTES: Final = 64 * 1024 * 1024
#: What an entry takes beside its bytes.
_OVERHEAD: Final = 400


class KeptBytes(Generic[T]):
    """One value for each document. Owned by a document server."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes: Final = max_bytes
        self._kept: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """About how many bytes are kept."""
        return self._size

    def get(self, doc_id: str) -> T | None:
        """What is kept of a document."""
        found = self._kept.get(doc_id)
        if found is None:
            return None
        self._kept.move_to_end(doc_id)
        return found[0]

    def put(self, doc_id: str, value: T, size: int) -> None:
        """Keep a value of so many bytes, unless it would take half of the room alone."""
        self.forget(doc_id)
        size += _OVERHEAD
        if 2 * size > self._max_bytes:
            return
        self._kept[doc_id] = value, size
        self._size += size
        while self._size > self._max_bytes:
            self.forget(next(iter(self._kept)))

    def forget(self, doc_id: str) -> None:
        """Keep nothing of a document."""
        found = self._kept.pop(doc_id, None)
        if found is not None:
            self._size -= found[1]

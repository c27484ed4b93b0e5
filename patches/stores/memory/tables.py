"""`MemoryTablesStore`: a `TablesStore` in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from patches.model.change import QuarantinedChange, TrackedDoc

T = TypeVar("T")


class _Listed(Protocol):
    @property
    def committed_rev(self) -> int: ...
    @property
    def deleted(self) -> bool: ...


class MemoryTables(Protocol):
    """What the store needs of a document's tables."""

    quarantine: dict[str, QuarantinedChange]

    @property
    def is_empty(self) -> bool:
        """Whether nothing of the document is left."""

    def head(self) -> _Listed | None:
        """The document's record."""


Tables = TypeVar("Tables", bound=MemoryTables)


class MemoryTablesStore(Generic[Tables]):
    """Forgets everything when the process ends. What it holds is shared, not copied."""

    def __init__(self, algorithm: str, new: Callable[[], Tables]) -> None:
        self._algorithm, self._new = algorithm, new
        self._docs: dict[str, Tables] = {}

    async def read(self, doc_id: str, fn: Callable[[Tables], T]) -> T:
        """Run a function that writes nothing over one consistent view."""
        return fn(self._docs.get(doc_id) or self._new())

    async def change(self, doc_id: str, fn: Callable[[Tables], T]) -> T:
        """Run a function over the document's tables. It raises before its first write or never."""
        tables = self._docs.get(doc_id) or self._new()
        result = fn(tables)
        if tables.is_empty:
            self._docs.pop(doc_id, None)
        else:
            self._docs[doc_id] = tables
        return result

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        """All documents, with `include_deleted` also those marked as deleted."""
        heads = [(doc_id, tables.head()) for doc_id, tables in self._docs.items()]
        return [
            TrackedDoc(
                doc_id=doc_id,
                committed_rev=head.committed_rev,
                deleted=head.deleted,
                algorithm=self._algorithm,
            )
            for doc_id, head in heads
            if head is not None and (include_deleted or not head.deleted)
        ]

    async def list_quarantined(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """The quarantine of one document, or of all."""
        return [
            entry
            for name, tables in self._docs.items()
            if doc_id is None or name == doc_id
            for entry in tables.quarantine.values()
        ]

"""`CollectionsMemoryStore`: a client's collections documents in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from patches.algorithms.collections.tables import DocTables, Head
from patches.model.change import Change, QuarantinedChange, TrackedDoc
from patches.rows.row_ops import Row

T = TypeVar("T")


class CollectionsMemoryStore:
    """Forgets everything when the process ends. What it holds is shared, not copied."""

    def __init__(self) -> None:
        self._docs: dict[str, _MemoryTables] = {}

    async def read(self, doc_id: str, fn: Callable[[DocTables], T]) -> T:
        """Run a function that writes nothing over one consistent view."""
        return fn(self._docs.get(doc_id) or _MemoryTables())

    async def change(self, doc_id: str, fn: Callable[[DocTables], T]) -> T:
        """Run a function over the document's tables. It raises before its first write or never."""
        tables = self._docs.get(doc_id) or _MemoryTables()
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
                algorithm="collections",
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


class _MemoryTables:
    def __init__(self) -> None:
        self.quarantine: dict[str, QuarantinedChange] = {}
        self._head: Head | None = None
        self._rows: dict[str, dict[str, Row]] = {}
        self._pending: dict[str, Change] = {}

    @property
    def is_empty(self) -> bool:
        return self._head is None and not self.quarantine

    def head(self) -> Head | None:
        return self._head

    def put_head(self, head: Head) -> None:
        self._head = head

    def remove_head(self) -> None:
        self._head = None
        self._rows, self._pending = {}, {}

    def rows(self) -> dict[str, dict[str, Row]]:
        return {name: dict(rows) for name, rows in self._rows.items()}

    def row(self, table: str, key: str) -> Row | None:
        return self._rows.get(table, {}).get(key)

    def put_row(self, table: str, key: str, row: Row) -> None:
        self._rows.setdefault(table, {})[key] = row

    def remove_row(self, table: str, key: str) -> None:
        self._rows.get(table, {}).pop(key, None)

    def clear_rows(self, table: str) -> None:
        self._rows.pop(table, None)

    def replace_rows(self, rows: Mapping[str, Mapping[str, Row]]) -> None:
        self._rows = {name: dict(table) for name, table in rows.items()}

    def pending(self) -> list[Change]:
        return list(self._pending.values())

    def has_pending(self) -> bool:
        return bool(self._pending)

    def find_pending(self, change_id: str) -> Change | None:
        return self._pending.get(change_id)

    def add_pending(self, change: Change) -> None:
        self._pending[change.id] = change

    def remove_pending(self, ids: Collection[str]) -> list[str]:
        return [each for each in ids if self._pending.pop(each, None) is not None]

    def quarantined(self, change_id: str) -> QuarantinedChange | None:
        return self.quarantine.get(change_id)

    def put_quarantined(self, quarantined: QuarantinedChange) -> None:
        self.quarantine[quarantined.change_id] = quarantined

    def discard_quarantined(self, change_id: str | None = None) -> None:
        if change_id is None:
            self.quarantine.clear()
        else:
            self.quarantine.pop(change_id, None)

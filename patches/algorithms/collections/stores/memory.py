"""`CollectionsMemoryStore`: a client's collections documents in memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from patches.algorithms.collections.tables import Head
from patches.model.change import Change, QuarantinedChange
from patches.rows.row_ops import Row
from patches.stores.memory.tables import MemoryTablesStore


class CollectionsMemoryStore(MemoryTablesStore["_MemoryTables"]):
    """Forgets everything when the process ends. What it holds is shared, not copied."""

    def __init__(self) -> None:
        super().__init__("collections", _MemoryTables)


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

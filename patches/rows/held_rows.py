"""`HeldRows`: the rows of one document as Python values, and the picture of them that is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from patches.model.json_values import Json, json_equal
from patches.rows.journal import Journal
from patches.rows.row_ops import Row, State
from patches.rows.schema import AUDIENCE


class HeldRows:
    """Rows by table and key. A table whose rows stay equal is shown as the same object."""

    def __init__(self, tables: Iterable[str]) -> None:
        self._rows: dict[str, dict[str, Row]] = {name: {} for name in tables}
        self._shown: dict[str, Mapping[str, Row]] = {name: {} for name in self._rows}
        self._touched: dict[str, set[str]] = {}  # keys that may not be shown as they are
        self._gone_audiences: dict[tuple[str, str], Json] = {}

    @property
    def shown(self) -> State:
        """`{table: {key: row}}`. Shared, and never changed later."""
        if self._touched:
            touched, self._touched = self._touched, {}
            changed = {
                name: dict(self._rows[name])
                for name, keys in touched.items()
                if not self._is_shown(name, keys)
            }
            if changed:
                self._shown = self._shown | changed
        return self._shown

    def _is_shown(self, name: str, keys: set[str]) -> bool:
        rows, shown = self._rows[name], self._shown[name]
        return all(json_equal(rows.get(key), shown.get(key)) for key in keys)

    def __getitem__(self, table: str) -> Mapping[str, Row]:
        return self._rows[table]

    def audience_of(self, table: str, key: str) -> Json:
        """The audience of a row, also of one that was here and is gone; `None` if it has none."""
        row = self._rows[table].get(key)
        return self._gone_audiences.get((table, key)) if row is None else row.get(AUDIENCE)

    def count(self) -> int:
        """How many rows there are."""
        return sum(map(len, self._rows.values()))

    def forget_gone(self) -> None:
        """Forget the audiences of rows that are gone."""
        self._gone_audiences.clear()

    def load(self, table: str, rows: dict[str, Row], given: Mapping[str, Row]) -> None:
        """Hold these rows of a table and no others; `given` is shown where they are the same."""
        self._rows[table] = rows
        self._touched.pop(table, None)
        is_given = all(row is given[key] for key, row in rows.items())
        self._shown = self._shown | {table: given if is_given else dict(rows)}

    def put(self, table: str, key: str, row: Row) -> None:
        """Insert or replace a row."""
        self._rows[table][key] = row
        self._touched.setdefault(table, set()).add(key)

    def remove(self, table: str, key: str) -> None:
        """Remove a row, and remember its audience."""
        row = self._rows[table].pop(key)
        if AUDIENCE in row:
            self._gone_audiences[table, key] = row[AUDIENCE]
        self._touched.setdefault(table, set()).add(key)

    def undo(self, journal: Journal) -> None:
        """Put the rows back that a journal recorded, as they were before."""
        for (table, key), before in journal.before.items():
            if before is None:
                self._rows[table].pop(key, None)
                self._touched.setdefault(table, set()).add(key)
            else:
                self.put(table, key, before)

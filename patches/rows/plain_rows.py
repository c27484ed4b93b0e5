"""`PlainRows`: rows without SQLite, to fold what was committed. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from patches.rows.journal import Journal
from patches.rows.row_ops import Row, RowOp, State


class PlainRows:
    """The rows of one document. Tables are made when they are written to."""

    def __init__(self, state: State) -> None:
        self._rows: dict[str, dict[str, Row]] = {name: dict(rows) for name, rows in state.items()}
        self._shown: dict[str, dict[str, Row]] = {}

    @property
    def state(self) -> State:
        """`{table: {key: row}}`. Shared, and never changed later."""
        for name, rows in self._rows.items():
            if name not in self._shown:
                self._shown[name] = dict(rows)
        return dict(self._shown)

    def row(self, table: str, key: str) -> Row | None:
        """One row. Shared: do not change it."""
        return self._rows.get(table, {}).get(key)

    def apply(self, ops: Iterable[RowOp]) -> Journal:
        """Apply changes of rows, which never fails; what they did."""
        journal = Journal()
        for op in ops:
            rows = self._rows.setdefault(op.table, {})
            for key in (op.key,) if op.key is not None else tuple(rows):
                before = rows.get(key)
                after = _after(op, before)
                if after is not before:
                    journal.note(op.table, key, before, after)
                    self._put(op.table, key, after)
        return journal

    def _put(self, table: str, key: str, row: Row | None) -> None:
        self._shown.pop(table, None)
        if row is None:
            self._rows[table].pop(key, None)
        else:
            self._rows[table][key] = row


def _after(op: RowOp, before: Row | None) -> Row | None:
    if op.kind == "add":
        row: Row | None = op.value
        return row
    if op.kind == "replace" and before is not None and op.column is not None:
        return {**before, op.column: op.value}
    return None  # removed, or not there to be changed

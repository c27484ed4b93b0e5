"""`Collection`: the visible rows of one table, and what writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from patches.algorithms.collections.declaration import DeclaredTable
from patches.algorithms.collections.queries import Queries, Query
from patches.algorithms.collections.row_edits import test_ops
from patches.algorithms.collections.writes import Write
from patches.errors import InvalidRowError
from patches.model.json_values import Json, Op, json_equal
from patches.rows.conditions import Condition
from patches.rows.row_ops import Row, delete_op, insert_op, update_ops


class TableDoc(Protocol):
    """What a collection asks of its document."""

    @property
    def queries(self) -> Queries:
        """The open queries."""

    @property
    def tables(self) -> Mapping[str, Mapping[str, Row]]:
        """The visible rows."""

    def is_on_demand(self, table: str) -> bool:
        """Whether rows may be on the server that are not here."""

    def new_key(self) -> str:
        """A key for a row."""

    def now(self) -> int:
        """The time, in milliseconds."""

    def write(self, ops: list[Op], key: str | None = None) -> Write:
        """Show row operations, and queue them."""


class Collection(Mapping[str, Row]):
    """The rows of a table by key, as they are shown: synced, in progress and unconfirmed.

    Rows are shared: do not change them, write with `insert`, `update` and `delete`. Each of these
    is shown at once, and raises before anything is shown if it is invalid.
    """

    def __init__(self, doc: TableDoc, table: DeclaredTable) -> None:
        self._doc, self._declared, self._table = doc, table, table.table

    @property
    def name(self) -> str:
        """The table's name."""
        return self._table.name

    # ---- rows ------------------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Row:
        return self._rows[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def where(self, condition: Condition) -> Query:
        """A live query over the rows that a condition holds for."""
        return self._query.where(condition)

    def order_by(self, column: str, *, desc: bool = False) -> Query:
        """A live query over the rows, ordered by a column, then by key."""
        return self._query.order_by(column, desc=desc)

    def limit(self, size: int) -> Query:
        """A live query over the first rows, by key."""
        return self._query.limit(size)

    def all(self) -> Query:
        """A live query over all rows, by key."""
        return self._query

    @property
    def _query(self) -> Query:
        return Query(self._doc.queries, self._table)

    @property
    def _rows(self) -> Mapping[str, Row]:
        return self._doc.tables[self._table.name]

    # ---- writes ----------------------------------------------------------------------------------

    def insert(self, **columns: Json) -> Write:
        """A new row. Without its key column it gets a new key, which is `write.key`.

        Raises `InvalidRowError`, and what the table's `validate` raises.
        """
        columns.setdefault(self._table.key, self._doc.new_key())
        row = self._table.complete(columns)
        key = str(row[self._table.key])
        if key in self._rows:
            raise InvalidRowError(self.name, None, f"there is a row {key!r} already")
        return self._doc.write([insert_op(self.name, key, row)], key)

    def update(
        self, key: str, /, *, expect: Mapping[str, Json] | None = None, **columns: Json
    ) -> Write:
        """Write columns of a row. With `expect`, the server refuses it unless these columns have
        these values then.

        Raises `InvalidRowError`, also if `expect` does not hold here any more.
        """
        self._table.check_columns(columns)
        before = self._expected(key, expect or {})
        ops = test_ops(self.name, key, expect or {})
        if before is None:  # on demand: the server may have it
            ops += update_ops(self.name, key, {}, columns)
        else:
            ops += update_ops(self.name, key, before, {**before, **columns})
        return self._doc.write(ops, key)

    def delete(self, key: str, /, *, expect: Mapping[str, Json] | None = None) -> Write:
        """Take a row away; `expect` as in `update`. Deleting what is not there is no error."""
        self._expected(key, expect or {}, is_needed=False)
        return self._doc.write(
            [*test_ops(self.name, key, expect or {}), delete_op(self.name, key)], key
        )

    def _expected(
        self, key: str, expect: Mapping[str, Json], *, is_needed: bool = True
    ) -> Row | None:
        row = self._rows.get(key)
        if row is None:
            if is_needed and not self._doc.is_on_demand(self.name):
                raise InvalidRowError(self.name, None, f"there is no row {key!r}")
            return None
        for column, value in expect.items():
            if not json_equal(row.get(column), value):
                raise InvalidRowError(
                    self.name, column, f"is {row.get(column)!r}, not {value!r} as expected"
                )
        return row

"""`Tx`: what an action works with. Everything that it gives is the same in every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from patches.algorithms.replay.ids import random_float, row_id
from patches.errors import DuplicateIdentityError, InvalidRowError
from patches.model.json_values import Json
from patches.rows.conditions import Condition
from patches.rows.physical import stored
from patches.rows.row_ops import Row
from patches.rows.schema import Table
from patches.rows.working_copy import WorkingCopy
from patches.runtime import Millis


class Tx:
    """The transaction of one run of an action. Its tables are its attributes: `tx.todos`."""

    def __init__(
        self, copy: WorkingCopy, *, change_id: str, now: Millis, author: str | None
    ) -> None:
        self._copy = copy
        #: When the action was first run, in milliseconds.
        self.now: Final = now
        #: The signed-in user, as the server knows it.
        self.author: Final = author
        #: The id of the change.
        self.change_id: Final = change_id
        self._randoms = 0
        self._made: set[str] = set()

    def __getattr__(self, name: str) -> TxTable:
        table = self._copy.schema.tables.get(name)
        if table is None:
            raise AttributeError(f"there is no table {name!r}")
        return TxTable(self, self._copy, table)

    def table(self, name: str) -> TxTable:
        """A table by name, also one that is named like a member of `Tx`."""
        return TxTable(self, self._copy, self._copy.schema.tables[name])

    def random(self) -> float:
        """A random number from 0 up to and without 1."""
        self._randoms += 1
        return random_float(self.change_id, self._randoms)

    def id(self, table: str, **identity: Json) -> str:
        """The id of the row that this action makes with these identity columns."""
        columns = self._copy.schema.tables[table].identity
        if set(columns) != set(identity):
            raise TypeError(f"the identity of {table!r} is {', '.join(columns) or 'not declared'}")
        return row_id(self.change_id, table, [identity[column] for column in columns])

    def sql(self, query: str, *params: Json) -> list[dict[str, Json]]:
        """One SELECT, INSERT, UPDATE or DELETE on the tables. Booleans are 0 and 1 in its rows,
        lists and objects are JSON strings.
        """
        return self._copy.sql(query, params)

    def made(self, table: Table, key: str) -> None:
        """A row of this identity was inserted. Raises `DuplicateIdentityError` the second time."""
        if key in self._made:
            raise DuplicateIdentityError(table.name, table.identity)
        self._made.add(key)


class TxTable:
    """One table. Rows are dicts; results are ordered by id."""

    def __init__(self, tx: Tx, copy: WorkingCopy, table: Table) -> None:
        self._tx, self._copy, self._table = tx, copy, table

    def get(self, id: str) -> Row | None:
        """The row with this id."""
        row = self._copy.visible(self._table, id)
        return None if row is None else dict(row)

    def insert(self, **columns: Json) -> str:
        """Insert a row; its id. Without `id`, that is made of the table's identity columns."""
        table = self._table
        if table.key not in columns:
            if not table.identity:
                raise InvalidRowError(
                    table.name, table.key, "a value is needed; there is no identity"
                )
            row = table.complete({**columns, table.key: "_"})
            identity = [row[column] for column in table.identity]
            row[table.key] = row_id(self._tx.change_id, table.name, identity)
            self._tx.made(table, row[table.key])
        else:
            row = table.complete(columns)
        self._copy.insert(table, row)
        key: str = row[table.key]
        return key

    def update(self, id: str, **columns: Json) -> bool:
        """Change columns of a row; whether there is one."""
        self._table.check_columns(columns)
        return self._copy.update(self._table, id, columns)

    def delete(self, id: str) -> bool:
        """Delete a row, and those that refer to it; whether there was one."""
        return self._copy.delete(self._table, id)

    def where(self, expr: Condition | None = None, **equal: Json) -> list[Row]:
        """The rows that a condition holds for, and whose columns equal these values."""
        condition, values = self._condition(expr, equal)
        found = (self.get(key) for key in self._copy.keys(self._table, condition, values))
        return [row for row in found if row is not None]

    def count(self, expr: Condition | None = None, **equal: Json) -> int:
        """How many rows `where` would give."""
        condition, values = self._condition(expr, equal)
        return self._copy.count_where(self._table, condition, values)

    def all(self) -> list[Row]:
        """All rows."""
        return self.where()

    def _condition(
        self, expr: Condition | None, equal: Mapping[str, Json]
    ) -> tuple[str, list[Json]]:
        parts: list[str] = []
        values: list[Json] = []
        if expr is not None:
            sql, given = expr.to_sql(self._table)
            parts.append(sql)
            values.extend(given)
        for name, value in equal.items():
            self._table.check_value(name, value)
            column = self._table.columns[name]
            parts.append(f'"{name}" IS ?')
            values.append(stored(column, value))
        return " AND ".join(parts) or "1", values

"""`Tx`: what the optimistic half of an action reads and writes: rows that are shown meanwhile.

Nothing is written to the document: the writes are recorded, and the document lays them over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NoReturn, TypeAlias

from patches.errors import PatchError
from patches.model.json_values import Json, json_equal
from patches.rows.conditions import Condition
from patches.rows.row_ops import Row, RowOp
from patches.rows.schema import Table

Tables: TypeAlias = Mapping[str, Mapping[str, Row]]

_NO_ROWS: Final[Mapping[str, Row]] = {}


class Tx:
    """One run of an action: `tx.tasks` is the table `tasks`, with the run's own writes in it."""

    def __init__(self, visible: Tables, declared: Mapping[str, Table]) -> None:
        self._visible, self._declared = visible, declared
        self._tables: dict[str, TxTable] = {}

    def __getattr__(self, name: str) -> TxTable:
        if name.startswith("_"):
            raise AttributeError(name)
        table = self._declared.get(name)
        if table is None:
            raise AttributeError(f"there is no table {name!r}, only {', '.join(self._declared)}")
        if name not in self._tables:
            self._tables[name] = TxTable(table, self._visible.get(name, _NO_ROWS))
        return self._tables[name]

    def record(self, run: Callable[[Tx], object]) -> list[RowOp]:
        """Run, and give what it has written as operations. Raises what it raises."""
        run(self)
        return [op for table in self._tables.values() for op in table.ops()]


class TxTable:
    """The rows of one table, as an action sees them. Rows are plain dicts: write by `update`."""

    def __init__(self, table: Table, rows: Mapping[str, Row]) -> None:
        self._table, self._name = table, table.name
        self._rows = rows
        self._written: dict[str, Row | None] = {}

    def get(self, key: str) -> Row | None:
        """A row, `None` if there is none."""
        return self._written[key] if key in self._written else self._rows.get(key)

    def __getitem__(self, key: str) -> Row:
        row = self.get(key)
        if row is None:
            raise KeyError(key)
        return row

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __iter__(self) -> Iterator[Row]:
        return iter(self.all())

    def all(self) -> list[Row]:
        """All rows, by key."""
        keys = sorted(self._rows.keys() | self._written.keys())
        return [row for key in keys if (row := self.get(key)) is not None]

    def where(self, condition: Condition | None = None, **equal: Json) -> list[Row]:
        """The rows that a condition holds for and whose columns equal the given values, by key."""
        return [
            row
            for row in self.all()
            if (condition is None or condition.matches(row))
            and all(json_equal(row.get(name), value) for name, value in equal.items())
        ]

    def count(self, condition: Condition | None = None, **equal: Json) -> int:
        """How many rows `where` gives."""
        return len(self.where(condition, **equal))

    def insert(self, **columns: Json) -> str:
        """A new row, with its key: the action runs again, and shall make the same row. Returns the
        key. Raises `InvalidRowError`. One that is there already stays as it is.
        """
        row = self._table.complete(columns)
        key = str(row[self._table.key])
        if self.get(key) is None:
            self._written[key] = row
        return key

    def update(self, key: str, **columns: Json) -> None:
        """Write columns of a row. One that is not there stays away. Raises `InvalidRowError`."""
        self._table.check_columns(columns)
        row = self.get(key)
        if row is not None:
            self._written[key] = {**row, **columns}

    def delete(self, key: str) -> None:
        """Take a row away."""
        self._written[key] = None

    def ops(self) -> list[RowOp]:
        """What was written, as operations on the rows as they were."""
        ops: list[RowOp] = []
        for key, row in self._written.items():
            before = self._rows.get(key)
            if row is None:
                ops += [] if before is None else [RowOp("remove", self._name, key)]
            elif before is None:
                ops.append(RowOp("add", self._name, key, None, row))
            else:
                ops += [
                    RowOp("replace", self._name, key, column, value)
                    for column, value in row.items()
                    if column not in before or not json_equal(before[column], value)
                ]
        return ops

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            _refuse(self._name, name)


def _refuse(table: str, name: str) -> NoReturn:
    raise PatchError(f"write with tx.{table}.update(key, {name}=...)")

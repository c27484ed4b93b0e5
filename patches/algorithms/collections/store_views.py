"""`EventStore` and `SingularStore`: the records of a store as the application uses them.

The server sets `user_id` and `created_at`; what is written here is a hint for the display.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from patches.aio.signals import Unsubscribe
from patches.algorithms.collections.collection import Collection, TableDoc
from patches.algorithms.collections.declaration import CREATED, USER, DeclaredTable
from patches.algorithms.collections.queries import Query
from patches.algorithms.collections.writes import Write
from patches.model.json_values import Json
from patches.rows.row_ops import Row, insert_op, update_ops

#: Stands for the signed-in user, whom a client does not know.
UNKNOWN_USER: Final = "-"
#: How many events are shown at first.
NEWEST: Final = 100


class EventStore:
    """Any number of records of a user, newest first."""

    def __init__(self, doc: TableDoc, table: DeclaredTable) -> None:
        self._doc, self._table = doc, table
        self.rows: Final = Collection(doc, table)

    def add(self, **columns: Json) -> Write:
        """A new record. Raises `InvalidRowError` and what `validate_update` raises."""
        return self.rows.insert(**{USER: UNKNOWN_USER, CREATED: self._doc.now(), **columns})

    def remove(self, key: str) -> Write:
        """Take a record away."""
        return self.rows.delete(key)

    def newest(self, count: int = NEWEST) -> Query:
        """A live query over the newest records."""
        return self.rows.order_by(CREATED, desc=True).limit(count)


class SingularStore:
    """The one record of a user. Before the first `set`, its value is the defaults."""

    def __init__(self, doc: TableDoc, table: DeclaredTable) -> None:
        self._doc, self._table = doc, table
        self._rows = Collection(doc, table)

    @property
    def value(self) -> Row:
        """The record's columns."""
        for key in self._rows:
            return self._without_owner(self._rows[key])
        return self._without_owner(self._defaults())

    def set(self, **columns: Json) -> Write:
        """Write columns; the others stay, or have their defaults. Raises `InvalidRowError`."""
        table = self._table.table
        for key in self._rows:
            table.check_columns(columns)
            before = self._rows[key]
            after = {**before, **columns}
            return self._doc.write(update_ops(table.name, key, before, after), key)
        row = table.complete({**self._defaults(), **columns})
        return self._doc.write([insert_op(table.name, UNKNOWN_USER, row)], UNKNOWN_USER)

    def subscribe(self, subscriber: Callable[[Row], object]) -> Unsubscribe:
        """Call `subscriber(value)` now and whenever it differs."""
        return self._rows.limit(1).subscribe(lambda _rows: subscriber(self.value))

    def _defaults(self) -> Row:
        table = self._table.table
        given = {
            table.key: UNKNOWN_USER,
            USER: UNKNOWN_USER,
            CREATED: 0,
        }
        return {
            **given,
            **{
                name: column.default
                for name, column in table.columns.items()
                if column.has_default and name not in given
            },
        }

    def _without_owner(self, row: Mapping[str, Json]) -> Row:
        hidden = (self._table.key, USER, CREATED)
        return {name: value for name, value in row.items() if name not in hidden}

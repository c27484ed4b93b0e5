"""Parts of tables that subscribers hold, shared by all who hold the same.

A `Part` is the rows of a table that some conditions hold for, claims filled in. It remembers which
keys it has, so that a row which leaves it is sent to those who have it, and to nobody else: a
trigger reports only which keys were touched, never what the rows were before. A `Window` is the
first rows of such a part in an order.

Parts live in the thread of their document's transactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from patches.algorithms.collections.ordering import Rank, rank_of
from patches.errors import StatusError
from patches.rows.row_ops import Row
from patches_server.collections.engines.engine import Touched, Transaction, Where

MAX_WINDOW: Final = 1_000
MAX_SUBSET_ROWS: Final = 10_000

#: What makes two parts the same.
PartId: TypeAlias = tuple[object, ...]


@dataclass(slots=True)
class PartChange:
    """What a commit does to a part. `keys`: the new content of a window, where that changed."""

    adds: dict[str, Row] = field(default_factory=dict)
    removes: set[str] = field(default_factory=set)
    keys: list[str] | None = None


NOTHING: Final = PartChange()


def part_id(
    where: Where, order: Sequence[tuple[str, bool]] = (), limit: int | None = None
) -> PartId:
    """What makes two parts the same: a condition with other claims is another one."""
    conditions = [each.to_sql(where.table.table, where.claims) for each in where.conditions]
    said = tuple((sql, tuple(_typed(values))) for sql, values in conditions)
    return (where.table.name, said, tuple(order), limit)


def _typed(values: Sequence[object]) -> list[tuple[str, object]]:
    return [(type(value).__name__, value) for value in values]  # 1 is not True


class Part:
    """The rows of a table that conditions hold for; all of them where there are none."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.table: str = where.table.name
        #: The keys that it has; `None` where every row belongs to it.
        self.keys: set[str] | None = set() if where.conditions else None

    def load(self, tx: Transaction, limit: int | None) -> list[Row]:
        """All rows. Raises `StatusError` 413 for more than `limit`."""
        rows = tx.select(self.where, limit=None if limit is None else limit + 1)
        if limit is not None and len(rows) > limit:
            raise StatusError(
                413,
                f"more than {limit} rows of {self.table}: ask for fewer, or for a window",
                {"limit": "max_subset_rows"},
            )
        if self.keys is not None:
            self.keys = {str(row[self.where.table.key]) for row in rows}
        return rows

    def has(self, key: str) -> bool:
        """Whether a row belongs to it."""
        return self.keys is None or key in self.keys

    def absorb(self, _tx: Transaction, touched: Touched) -> PartChange:
        """What a commit does to it."""
        rows = touched.rows[self.table]
        change = PartChange()
        if self.keys is None:
            for key, row in rows.items():
                if row is not None:
                    change.adds[key] = row
                elif (self.table, key) not in touched.born:
                    change.removes.add(key)
            return change
        for key, row in rows.items():
            if row is not None and self.where.matches(row):
                change.adds[key] = row
                self.keys.add(key)
            elif key in self.keys:
                change.removes.add(key)
                self.keys.discard(key)
        return change


class Window(Part):
    """The first rows of a part in an order: always exactly those."""

    def __init__(self, where: Where, order: Sequence[tuple[str, bool]], limit: int) -> None:
        super().__init__(where)
        self.order: tuple[tuple[str, bool], ...] = tuple(order)
        self.limit: int = limit
        self._rank = rank_of(self.order)
        self._held: dict[str, Rank] = {}  # in order
        self.has_more: bool = False

    def load(self, tx: Transaction, limit: int | None) -> list[Row]:
        """The rows of the window, in order."""
        rows = tx.select(self.where, order=self.order, limit=self.limit + 1)
        self.has_more = len(rows) > self.limit
        rows = rows[: self.limit]
        key = self.where.table.key
        self._held = {str(row[key]): self._rank(str(row[key]), row) for row in rows}
        return rows

    def has(self, key: str) -> bool:
        """Whether a row is in it."""
        return key in self._held

    def contents(self) -> list[str]:
        """The keys, in order."""
        return list(self._held)

    def absorb(self, tx: Transaction, touched: Touched) -> PartChange:
        """What a commit does to it."""
        try:
            return self._absorb(tx, touched.rows[self.table])
        except TypeError:  # another program wrote what has no order beside the rest
            before = self._held
            rows = {str(row[self.where.table.key]): row for row in self.load(tx, None)}
            gone = before.keys() - self._held.keys()
            return PartChange(rows, set(gone), list(self._held))

    def _absorb(self, tx: Transaction, rows: Mapping[str, Row | None]) -> PartChange:
        fitting = {
            key: self._rank(key, row)
            for key, row in rows.items()
            if row is not None and self.where.matches(row)
        }
        last = next(reversed(self._held.values()), None)
        is_full = len(self._held) >= self.limit
        if not any(key in self._held for key in rows) and (
            not fitting
            or (is_full and last is not None and all(r > last for r in fitting.values()))
        ):
            self.has_more = self.has_more or bool(fitting)
            return NOTHING
        before = self._held
        ranks = {key: rank for key, rank in before.items() if key not in rows}
        ranks.update(fitting)
        ordered = sorted(ranks.items(), key=lambda item: item[1])
        first = ordered[: self.limit]
        # Rows outside have ranks above the last one's. Below it nothing can be missing.
        is_exact = not is_full or (
            len(first) == self.limit and last is not None and not first[-1][1] > last
        )
        change = PartChange()
        if is_exact:
            self.has_more = self.has_more or len(ordered) > self.limit
            self._held = dict(first)
            fetched: Mapping[str, Row] = {}
        else:
            key = self.where.table.key
            fetched = {str(row[key]): row for row in self.load(tx, None)}
        for key in self._held:
            row = rows.get(key) or fetched.get(key)
            if row is not None and (key in rows or key not in before):
                change.adds[key] = row
        change.removes = {key for key in before if key not in self._held}
        if change.adds or list(before) != list(self._held):
            change.keys = list(self._held)
        return change

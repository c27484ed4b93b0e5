"""The order of rows: given columns, then the key; rows without a value come last. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from patches.errors import InvalidRowError
from patches.model.json_values import Json
from patches.rows.row_ops import Row
from patches.rows.schema import Table

#: A column, and whether its order is descending.
OrderBy: TypeAlias = tuple[tuple[str, bool], ...]
#: Compares as the rows are ordered.
Rank: TypeAlias = tuple[Any, ...]
RankOf: TypeAlias = Callable[[str, Row], Rank]


class _Descending:
    """A string that sorts the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __lt__(self, other: _Descending) -> bool:
        return other.value < self.value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]  # only compared


def rank_of(order: OrderBy) -> RankOf:
    """The function that gives the rank of a row: its key and columns."""
    if len(order) == 1:  # the usual one
        ((column, is_descending),) = order

        def rank_by_one(key: str, row: Row) -> Rank:
            value = row.get(column)
            return (True, 0, key) if value is None else (False, _part(value, is_descending), key)

        return rank_by_one

    def rank(key: str, row: Row) -> Rank:
        parts: list[Any] = []
        for column, is_descending in order:
            value = row.get(column)
            parts += (True, 0) if value is None else (False, _part(value, is_descending))
        return (*parts, key)

    return rank


def _part(value: Json, is_descending: bool) -> Any:
    if not is_descending:
        return value
    return _Descending(value) if isinstance(value, str) else -value


def check_order(table: Table, order: Sequence[tuple[str, bool]]) -> None:
    """Raises `InvalidRowError` for a column that the table has not, or that has no order."""
    for column, _ in order:
        declared = table.columns.get(column)
        if declared is None:
            known = ", ".join(table.columns)
            raise InvalidRowError(table.name, column, f"no such column; there are {known}")
        if declared.kind == "json":
            raise InvalidRowError(table.name, column, "arrays and objects have no order")

"""`Result`: the rows of a live query, kept in order as rows change. Pure.

Each change of a row costs a search and a shift in one sorted list, whatever the size of the table.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping

from patches.algorithms.collections.ordering import OrderBy, Rank, rank_of
from patches.rows.row_ops import Row


class Result:
    """The keys of the rows that match, in order; the first `limit` of them are shown."""

    def __init__(
        self, matches: Callable[[Row], bool], order: OrderBy, limit: int | None = None
    ) -> None:
        self.limit = limit
        self._matches = matches
        self._rank_of = rank_of(order)
        self._ranks: list[Rank] = []
        self._rank_by_key: dict[str, Rank] = {}

    def __len__(self) -> int:
        """How many rows match, shown or not."""
        return len(self._ranks)

    @property
    def keys(self) -> list[str]:
        """The keys of the rows that are shown, in order."""
        return [rank[-1] for rank in self._ranks[: self.limit]]

    def rows(self, visible: Mapping[str, Row]) -> list[Row]:
        """The rows that are shown, in order."""
        return [visible[rank[-1]] for rank in self._ranks[: self.limit]]

    def fill(self, visible: Mapping[str, Row]) -> None:
        """Begin anew with these rows."""
        matches, rank_of_row = self._matches, self._rank_of
        self._rank_by_key = {
            key: rank_of_row(key, row) for key, row in visible.items() if matches(row)
        }
        self._ranks = sorted(self._rank_by_key.values())

    def update(self, key: str, row: Row | None) -> bool:
        """A row is now `row`, or gone. Whether what is shown differs from before."""
        before = self._rank_by_key.get(key)
        after = self._rank_of(key, row) if row is not None and self._matches(row) else None
        if before is None and after is None:
            return False
        if before == after:
            assert before is not None
            return self._is_shown(bisect_left(self._ranks, before))
        differs = False
        if before is not None:
            place = bisect_left(self._ranks, before)
            differs = self._is_shown(place)
            del self._ranks[place]
            del self._rank_by_key[key]
        if after is not None:
            place = bisect_left(self._ranks, after)
            differs = self._is_shown(place) or differs
            self._ranks.insert(place, after)
            self._rank_by_key[key] = after
        return differs

    def _is_shown(self, place: int) -> bool:
        return self.limit is None or place < self.limit

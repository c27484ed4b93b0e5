"""`Journal`: the rows that were written, as they were before and are after. Pure."""

from __future__ import annotations

from patches.model.json_values import Op
from patches.rows.row_ops import Row, diff_rows


class Journal:
    """Rows by table and key, each with what it was first and what it is last."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[Row | None, Row | None]] = {}

    def note(self, table: str, key: str, before: Row | None, after: Row | None) -> None:
        """A row was written."""
        place = (table, key)
        known = self.rows.get(place)
        self.rows[place] = (before if known is None else known[0], after)

    def extend(self, later: Journal) -> None:
        """What `later` recorded came after."""
        for (table, key), (before, after) in later.rows.items():
            self.note(table, key, before, after)

    @property
    def before(self) -> dict[tuple[str, str], Row | None]:
        """The rows as they were."""
        return {place: before for place, (before, _) in self.rows.items()}

    @property
    def after(self) -> dict[tuple[str, str], Row | None]:
        """The rows as they are."""
        return {place: after for place, (_, after) in self.rows.items()}

    def ops(self) -> list[Op]:
        """The net change."""
        return diff_rows(self.before, self.after)

    def inverse(self) -> list[Op]:
        """The operations that lead back."""
        return diff_rows(self.after, self.before)

"""`ShownTables`: the state of a collections document, as a picture that is made when asked for.

The tables are kept in place, so that a write costs what it touches. A picture never changes: a
table that has changed since the last one is copied into the next, its rows are shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from patches.documents.shown import ShownState
from patches.limits import Limits
from patches.model.json_values import Json
from patches.rows.row_ops import Row


class ShownTables(ShownState):
    """Owned by the document. `tables` are kept by its overlay."""

    __slots__ = ("_changed", "_picture", "_tables")

    changes: int

    def __init__(
        self, tables: Mapping[str, Mapping[str, Row]], committed_rev: int, limits: Limits
    ) -> None:
        self._tables = tables
        self._picture: dict[str, dict[str, Row]] = {}
        self._changed = set(tables)
        super().__init__(None, committed_rev, limits)

    @property
    def state(self) -> Json:
        """A picture of the tables; the same object until one of them changes."""
        if self._changed:
            self._picture = {
                name: dict(rows) if name in self._changed else self._picture[name]
                for name, rows in self._tables.items()
            }
            self._changed = set()
        return self._picture

    @state.setter
    def state(self, state: Json) -> None:
        """Nothing to set: the state is what the tables are."""

    def mark(self, tables: Iterable[str]) -> None:
        """These tables have changed."""
        self._changed.update(tables)
        self.changes += 1

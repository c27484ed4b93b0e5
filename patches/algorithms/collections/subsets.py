"""`Interest`: which parts of on-demand tables a client holds, and what they take from the stream.

A subset is a table, a condition, and for a window an order and a limit. Its rows come with the
answer to `loadSubset`, which has them as they were at a revision `rev`, and from there on with
the changes that everybody follows. Answer and changes travel beside each other, so

- a change above `rev` may have been applied before the answer: what it touched is newer than the
  answer (`_since_load`);
- a change at or below `rev` may come after the answer: the answer is newer than it, row by row
  (`_ahead`).

Nothing here is stored: a client that starts anew loads what its queries ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from patches.algorithms.collections.ordering import OrderBy
from patches.algorithms.collections.overlay import Place
from patches.model.change import Change
from patches.model.json_values import Json
from patches.rows.conditions import Condition
from patches.rows.row_ops import Row, RowOp, parse_row_ops

SubsetState: TypeAlias = Literal["wanted", "loading", "loaded"]


@dataclass(slots=True, eq=False)
class Subset:
    """One part of an on-demand table. `keys`: of a window, in order, once they are known."""

    id: str
    table: str
    where: Condition | None = None
    order: OrderBy = ()
    limit: int | None = None
    state: SubsetState = "wanted"
    keys: dict[str, None] | None = None
    keys_rev: int = 0
    has_more: bool = False

    def to_wire(self, limit: int | None = None) -> dict[str, Json]:
        """As the server reads it, with another limit if one is given."""
        wire: dict[str, Json] = {"id": self.id, "table": self.table}
        if self.where is not None:
            wire["where"] = self.where.to_wire()
        if self.order:
            wire["orderBy"] = [[name, "desc" if down else "asc"] for name, down in self.order]
        if self.limit is not None:
            wire["limit"] = limit or self.limit
        return wire

    def covers(self, key: str, row: Row) -> bool:
        """Whether a synced row of its table belongs to it."""
        if self.state == "wanted" and self.keys is None:
            return False
        if self.limit is not None:
            return self.keys is not None and key in self.keys
        return self.where is None or self.where.matches(row)


class Interest:
    """The subsets of one open document. `is_on_demand` says which tables come by subsets alone."""

    def __init__(self, is_on_demand: Callable[[str], bool]) -> None:
        self.is_on_demand = is_on_demand
        self.subsets: dict[str, Subset] = {}
        self._since_load: dict[str, dict[tuple[str, str | None], int]] = {}
        self._ahead: dict[Place, int] = {}
        self._stated: frozenset[str] = frozenset()  # in the last request
        self._installed_rev = 0
        self.cursor: int = 0  # of the document

    def stated(self) -> list[Json]:
        """The subsets that are loaded, for a request that states the interest anew."""
        loaded = [each for each in self.subsets.values() if each.state == "loaded"]
        self._stated = frozenset(each.id for each in loaded)
        return [each.to_wire() for each in loaded]

    def keeps(self, table: str, key: str, row: Row) -> bool:
        """Whether a synced row is kept although no unconfirmed write concerns it."""
        if not self.is_on_demand(table):
            return True
        return any(
            subset.covers(key, row) for subset in self.subsets.values() if subset.table == table
        )

    def taken(
        self, change: Change, held: Mapping[str, Mapping[str, Row]]
    ) -> tuple[list[RowOp], list[Place]]:
        """The operations of a committed change to apply, and rows that have left a window.

        `held`: the synced rows.
        """
        ops: list[RowOp] = []
        for op in parse_row_ops(change.ops):
            if not self.is_on_demand(op.table):
                ops.append(op)
                continue
            for touched in self._since_load.values():
                touched[op.table, op.key] = change.rev
            if op.key is None and self._ahead:
                ops += [
                    RowOp("remove", op.table, key)
                    for key in held.get(op.table, ())
                    if self._ahead.get((op.table, key), 0) < change.rev
                ]
            elif op.key is None or self._ahead.get((op.table, op.key), 0) < change.rev:
                ops.append(op)
        review: list[Place] = []
        windows = change.metadata.get("windows")
        for subset_id, keys in windows.items() if isinstance(windows, dict) else ():
            subset = self.subsets.get(subset_id)
            if subset is not None and change.rev >= subset.keys_rev:
                review += self._set_keys(subset, keys, change.rev)
        if self._ahead:
            self._ahead = {place: rev for place, rev in self._ahead.items() if rev > change.rev}
        self.cursor = max(self.cursor, change.rev)
        return ops, review

    def begin_load(self, subset: Subset) -> None:
        """`loadSubset` is sent."""
        subset.state = "loading" if subset.state == "wanted" else subset.state
        self._since_load[subset.id] = {}

    def fail_load(self, subset: Subset) -> None:
        """No answer came."""
        self._since_load.pop(subset.id, None)
        subset.state = "wanted" if subset.state == "loading" else subset.state

    def finish_load(
        self, subset: Subset, answer: Mapping[str, Any], held: Mapping[str, Row]
    ) -> tuple[list[RowOp], list[Place]] | None:
        """What the answer to `loadSubset` brings, as `taken` gives it.

        `held`: the synced rows of its table. One that looks as if it belonged to the subset and is
        not in the answer is out of date, and leaves. `None`: the answer is older than the whole
        document that was fetched meanwhile; ask again.
        """
        touched = self._since_load.pop(subset.id, {})
        rev: int = answer["rev"]
        if rev < self._installed_rev or subset.id not in self.subsets:
            return None
        subset.state = "loaded"
        subset.has_more = bool(answer.get("more"))
        emptied = touched.get((subset.table, None), -1)
        ops = [
            op
            for op in parse_row_ops(answer["ops"])
            if max(touched.get((op.table, op.key), -1), emptied) <= rev
        ]
        if subset.limit is None:
            answered = {op.key for op in parse_row_ops(answer["ops"])}
            ops += [
                RowOp("remove", subset.table, key)
                for key, row in held.items()
                if key not in answered
                and subset.covers(key, row)
                and max(touched.get((subset.table, key), -1), emptied) <= rev
                and not self._is_covered_by_another(subset, key, row)
            ]
        if rev > self.cursor:
            for op in ops:
                if op.key is not None:
                    self._ahead[op.table, op.key] = rev
        review: list[Place] = []
        if subset.limit is not None and rev >= subset.keys_rev:
            review = self._set_keys(subset, answer.get("keys") or (), rev)
        return ops, review

    def installed(self, rev: int, windows: object) -> None:
        """The whole document was fetched, with the subsets in it that the request stated.

        One that was loaded since then has lost its rows: it is to be loaded again.
        """
        self._installed_rev = rev
        self.cursor = rev
        self._ahead.clear()
        known = windows if isinstance(windows, dict) else {}
        for subset in self.subsets.values():
            if subset.state == "loaded" and subset.id not in self._stated:
                subset.state = "wanted"
            if subset.limit is not None and subset.keys is not None:
                self._set_keys(subset, known.get(subset.id, ()), rev)

    def lost(self) -> None:
        """What the loaded subsets hold is out of date: all have to be loaded again."""
        for subset in self.subsets.values():
            if subset.state == "loaded":
                subset.state = "wanted"

    def _is_covered_by_another(self, subset: Subset, key: str, row: Row) -> bool:
        return any(
            other.covers(key, row)
            for other in self.subsets.values()
            if other is not subset and other.table == subset.table
        )

    def _set_keys(self, subset: Subset, keys: Sequence[str], rev: int) -> list[Place]:
        before, subset.keys = subset.keys or {}, dict.fromkeys(keys)
        subset.keys_rev = rev
        return [(subset.table, key) for key in before if key not in subset.keys]

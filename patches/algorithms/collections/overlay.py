"""`Overlay`: what a client shows: synced rows, rows in progress, and unconfirmed writes on top.

The visible row of a key is the row in progress if there is one, else the synced row, and on it the
operations of the unconfirmed writes in their order. Each step recomputes the touched keys only, so
the cost of an update does not grow with its table. A called action is laid over by running its
optimistic half again on what is visible below it; writes that come after an action are then laid
over again as well, because it may write other rows than before.

An insert of a row that is there, and an update or a delete of one that is not, have no effect here
and stay unconfirmed: the server decides about them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from patches.algorithms.collections.optimistic import Tx
from patches.model.json_values import json_equal
from patches.rows.row_ops import Row, RowOp
from patches.rows.schema import Table

#: A row's table and key.
Place: TypeAlias = tuple[str, str]
#: What a step has changed: the visible row before and after, for each key that differs.
Changed: TypeAlias = dict[Place, tuple[Row | None, Row | None]]
#: The optimistic half of a called action. One that raises has no effect.
Run: TypeAlias = Callable[[Tx], object]
#: Whether a synced row is kept; asked for touched rows that no unconfirmed write concerns.
Keep: TypeAlias = Callable[[str, str, Row], bool]

_NO_ROWS: Final[Mapping[str, Row]] = {}


@dataclass(slots=True, eq=False)
class Layer:
    """One unconfirmed write: its operations, or the action that makes them."""

    id: str
    ops: list[RowOp] = field(default_factory=list)
    run: Run | None = None
    number: int = 0  # its place among the others; set by the overlay

    @property
    def places(self) -> dict[Place, None]:
        """The rows that it names, in order."""
        return {(op.table, op.key): None for op in self.ops if op.key is not None}


class Overlay:
    """The rows of one open document. Owned by the document."""

    def __init__(
        self, synced: dict[str, dict[str, Row]], tables: Mapping[str, Table] | None = None
    ) -> None:
        """`synced` is taken over. Declared `tables` are there also while they are empty."""
        self.synced: dict[str, dict[str, Row]] = synced
        self._declared: Mapping[str, Table] = tables or {}
        self.partials: dict[Place, Row] = {}
        self.visible: dict[str, dict[str, Row]] = {name: {} for name in (*self._declared, *synced)}
        for name, rows in synced.items():
            self.visible[name] = dict(rows)
        self._layers: dict[str, Layer] = {}
        self._by_place: dict[Place, list[Layer]] = {}
        self._next_number = 1
        self._runs = 0  # layers that are actions

    # ---- what there is ---------------------------------------------------------------------------

    @property
    def layers(self) -> Collection[Layer]:
        """The unconfirmed writes, in order."""
        return self._layers.values()

    def layer(self, layer_id: str) -> Layer | None:
        """One unconfirmed write."""
        return self._layers.get(layer_id)

    def is_touched(self, place: Place) -> bool:
        """Whether an unconfirmed write concerns a row."""
        return place in self._by_place

    def row(self, place: Place) -> Row | None:
        """The visible row."""
        return self.visible.get(place[0], _NO_ROWS).get(place[1])

    # ---- steps -----------------------------------------------------------------------------------

    def add(self, layer: Layer) -> Changed:
        """Lay a write on top. An action's optimistic half runs now; what it raises is raised, and
        nothing has changed then.
        """
        if layer.run is not None:
            layer.ops = Tx(self.visible, self._declared).record(layer.run)
            self._runs += 1
        layer.number = self._next_number
        self._next_number += 1
        self._layers[layer.id] = layer
        self._index(layer)
        changed: Changed = {}
        self._lay(layer.ops, changed)
        return _differing(changed)

    def add_stored(self, layer: Layer) -> Changed:
        """Lay a write on top that was made before. An action that raises now has no effect."""
        run, layer.run = layer.run, None
        if run is not None:
            layer.ops = self._optimistic_ops(run)
        changed = self.add(layer)
        if run is not None:
            layer.run = run
            self._runs += 1
        return changed

    def extend(self, layer: Layer, ops: Sequence[RowOp]) -> Changed:
        """Add operations to a write."""
        known = layer.places
        layer.ops += ops
        for place in layer.places:
            if place not in known:
                self._index_at(place, layer)
        if layer.number != self._next_number - 1:  # others were laid on top meanwhile
            return self.step(review=layer.places)
        changed: Changed = {}
        self._lay(ops, changed)
        return _differing(changed)

    def step(
        self,
        ops: Iterable[RowOp] = (),
        *,
        remove: Iterable[str] = (),
        partials: Mapping[Place, Row | None] | None = None,
        review: Iterable[Place] = (),
        keep: Keep | None = None,
    ) -> Changed:
        """Apply committed `ops` to the synced rows, take writes away, lay the rest over again.

        `partials`: rows in progress, `None` for one that has ended; a committed operation ends that
        of its row. `review`: synced rows to ask `keep` for, beside the touched ones.
        """
        touched: dict[Place, None] = dict.fromkeys(review)
        for op in ops:
            self._apply_synced(op, touched)
        for place, row in (partials or {}).items():
            touched[place] = None
            if row is None:
                self.partials.pop(place, None)
            else:
                self.partials[place] = row
        for layer_id in remove:
            layer = self._layers.pop(layer_id, None)
            if layer is not None:
                self._runs -= layer.run is not None
                touched.update(layer.places)
                self._unindex(layer)
        if keep is not None:
            for table, key in touched:
                row = self.synced.get(table, _NO_ROWS).get(key)
                if row is not None and not self.is_touched((table, key)):
                    if not keep(table, key, row):
                        del self.synced[table][key]
        changed: Changed = {}
        first_run = self._first_run()
        if first_run is None:
            for place in touched:
                self._recompute(place, changed, self._next_number)
        else:
            self._run_again(first_run, touched, changed)
        return _differing(changed)

    def replace_synced(
        self, synced: dict[str, dict[str, Row]], remove: Iterable[str], *, keep: Keep | None = None
    ) -> Changed:
        """Put other synced rows in the place of all, and take writes away; as `step`."""
        if not self._layers and not self.partials and keep is None:
            return self._replace_all(synced)
        touched = {
            (name, key): None
            for tables in (self.synced, synced)
            for name, rows in tables.items()
            for key in rows
            if self.synced.get(name, _NO_ROWS).get(key) is not synced.get(name, _NO_ROWS).get(key)
        }
        self.synced = synced
        for name in synced:
            self.visible.setdefault(name, {})
        return self.step(remove=remove, review=touched, keep=keep)

    # ---- inside ----------------------------------------------------------------------------------

    def _replace_all(self, synced: dict[str, dict[str, Row]]) -> Changed:
        """Show other synced rows, with nothing on top of them."""
        changed: Changed = {}
        for name in self.visible.keys() | synced.keys():
            old, new = self.visible.get(name, _NO_ROWS), synced.get(name, _NO_ROWS)
            for key in old.keys() - new.keys():
                changed[name, key] = (old[key], None)
            for key, row in new.items():
                before = old.get(key)
                if before is not row:
                    changed[name, key] = (before, row)
            self.visible[name] = dict(new)
        self.synced = synced
        return _differing(changed)

    def _apply_synced(self, op: RowOp, touched: dict[Place, None]) -> None:
        rows = self.synced.setdefault(op.table, {})
        self.visible.setdefault(op.table, {})
        if op.key is None:
            touched.update(((op.table, key), None) for key in rows)
            for name, key in [place for place in self.partials if place[0] == op.table]:
                del self.partials[name, key]
                touched[name, key] = None
            rows.clear()
            return
        place = (op.table, op.key)
        touched[place] = None
        self.partials.pop(place, None)
        if op.kind == "add" and isinstance(op.value, dict):
            rows[op.key] = op.value
        elif op.kind == "remove":
            rows.pop(op.key, None)
        elif op.kind == "replace" and op.column is not None and op.key in rows:
            rows[op.key] = {**rows[op.key], op.column: op.value}

    def _recompute(self, place: Place, changed: Changed, before: int) -> None:
        """Show a row as it is with the writes numbered below `before`."""
        row = self.partials.get(place)
        if row is None:
            row = self.synced.get(place[0], _NO_ROWS).get(place[1])
        for layer in self._by_place.get(place, ()):
            if layer.number < before:
                for op in layer.ops:
                    if (op.table, op.key) == place:
                        row = laid(row, op)
        self._show(place, row, changed)

    def _lay(self, ops: Iterable[RowOp], changed: Changed) -> None:
        for op in ops:
            if op.key is not None:
                place = (op.table, op.key)
                self._show(place, laid(self.row(place), op), changed)

    def _show(self, place: Place, row: Row | None, changed: Changed) -> None:
        rows = self.visible.setdefault(place[0], {})
        old = rows.get(place[1])
        if old is row:
            return
        before = changed[place][0] if place in changed else old
        changed[place] = (before, row)
        if row is None:
            del rows[place[1]]
        else:
            rows[place[1]] = row

    def _first_run(self) -> Layer | None:
        if not self._runs:
            return None
        return next(layer for layer in self._layers.values() if layer.run is not None)

    def _run_again(self, first: Layer, touched: dict[Place, None], changed: Changed) -> None:
        """Lay the first action and all that came after it over what is below them."""
        above = [layer for layer in self._layers.values() if layer.number >= first.number]
        for layer in above:
            touched.update(layer.places)
        for place in touched:
            self._recompute(place, changed, first.number)
        for layer in above:
            if layer.run is not None:
                self._unindex(layer)
                layer.ops = self._optimistic_ops(layer.run)
                self._index(layer)
            self._lay(layer.ops, changed)

    def _optimistic_ops(self, run: Run) -> list[RowOp]:
        """What an action writes on the visible rows; nothing if it raises."""
        try:
            return Tx(self.visible, self._declared).record(run)
        except Exception:  # boundary: the application's function; the server decides about the call
            return []

    def _index(self, layer: Layer) -> None:
        for place in layer.places:
            self._index_at(place, layer)

    def _index_at(self, place: Place, layer: Layer) -> None:
        layers = self._by_place.setdefault(place, [])
        layers.append(layer)
        if len(layers) > 1 and layers[-2].number > layer.number:  # an action that ran again
            layers.sort(key=lambda each: each.number)

    def _unindex(self, layer: Layer) -> None:
        for place in layer.places:
            left = [each for each in self._by_place.get(place, ()) if each is not layer]
            if left:
                self._by_place[place] = left
            else:
                self._by_place.pop(place, None)


def laid(row: Row | None, op: RowOp) -> Row | None:
    """The row with an unconfirmed operation on it."""
    if op.kind == "add":
        return op.value if row is None and isinstance(op.value, dict) else row
    if op.kind == "remove":
        return None
    if row is None or op.column is None:
        return row
    return {**row, op.column: op.value}


def _differing(changed: Changed) -> Changed:
    return {
        place: (before, after)
        for place, (before, after) in changed.items()
        if before is not after and not json_equal(before, after)
    }

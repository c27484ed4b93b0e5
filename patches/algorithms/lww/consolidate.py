"""Many writes to a path become one (`docs/internals/lww.md` 3-5).

The client runs this over its pending ops, the server over its rows. `consolidate_ops` takes plain
lists; `consolidate_into` takes a `FieldTable` that the caller keeps, so that a commit costs with
its own ops and not with the document. Neither changes what it is given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from patches.algorithms.lww.deltas import (
    apply_delta,
    combine_deltas,
    fresh_value,
    is_delta,
    is_soft,
)
from patches.algorithms.lww.field_table import Fields, FieldTable, ancestor_paths
from patches.errors import PatchError
from patches.model.json_values import Json, Op, json_equal


@dataclass(frozen=True, slots=True)
class Consolidation:
    """What a batch of ops comes to. Delete `paths_to_delete` first, then save `ops_to_save`.

    `ops_to_return` are the rows that beat an op of the batch: corrections for its sender.
    """

    ops_to_save: list[Op]
    paths_to_delete: list[str]
    ops_to_return: list[Op]


def consolidate_field_op(existing: Op, incoming: Op) -> Op | None:
    """The one op that stands for two of the same path, or `None`: `incoming` changes nothing.

    A plain write that wins is returned as it is, the same object. A delta that cannot be applied to
    what is there (an increment of an object) changes nothing.
    """
    if is_delta(incoming):
        try:
            return _folded(existing, incoming)
        except PatchError:
            return None
    if is_soft(incoming):
        return None
    theirs, ours = incoming.get("ts"), existing.get("ts")
    if theirs is None:
        return incoming
    return None if ours is None or ours > theirs else incoming


def consolidate_ops(existing_ops: Collection[Op], new_ops: Sequence[Op]) -> Consolidation:
    """Fold `new_ops` in order into `existing_ops`, of which the last one of a path counts.

    The lists of the result are in the order of first insertion (`docs/internals/lww.md` 4).
    """
    if not existing_ops and len(new_ops) == 1:
        return Consolidation([*new_ops], [], [])
    return consolidate_into(FieldTable(existing_ops), new_ops)


def consolidate_into(existing: Fields, new_ops: Iterable[Op]) -> Consolidation:
    """`consolidate_ops` over a table that is kept; costs with `new_ops` and what they replace."""
    batch = _Batch(existing)
    for op in new_ops:
        batch.add(op)
    return Consolidation(
        list(batch.to_save.values()), list(batch.to_delete), list(batch.to_return.values())
    )


def convert_delta_ops(ops: Sequence[Op]) -> list[Op]:
    """The rows to store: deltas that met no row become the value they write, the rest `replace`."""
    return [_row(op) for op in ops]


def value_inside(value: Json, segments: Iterable[str]) -> tuple[bool, Json]:
    """Whether the raw (unescaped) `segments` lead to something in `value`, and what it is."""
    for segment in segments:
        if isinstance(value, dict):
            if segment not in value:
                return False, None
            value = value[segment]
        elif isinstance(value, list):
            index = _list_index(segment, len(value))
            if index is None:
                return False, None
            value = value[index]
        else:
            return False, None
    return True, value


class _Batch:
    """The working tables of one consolidation, laid over a table that stays as it is."""

    def __init__(self, existing: Fields) -> None:
        self._existing = existing
        self._added = FieldTable()  # ops at paths that `existing` has not, or that moved to the end
        self._replaced: dict[str, Op] = {}  # ops at paths of `existing`, in their old place
        self._removed: set[str] = set()  # paths of `existing` that are gone
        self._cleared: set[str] = set()  # paths below which nothing of `existing` is left
        self.to_save: dict[str, Op] = {}
        self.to_delete: dict[str, None] = {}
        self.to_return: dict[str, Op] = {}

    def add(self, op: Op) -> None:
        path = op["path"]
        existing = self._get(path)
        if not self._ancestors_let_pass(path):
            return
        if existing is not None:
            winner = consolidate_field_op(existing, op)
            if winner is not None:
                self._save(winner)
            elif not is_delta(op) and not is_soft(op):
                self.to_return.setdefault(path, existing)
        elif not is_soft(op) or not self._has_data(path):
            self._save(op)

    def _ancestors_let_pass(self, path: str) -> bool:
        valueless = []
        for above in ancestor_paths(path):
            row = self._get(above)
            if row is None:
                continue
            if row["op"] == "remove" or "value" not in row:
                valueless.append(above)
            elif not isinstance(row["value"], (dict, list)):
                self.to_return.setdefault(above, row)
                return False
        self.to_delete.update(dict.fromkeys(valueless))
        return True

    def _has_data(self, path: str) -> bool:
        if self._below(path):
            return True
        for above in ancestor_paths(path):
            row = self._get(above)
            if row is not None and isinstance(row.get("value"), (dict, list)):
                segments = path[len(above) + 1 :].split("/")
                if value_inside(row["value"], segments)[0]:
                    return True
        return False

    def _save(self, op: Op) -> None:
        path = op["path"]
        for child in self._below(path):
            self.to_delete[child] = None
            self.to_save.pop(child, None)
            self._discard(child)
        self._cleared.add(path)
        self.to_delete.pop(path, None)
        self.to_save[path] = op
        if path not in self._removed and self._existing.get(path) is not None:
            self._replaced[path] = op
        else:
            self._added.put(op)

    def _get(self, path: str) -> Op | None:
        op = self._replaced.get(path)
        if op is None:
            op = self._added.get(path)
        if op is None and path not in self._removed:
            op = self._existing.get(path)
        return op

    def _below(self, path: str) -> list[str]:
        added = self._added.below(path) if self._added.any() else []
        if self._cleared and not self._cleared.isdisjoint((path, *ancestor_paths(path))):
            return added
        held = self._existing.below(path)
        if held and self._removed:
            held = [name for name in held if name not in self._removed]
        return held + added

    def _discard(self, path: str) -> None:
        self._replaced.pop(path, None)
        self._added.discard(path)
        self._removed.add(path)


def _folded(existing: Op, delta: Op) -> Op | None:
    name, ts = delta["op"], _newest(existing.get("ts"), delta.get("ts"))
    if existing["op"] == "remove" or "value" not in existing:
        return _with(delta, "replace", fresh_value(delta), ts)
    calculate = combine_deltas if existing["op"] == name else apply_delta
    value = calculate(name, existing["value"], delta.get("value"))
    if json_equal(value, existing["value"]):
        return None
    return _with(delta, existing["op"], value, ts)


def _with(op: Op, name: str, value: Json, ts: int | None) -> Op:
    folded = {**op, "op": name, "value": value}
    if ts is not None:
        folded["ts"] = ts
    return folded


def _newest(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return a if b is None else b
    return max(a, b)


def _row(op: Op) -> Op:
    if op["op"] == "remove":
        return op
    if is_delta(op):
        return {**op, "op": "replace", "value": fresh_value(op)}
    return op if op["op"] == "replace" else {**op, "op": "replace"}


def _list_index(segment: str, length: int) -> int | None:
    if not segment.isascii() or not segment.isdecimal() or (segment[0] == "0" and segment != "0"):
        return None
    return int(segment) if len(segment) < 16 and int(segment) < length else None

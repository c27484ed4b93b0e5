"""What a delta starts from when its field has no row of its own.

A server adds a delta to the row of its path. A number that came as part of a larger object has no
such row, so the first increment would start from nothing (`docs/internals/lww.md` 4). The client
sends the number along, as a write as old as the object: it loses to whatever was written since, and
so does the same write of another client.
"""

from __future__ import annotations

from collections.abc import Iterable

from patches.algorithms.lww.consolidate import value_inside
from patches.algorithms.lww.deltas import is_delta
from patches.algorithms.lww.field_table import ancestor_paths
from patches.algorithms.lww.tables import DocTables
from patches.algorithms.lww.units import in_unit, unit_of
from patches.model.json_values import Json, Op

_OLDEST = 1  # a time: `0` and none are filled in or replaced on the way


def with_bases(tables: DocTables, ops: Iterable[Op]) -> list[Op]:
    """`ops`, and before each delta without a row the write of what it starts from."""
    sent: list[Op] = []
    for op in ops:
        if is_delta(op) and tables.committed.get(op["path"]) is None:
            base = _base(tables, op["path"])
            if base is not None and _counts(op, base["value"]):
                sent.append(in_unit(base, unit_of(op)))
        sent.append(op)
    return sent


def _base(tables: DocTables, path: str) -> Op | None:
    for above in (*ancestor_paths(path), ""):
        row = tables.committed.get(above)
        if row is not None:
            return _inside(path, above, row.get("value"), row.get("ts") or _OLDEST)
    return _inside(path, "", tables.snapshot().state, _OLDEST)


def _inside(path: str, above: str, value: Json, ts: int) -> Op | None:
    keys = [key.replace("~1", "/").replace("~0", "~") for key in path[len(above) + 1 :].split("/")]
    found, base = value_inside(value, keys)
    return {"op": "replace", "path": path, "value": base, "ts": ts} if found else None


def _counts(delta: Op, base: Json) -> bool:
    """Whether starting from `base` differs from starting from nothing."""
    if isinstance(base, bool) or not isinstance(base, (int, float, str)):
        return False
    return bool(base) or delta["op"] in ("@max", "@min")

"""`merge_server_with_local`: what a received change shows beside local writes.

The rules: `docs/internals/lww.md` 6.
"""

from __future__ import annotations

from collections.abc import Sequence

from patches.algorithms.lww.deltas import apply_delta, is_delta
from patches.algorithms.lww.field_table import ancestor_paths
from patches.errors import PatchError
from patches.model.change import Change
from patches.model.json_values import Op


def merge_server_with_local(
    server_changes: Sequence[Change], local_ops: Sequence[Op]
) -> Sequence[Change]:
    """The changes to show for `server_changes` over unsent `local_ops` (sending, then pending).

    Never for what is stored. Without local ops it is the same sequence. Local ops at paths that the
    server's do not touch are appended to the last change. `LWWDoc` derives its state instead.
    """
    if not local_ops or not server_changes:
        return server_changes
    local = {op["path"]: op for op in local_ops}
    touched: set[str] = set()
    merged = []
    for change in server_changes:
        ops = []
        for op in change.ops:
            touched.add(op["path"])
            shown = _shown(op, local)
            if shown is not None:
                ops.append(shown)
        merged.append(change.replace(ops=ops))
    untouched = [op for op in local_ops if op["path"] not in touched]
    if untouched:
        merged[-1] = merged[-1].replace(ops=[*merged[-1].ops, *untouched])
    return merged


def _shown(op: Op, local: dict[str, Op]) -> Op | None:
    mine = local.get(op["path"])
    if mine is None:
        for above in ancestor_paths(op["path"]):
            if above in local and not is_delta(local[above]):
                return None
        return op
    if is_delta(mine):
        return _with_delta(op, mine)
    shown = {**op, "op": mine["op"]}
    shown.pop("value", None)
    if "value" in mine:
        shown["value"] = mine["value"]
    return shown


def _with_delta(op: Op, delta: Op) -> Op:
    try:
        value = apply_delta(delta["op"], op.get("value"), delta.get("value"))
    except PatchError:  # a delta that the server's value cannot take shows nothing
        return op
    return {**op, "op": "replace" if op["op"] == "remove" else op["op"], "value": value}

"""The JSON value that an LWW document's rows add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from patches.algorithms.lww.state import shows_history
from patches.errors import PatchError
from patches.json_patch import ABSENT, apply_patch
from patches.model import codec
from patches.model.json_values import Json, Op
from patches.runtime import Millis
from patches_server.lww.commit import AnyChange, decide, new_rows
from patches_server.lww.rows import Row, RowTable, commit_order, rows_after
from patches_server.lww.store import LoadedRows


def build_state(loaded: LoadedRows) -> bytes:
    """The state as JSON text: the snapshot with all rows applied as every client applies them."""
    return codec.encode(state_of(loaded))


def state_of(loaded: LoadedRows) -> Json:
    """The same as a value. A removed root reads as `null`.

    A row that cannot be applied (below another row's number, say) is left out, so that there always
    is a state.
    """
    state = codec.decode(loaded.snapshot.state) if loaded.snapshot is not None else {}
    return _with_rows(state, loaded.rows)


def state_after(
    state: Json, loaded: LoadedRows, changes: Sequence[AnyChange], now: Millis
) -> tuple[Json, bool]:
    """The state once `changes` are committed to a document with `state`, and whether it is sure.

    `loaded` is what their commit has read. Where overwritten rows leave traces in a state, all rows
    have to be applied: `rebuilt_after`.
    """
    written = new_rows(loaded, decide(RowTable(loaded.rows), changes, now))
    after = _with_rows(state, written)
    return after, not shows_history(state, after, [row.op for row in written])


def rebuilt_after(
    whole: LoadedRows, loaded: LoadedRows, changes: Sequence[AnyChange], now: Millis
) -> Json:
    """The same from all rows; `loaded` is what the commit has read of `whole`."""
    written = new_rows(loaded, decide(RowTable(loaded.rows), changes, now))
    return state_of(replace(whole, rows=rows_after(whole.rows, written)))


def _with_rows(state: Json, rows: Sequence[Row]) -> Json:
    ops = [_plain(row.op) for row in commit_order(rows)]
    try:
        state = apply_patch(state, ops)
    except PatchError:
        for op in ops:
            state = _applied(state, op)
    return None if state is ABSENT else state


def _plain(op: Op) -> Op:
    """What a row says, without the mark that it once yielded to other values."""
    if op["op"] == "remove":
        return {"op": "remove", "path": op["path"]}
    return {"op": "replace", "path": op["path"], "value": op.get("value")}


def _applied(state: Json, op: Op) -> Json:
    try:
        return apply_patch(state, [op])
    except PatchError:
        return state

"""The JSON value that an LWW document's rows add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from patches.errors import PatchError
from patches.json_patch import ABSENT, apply_patch
from patches.model import codec
from patches.model.json_values import Json, Op
from patches.runtime import Millis
from patches_server.lww.commit import AnyChange, decide, new_rows
from patches_server.lww.rows import RowTable, commit_order, rows_after
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
    ops = [_plain(row.op) for row in commit_order(loaded.rows)]
    try:
        state = apply_patch(state, ops)
    except PatchError:
        for op in ops:
            state = _applied(state, op)
    return None if state is ABSENT else state


def state_after(
    whole: LoadedRows, loaded: LoadedRows, changes: Sequence[AnyChange], now: Millis
) -> Json:
    """The state once `changes` are committed; `loaded` is what their commit has read of `whole`."""
    written = new_rows(loaded, decide(RowTable(loaded.rows), changes, now))
    return state_of(replace(whole, rows=rows_after(whole.rows, written)))


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

"""`move`, `copy` and `test` as the writes they amount to: pure.

A row holds one value per path, so these operations have no row of their own. The client of
@dabble/patches 0.28.1 sends them as they are, with other writes in the same change, and sends them
again for as long as they are refused. So they mean here what they mean to our own client, which
writes the result: `move` and `copy` become writes of what they change, a list as a whole; `test` is
checked and left out. What cannot be carried out on the document as it is now is left out, too, and
a change whose `test` fails stores nothing: the answer has the current value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from patches.algorithms.lww.writes import as_writes
from patches.errors import ChangeRefusedError, PatchError
from patches.json_patch import apply_patch
from patches.limits import Limits
from patches.model.change import ChangeInput
from patches.model.json_values import Json, Op
from patches_server.documents.measure import measure
from patches_server.lww.commit import AnyChange
from patches_server.lww.state import state_of
from patches_server.lww.store import LoadedRows

STRUCTURAL_OPS: Final = frozenset({"move", "copy", "test"})


def has_structural_ops(changes: Iterable[AnyChange]) -> bool:
    """Whether the whole document is needed to know what changes write."""
    for change in changes:
        for op in change.ops:
            if op["op"] in STRUCTURAL_OPS:
                return True
    return False


def as_field_writes(
    whole: LoadedRows, changes: Sequence[AnyChange], limits: Limits
) -> list[AnyChange]:
    """`changes` with every structural operation replaced by its writes.

    Raises `ChangeRefusedError` for a copy that is larger or deeper than a document may be.
    """
    state = state_of(whole)
    written: list[AnyChange] = []
    for change in changes:
        state, ops = _written(state, change, limits)
        written.append(
            ChangeInput(
                id=change.id,
                ops=ops,
                base_rev=change.base_rev,
                rev=change.rev,
                created_at=change.created_at,
                metadata=change.metadata,
            )
        )
    return written


def writes_of(state: Json, ops: Sequence[Op]) -> list[Op]:
    """The writes that operations for `state` amount to. Raises `PatchError`."""
    return as_writes(state, ops, _NOTHING_UNSENT)


class _NothingUnsent:
    """A server has no writes that wait to be sent."""

    def waiting_at(self, _path: str) -> None:
        return None


_NOTHING_UNSENT: Final = _NothingUnsent()


def _written(state: Json, change: AnyChange, limits: Limits) -> tuple[Json, list[Op]]:
    before, ops = state, []
    for op in change.ops:
        if op["op"] not in STRUCTURAL_OPS:
            ops.append(op)
            state = _applied(state, op)
            continue
        try:
            writes = as_writes(state, [op], _NOTHING_UNSENT)
        except PatchError:
            if op["op"] == "test":
                return before, []
            continue
        for write in writes:
            _check_size(change.id, write, limits)
            ops.append({**write, "ts": op["ts"]} if op.get("ts") is not None else write)
            state = _applied(state, write)
    return state, ops


def _applied(state: Json, op: Op) -> Json:
    try:
        return apply_patch(state, [op], strict=True)
    except PatchError:
        return state


def _check_size(change_id: str, write: Op, limits: Limits) -> None:
    # A few copies can double a document again and again: their values are measured, not encoded.
    bounds = measure(write.get("value"))
    depth = bounds.depth + write["path"].count("/")
    if limits.max_doc_bytes is not None and bounds.size > limits.max_doc_bytes:
        limit, code, much = "max_doc_bytes", 413, f"{bounds.size} bytes"
    elif depth > limits.max_doc_depth:
        limit, code, much = "max_doc_depth", 400, f"{depth} levels of nesting"
    else:
        return
    raise ChangeRefusedError(
        change_id,
        f"a copy at {write['path']!r} has {much}, at most {getattr(limits, limit)} are allowed",
        code=code,
        limit=limit,
        final=True,
    )

"""What an OT document writes for recorded operations."""

from __future__ import annotations

from patches.algorithms.ot.object_marks import mark_object_keys
from patches.algorithms.ot.splitting import break_changes
from patches.documents.draft import ops_to_reach
from patches.errors import OpsRefusedError, UnsupportedOperationError
from patches.json_patch import ABSENT, apply_patch
from patches.json_patch.text_values import without_empty_text_parts
from patches.limits import Limits
from patches.model.change import Change
from patches.model.checks import check_ops, kind_of
from patches.model.codec import json_size
from patches.model.json_values import Json, Op


def prepared(doc_id: str, state: Json, ops: list[Op], limits: Limits, *, exists: bool) -> list[Op]:
    """The operations to store for `ops`, which were made for `state`.

    A write of the whole document becomes the edits that lead there, if the document `exists` on
    the server: that refuses it, since it would undo what others do. A key like `"5"` of an object
    is marked, so that it is not taken for an index. Raises `UnsupportedOperationError`.
    """
    for index, op in enumerate(ops):
        if op.get("ts") is not None:
            raise UnsupportedOperationError(
                f"ops[{index}]: 'ts' belongs to last-write-wins documents; leave it out"
            )
    ops = without_empty_text_parts(ops)
    writes_root = False
    for op in ops:
        writes_root |= op.get("path") == ""
    if not exists or not writes_root:
        return mark_object_keys(state, ops)
    check_ops(ops, limits, counted=False)
    target = apply_patch(state, ops, strict=True)
    target = {} if target is ABSENT else target
    if type(target) is not type(state):
        raise UnsupportedOperationError(
            f"document {doc_id!r} exists on the server and stays {kind_of(state)}; it cannot "
            f"become {kind_of(target)}: put the value under a key, or make another document"
        )
    return mark_object_keys(state, ops_to_reach(state, target, max_depth=limits.max_doc_depth))


def can_cut(op: Op, max_bytes: int, limits: Limits) -> bool:
    """Whether an operation can be cut in pieces of at most so many bytes."""
    change = Change(id="", ops=[op], base_rev=0, rev=1, created_at=0)
    pieces = break_changes([change], max_bytes, new_id=lambda _rev: "", is_exact=True)
    try:
        for piece in pieces:  # a text that is taken out of a value becomes a text edit
            check_ops(piece.ops, limits)
    except OpsRefusedError:
        return False
    return all(json_size(piece.ops) <= max_bytes for piece in pieces)

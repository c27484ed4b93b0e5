"""Taking edits back under OT: reversals are transformed behind what others did.

A reversal is carried as the older of two edits, so that what others wrote later wins over it. What
they wrote into a value that a reversal would take away is theirs: that reversal is blocked, and
counts for the older ones as made and made undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from patches.algorithms.ot.walk import TransformWalk
from patches.documents.draft import ops_to_reach
from patches.documents.reversals import History, Reversal
from patches.errors import PatchError
from patches.json_patch import invert_patch
from patches.json_patch.object_keys import ends_in_index, is_member_path
from patches.json_patch.pointer import is_under
from patches.json_patch.reverse import reverse_each
from patches.limits import Limits
from patches.model.change import Change
from patches.model.json_values import Json, Op

#: What moves the elements of a list, and writes into none.
_SHIFTS: Final = frozenset({"add", "remove", "move", "copy"})


class OTUndoRules:
    """`UndoRules` for OT."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def reversals(self, before: Json, ops: Sequence[Op]) -> list[Reversal]:
        return [Reversal(back) for back in reverse_each(before, ops)]

    def moves(self, before: Json, after: Json) -> History:
        ops = ops_to_reach(before, after, max_depth=self._limits.max_doc_depth, text=True)
        return [ops] if ops else []

    def follow(self, reversal: Reversal, history: History) -> tuple[Reversal, History]:
        passed: History = []
        for ops in history:
            if not reversal.ops:
                passed.append(ops)
                continue
            is_blocked = reversal.is_blocked or _is_written_into(reversal.ops, ops)
            walk = TransformWalk([ops])  # the newer edit: where both write, it stays
            reversal = replace(reversal, ops=walk.follow(reversal.ops), is_blocked=is_blocked)
            left = walk.programs()[0]
            if left:
                passed.append(left)
        return reversal, passed

    def is_possible(self, reversal: Reversal, state: Json) -> bool:
        return not reversal.is_blocked

    def skipped(self, reversal: Reversal, state: Json) -> History:
        try:
            return [invert_patch(state, reversal.ops)]
        except PatchError:
            return []

    def is_of(self, reversal: Reversal, change_ids: Sequence[str], refused: Change) -> bool:
        return refused.id in change_ids


def _is_written_into(reversal: Sequence[Op], ops: Sequence[Op]) -> bool:
    """Whether others have written to the value that a reversal takes away."""
    taken = [
        back
        for before, back in zip((None, *reversal), reversal, strict=False)
        if _takes(before, back)
    ]
    return any(_writes_to(op, back) for back in taken for op in ops)


def _takes(before: Op | None, back: Op) -> bool:
    if back["op"] == "add":
        return not _is_element(back)
    if back["op"] == "replace":
        return before is None or before["op"] != "add"  # else it fills what it has inserted
    return bool(back["op"] == "remove")


def _writes_to(op: Op, back: Op) -> bool:
    if op["op"] == "test":
        return False
    place = back["path"]
    for path in (op["path"], op.get("from") if op["op"] == "move" else None):
        if path is None:
            continue
        if is_under(path, place):
            return True
        if path == place and not (op["op"] in _SHIFTS and _is_element(back)):
            return True
    return False


def _is_element(op: Op) -> bool:
    return ends_in_index(op["path"]) and not is_member_path(op)

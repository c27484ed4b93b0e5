"""Taking edits back under LWW: the old value is written where the edit's own still stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from patches.documents.reversals import UNGUARDED, History, Reversal
from patches.errors import PatchError
from patches.json_patch import apply_patch
from patches.json_patch.pointer import value_at
from patches.json_patch.reverse import reverse_each
from patches.model.change import Change
from patches.model.json_values import Json, Op, json_equal

_SUMS: Final = frozenset({"@inc", "@bit"})


class LWWUndoRules:
    """`UndoRules` for LWW. What others do moves nothing, so no reversal ever changes."""

    def reversals(self, before: Json, ops: Sequence[Op]) -> list[Reversal]:
        reversals: list[Reversal] = []
        backs = reverse_each(before, ops)
        for index, (op, back) in enumerate(zip(ops, backs, strict=True)):
            back = [{**each, "op": "replace"} if each["op"] == "add" else each for each in back]
            if op["op"] == "replace" and back and not isinstance(op["value"], (dict, list)):
                reversals.append(Reversal(back, guard=op["value"]))
            else:
                after = apply_patch(before, ops[: index + 1], strict=True)
                reversals.append(_guarded(back, after))
        return reversals

    def moves(self, before: Json, after: Json) -> History:
        return []

    def follow(self, reversal: Reversal, history: History) -> tuple[Reversal, History]:
        return reversal, []

    def is_possible(self, reversal: Reversal, state: Json) -> bool:
        if reversal.guard is UNGUARDED:
            return True
        try:
            found = value_at(state, reversal.ops[0]["path"])
        except PatchError:
            return False
        return found is reversal.guard or json_equal(found, reversal.guard)

    def skipped(self, reversal: Reversal, state: Json) -> History:
        return []

    def is_of(self, reversal: Reversal, change_ids: Sequence[str], refused: Change) -> bool:
        """A refused value is not shown any more, which guards its reversal; a sum has no guard."""
        return reversal.guard is UNGUARDED and any(
            op["path"] == back["path"] for op in refused.ops for back in reversal.ops
        )


def _guarded(back: list[Op], after: Json) -> Reversal:
    if not back or back[0]["op"] in _SUMS:
        return Reversal(back)
    return Reversal(back, guard=value_at(after, back[0]["path"]))

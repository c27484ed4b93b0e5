"""Where an edit was made, to decide whether the next one continues it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patches.json_patch.object_keys import ends_in_index, is_member_path
from patches.json_patch.pointer import last_key, parent
from patches.model.json_values import Op

_LIST_EDITS = frozenset({"add", "remove"})


@dataclass(frozen=True, slots=True)
class EditPlace:
    """The texts of an edit, or the list and the places in it."""

    texts: frozenset[str] = frozenset()
    items: str | None = None
    first: int = 0
    last: int = 0

    def is_beside(self, other: EditPlace) -> bool:
        """Whether both edits are of the same texts, or of neighbouring places of one list."""
        if self.items is not None:
            near = other.first <= self.last + 1 and other.last >= self.first - 1
            return self.items == other.items and near
        return other.items is None and self.texts == other.texts


def place_of(ops: Sequence[Op]) -> EditPlace | None:
    """The place of an edit; `None` if it is of another kind, and no edit goes on with it."""
    if all(op["op"] == "@txt" for op in ops):
        return EditPlace(texts=frozenset(op["path"] for op in ops))
    if not all(_is_list_edit(op) for op in ops):
        return None
    lists = {parent(op["path"]) for op in ops}
    if len(lists) != 1:
        return None
    places = [int(last_key(op["path"])) for op in ops]
    return EditPlace(items=lists.pop(), first=min(places), last=max(places))


def _is_list_edit(op: Op) -> bool:
    return op["op"] in _LIST_EDITS and ends_in_index(op["path"]) and not is_member_path(op)

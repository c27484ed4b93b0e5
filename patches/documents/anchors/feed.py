"""`Feed`: what has happened to the shown state of a document, for its anchors.

Operations queue up and are mapped when an anchor is read, or when many wait. While no anchor is
alive, nothing is collected and the document has one watcher less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from weakref import WeakSet

from patches.documents.anchors.positions import By, Place, follow, follow_states, is_replacement
from patches.documents.reversals import History, Refused
from patches.documents.watchers import EditPlan, EditWatcher
from patches.errors import PatchError
from patches.json_patch import ABSENT
from patches.json_patch.handlers import delta_of
from patches.json_patch.kinds import is_soft
from patches.json_patch.pointer import value_at
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches.text import compose
from patches.text.ops import DELETE

#: So many entries wait before all anchors are mapped.
_MAX_WAITING: Final = 128


class Watched(Protocol):
    """What is needed of a document."""

    def watch(self, watcher: EditWatcher) -> None:
        """Report edits to `watcher`."""

    def unwatch(self, watcher: EditWatcher) -> None:
        """Report no more."""


class Placed:
    """What the feed moves: an anchor."""

    __slots__ = ("__weakref__", "_place", "_seen")

    _place: Place
    _seen: int  # how much of the feed its place is behind


@dataclass(slots=True)
class _Entry:
    """One operation, or two states between which something happened."""

    op: Op | None
    by: By = By.OTHERS
    before: Json = None  # what the operation replaces; the state before
    after: Json = None


class Feed:
    """Owned by one document."""

    def __init__(self, doc: Watched) -> None:
        self._doc = doc
        self._anchors: WeakSet[Placed] = WeakSet()
        self._entries: list[_Entry] = []
        self._first = 0  # how many entries were dropped
        self._is_watching = False
        self._read_to = 0  # where the anchor that is furthest has read to

    def place(self, anchor: Placed, place: Place) -> None:
        """Let an anchor hold a place of the state that is shown now."""
        if not self._is_watching:
            self._doc.watch(self)
            self._is_watching = True
        anchor._place = place
        anchor._seen = self._read_to = self._first + len(self._entries)
        self._anchors.add(anchor)

    def current(self, anchor: Placed) -> Place:
        """The place of an anchor now."""
        place, end = anchor._place, self._first + len(self._entries)
        if anchor._seen != end:
            for entry in self._entries[anchor._seen - self._first :]:
                _follow_entry(place, entry)
            anchor._seen = self._read_to = end
        return place

    # ---- the document's watcher ------------------------------------------------------------------

    def plan(self, before: Json, ops: list[Op], by: object) -> EditPlan:
        who = By.USER
        if by is not None and by is not self._doc:
            who = By.REDO if getattr(by, "doing", None) == "redo" else By.UNDO
        keeps = False
        entries = []
        for op in ops:
            if is_soft(op):
                continue  # where there is a place, it writes nothing
            old = _replaced(before, op) if is_replacement(op) else None
            keeps = keeps or isinstance(old, (dict, list))
            entries.append(_Entry(op, who, old))

        def carry_out() -> None:
            # The list is the live one, which a rebase writes to: its operations are not.
            for entry in entries:
                self._add(entry)

        return EditPlan(carry_out, keeps_values=keeps)

    def moved(self, history: History, refused: Sequence[Refused]) -> None:
        for ops in history:
            for op in ops:
                if not is_soft(op):
                    self._add(_Entry(op, before=ABSENT))

    def replaced(self, before: Json, after: Json, refused: Sequence[Refused]) -> None:
        self._add(_Entry(None, before=before, after=after))

    def stored(self, ops: list[Op], changes: Sequence[Change]) -> None:
        """Nothing moves."""

    # ---- inside ----------------------------------------------------------------------------------

    def _add(self, entry: _Entry) -> None:
        if not self._anchors:  # all were dropped
            self._doc.unwatch(self)
            self._is_watching = False
            self._first += len(self._entries)
            self._entries.clear()
            return
        entries = self._entries
        # The last entry may grow as long as no anchor is behind it.
        if entries and self._read_to < self._first + len(entries) and _joined(entries[-1], entry):
            return
        entries.append(entry)
        if len(entries) > _MAX_WAITING:
            for anchor in self._anchors:
                self.current(anchor)
            self._first += len(entries)
            entries.clear()


def _replaced(before: Json, op: Op) -> Json:
    try:
        return value_at(before, op["path"])
    except PatchError:
        return None


def _follow_entry(place: Place, entry: _Entry) -> None:
    if entry.op is not None:
        follow(place, entry.op, entry.by, entry.before)
    elif not place.is_gone:
        follow_states(place, entry.before, entry.after)


def _joined(last: _Entry, entry: _Entry) -> bool:
    """Let an insertion into the same text join the one before it, which moves no place otherwise.

    A deletion is not joined: what is inserted afterwards where it was goes to another side of a
    place than what was inserted there before.
    """
    a, b = last.op, entry.op
    if a is None or b is None or a["op"] != "@txt" or b["op"] != "@txt":
        return False
    if a["path"] != b["path"] or {last.by, entry.by} & {By.UNDO, By.REDO}:
        return False
    first, second = delta_of(a["value"]), delta_of(b["value"])
    if first is None or second is None:
        return False
    if any(DELETE in part for part in (*first, *second)):
        return False
    last.op = {**a, "value": compose(first, second)}
    return True

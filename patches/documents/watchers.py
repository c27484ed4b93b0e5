"""`EditWatcher`: is notified how the shown state of a document moves, edit by edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from patches.documents.reversals import History, Refused
from patches.model.change import Change
from patches.model.json_values import Json, Op


@dataclass(slots=True)
class EditPlan:
    """What a watcher does once the edit is made."""

    carry_out: Callable[[], None]
    #: Whether it keeps lists or objects of the state before.
    keeps_values: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class EditGroup:
    """Edits of a document that are taken back together. Known by its identity."""

    label: str = ""


class EditWatcher(Protocol):
    """Called in the turn in which the state moves, before any subscriber. Does not raise."""

    def plan(self, before: Json, ops: list[Op], by: object) -> EditPlan:
        """An edit is about to be made here. `ops` is its live list; `by`: the watcher that makes
        it, or the document for its owner; nobody for its user.

        `before` is written in place by the edit, unless the plan says that it keeps values.
        """
        ...

    def moved(self, history: History, refused: Sequence[Refused]) -> None:
        """Others did this to the shown state. `refused`: changes of ours that it is without."""
        ...

    def replaced(self, before: Json, after: Json, refused: Sequence[Refused]) -> None:
        """As `moved`, where the operations are not known."""
        ...

    def stored(self, ops: list[Op], changes: Sequence[Change]) -> None:
        """An edit, known by its live list, is on its way to the store as these changes."""
        ...

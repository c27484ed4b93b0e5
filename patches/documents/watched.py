"""`Watched`: the part of a document that notifies watchers how its shown state moves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from patches.documents.reversals import History, Refused, UndoRules
from patches.documents.shown import ShownState
from patches.documents.watchers import EditGroup, EditWatcher
from patches.errors import PatchError, UnsupportedOperationError
from patches.json_patch import apply_patch
from patches.model.json_values import Json, Op, json_equal


class Watched(ABC):
    """A document as an undo manager knows it."""

    algorithm: ClassVar[str]
    id: str
    _shown: ShownState
    _closed = False

    def __init__(self) -> None:
        #: What goes onto the change of an edit beside its owner's metadata, while it is made.
        self.edit_metadata: Mapping[str, Json] | None = None
        #: What the edits that are being made belong to: undo managers keep them in one step.
        self.edit_group: EditGroup | None = None
        self._watchers: tuple[EditWatcher, ...] = ()
        self._editor: object = None  # who makes the edit, if not its user
        self._refused: tuple[Refused, ...] = ()  # what the next state is shown without

    @abstractmethod
    def apply(self, ops: Any) -> None:
        """Apply JSON Patch operations, all or none."""

    @abstractmethod
    def _check_open(self) -> None:
        """Raise if the document is closed, or the caller not its owner."""

    def undo_rules(self) -> UndoRules:
        """How this algorithm takes edits back. Raises `UnsupportedOperationError` if it cannot."""
        raise UnsupportedOperationError(
            f"document {self.id!r}: a document of the algorithm {self.algorithm!r} has no undo"
        )

    @property
    def plain_state(self) -> Json:
        """The state itself, in debug mode as well."""
        return self._shown.handed_out()

    @property
    def is_being_edited(self) -> bool:
        """True inside of `change` and `edit`."""
        return self._shown.drafts > 0

    def watch(self, watcher: EditWatcher) -> None:
        """Tell `watcher` of every edit and of what others do, until `unwatch` or the close."""
        self._check_open()
        self._watchers = (*self._watchers, watcher)

    def unwatch(self, watcher: EditWatcher) -> None:
        """Tell a watcher no more."""
        self._watchers = tuple(other for other in self._watchers if other is not watcher)

    def apply_as(self, editor: object, ops: list[Op], metadata: Mapping[str, Json]) -> None:
        """As `apply`, by a watcher, which is notified. `metadata` goes onto the change."""
        self._editor, self.edit_metadata = editor, metadata
        try:
            self.apply(ops)
        finally:
            self._editor = self.edit_metadata = None

    def mark_refused(self, *refused: Refused) -> None:
        """The next state is shown without these changes or edits of ours."""
        if self._watchers:
            self._refused = (*self._refused, *refused)

    # ---- inside ----------------------------------------------------------------------------------

    def _planned(self, ops: list[Op]) -> Callable[[], None]:
        """Show the watchers the state before an edit. Call the result once it is made."""
        if len(self._watchers) == 1:  # as most documents that have any
            plan = self._watchers[0].plan(self._shown.state, ops, self._editor)
            if plan.keeps_values:
                self._shown.handed_out()
            return plan.carry_out
        plans = [watcher.plan(self._shown.state, ops, self._editor) for watcher in self._watchers]
        if any(plan.keeps_values for plan in plans):
            self._shown.handed_out()

        def carry_out() -> None:
            for plan in plans:
                plan.carry_out()

        return carry_out

    def _notify_watchers(self, before: Json, after: Json, moves: History | None) -> None:
        """Others have moved the shown state: by `moves`, if that is known."""
        refused, self._refused = self._refused, ()
        if moves is not None and not _lead_to(after, moves, before):
            moves = None
        for watcher in self._watchers:
            if moves is not None:
                watcher.moved(moves, refused)
            elif refused or before is not after:
                watcher.replaced(before, after, refused)


def _lead_to(after: Json, history: History, before: Json) -> bool:
    """Whether operations account for a new state, as far as elements of lists change places.

    Texts are transformed exactly. Moved elements are not: the wire's transform, which every replica
    has to share, gives a state that the operations of others alone do not lead to.
    """
    if all(op["op"] == "@txt" for ops in history for op in ops):
        return True
    try:
        return json_equal(apply_patch(before, [op for ops in history for op in ops]), after)
    except PatchError:
        return False

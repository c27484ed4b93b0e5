"""`TieredDoc`: what an open OT document holds, and the state that it shows.

Its state is three things on top of each other: what the server has committed, what is stored here
and waits for the server (`pending`), and edits that are not stored yet (`unsaved`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar, Final

from patches.algorithms.ot.apply import apply_changes, apply_pending_for_view, without_absent
from patches.algorithms.ot.store import PendingQueue, QueuePosition, StoredSnapshot
from patches.algorithms.ot.unsaved import UnsavedEdits
from patches.algorithms.ot.views import hydrated
from patches.documents.document import Document
from patches.documents.reversals import History
from patches.documents.shape import T
from patches.errors import ApplyChangesError, PatchError
from patches.json_patch import ABSENT, apply_patch
from patches.limits import Limits
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, json_equal

_log = logging.getLogger("patches.ot")

#: In place of a state: the one that is shown, while nothing unsaved is on it.
SHOWN: Final = object()


class Tiers:
    """What a document holds below its unsaved edits."""

    __slots__ = ("folded", "is_stale", "pending", "unfolded", "viewed")

    def __init__(self, committed: Json, pending: list[Change]) -> None:
        #: The committed state, and what was committed since and is shown already.
        self.folded: Json = committed
        self.unfolded: list[Change] = []
        #: Stored changes that wait for the server, oldest first.
        self.pending: list[Change] = pending
        #: The committed state with the first so many pending changes on it, while that is known.
        self.viewed: tuple[int, Json] | None = None
        #: Whether the shown state has to be computed again with the next event.
        self.is_stale: bool = False


class TieredDoc(Document[T]):
    """The tiers of an `OTDoc`."""

    algorithm: ClassVar[str] = "ot"

    def __init__(
        self, doc_id: str, snapshot: Snapshot | None = None, *, limits: Limits | None = None
    ) -> None:
        snapshot = snapshot or Snapshot(state=None, rev=0)
        pending = list(snapshot.changes)
        kept, view, dropped = hydrated(snapshot.state, snapshot.rev, pending)
        super().__init__(doc_id, state=view, committed_rev=snapshot.rev, limits=limits)
        #: Stored changes that could not be shown when the document was opened.
        self.dropped_pending_changes: list[Change] = dropped
        self._tiers: Final = Tiers(snapshot.state, kept)
        self.edits: Final = UnsavedEdits(self.unsaved)
        #: The stored queue that `pending` is; `None` while that is not known.
        self.position: QueuePosition | None = None
        if isinstance(snapshot, StoredSnapshot) and not dropped:
            self.position = snapshot.position
        self._shown.has_pending = bool(kept)
        self._shown.is_loaded = self._shown.is_loaded or bool(kept)
        if dropped:
            _log.warning(
                "document %r: pending changes that do not apply are not shown: %s",
                doc_id,
                [(change.id, change.rev) for change in dropped],
            )

    @property
    def pending(self) -> Sequence[Change]:
        """Stored changes that the server has not confirmed, oldest first."""
        return self._tiers.pending

    @property
    def committed_state(self) -> Json:
        """The state at `committed_rev`, without any local change; `None` if there is none."""
        if self._tiers.unfolded:
            self._tiers.folded = apply_changes(self._tiers.folded, self._tiers.unfolded)
            self._tiers.unfolded.clear()
        return self._tiers.folded

    @property
    def unfolded_count(self) -> int:
        """How many changes `committed_state` has to apply before it can be read."""
        return len(self._tiers.unfolded)

    def queue(self) -> PendingQueue:
        """The stored queue as this document has it, its position being known."""
        assert self.position is not None
        return PendingQueue(self.committed_rev, list(self._tiers.pending), self.position.version)

    def to_snapshot(self) -> Snapshot:
        """The committed state with the pending changes. Unsaved edits are not in it."""
        return Snapshot(
            state=self.committed_state, rev=self.committed_rev, changes=list(self._tiers.pending)
        )

    def show(self, *, again: bool = False, moves: History | None = None) -> None:
        """Compute the shown state from the three tiers. `again`: notify even if it is the same.

        `moves`: what others did to the shown state, if that is known.
        """
        was_stale = self._tiers.is_stale
        state = self._computed()
        if again and state is self._shown.state and isinstance(state, dict):
            state = dict(state)
        self.publish(state, None if was_stale else moves)

    def show_pieces(self, view: Json = ABSENT) -> None:
        """Show what the pieces of an edit come to that was cut, if that is another state.

        A text without its last newline has one, once it was taken out of its object. `view`: the
        state with all pending changes, if that is known.
        """
        if view is not ABSENT:
            self._tiers.viewed = len(self._tiers.pending), view
        state = self._computed()
        if not json_equal(state, self._shown.state):
            self.publish(state)

    # ---- inside ----------------------------------------------------------------------------------

    def _computed(self) -> Json:
        state = self._view()
        for ops in [*self.unsaved]:
            if not ops:
                self.edits.forget(ops)
                continue
            try:
                base: Json = {} if state is None else state
                state = without_absent(apply_patch(base, ops, strict=True))
            except PatchError as exc:
                self.mark_refused(ops)
                self.edits.refuse(ops, f"it does not apply to the document any more: {exc}")
        self._tiers.is_stale = False
        return state

    def _advance(self, rev: int, pending: Sequence[Change]) -> None:
        self._shown.committed_rev = rev
        self._take_pending(pending)
        self._shown.is_loaded = True

    def _take_pending(self, pending: Sequence[Change]) -> None:
        self._tiers.pending = list(pending)
        self._tiers.viewed = None
        self._shown.has_pending = bool(pending)
        self._shown.is_loaded = self._shown.is_loaded or bool(pending)

    def _view(self) -> Json:
        """The committed state with all pending changes on it: the view before with those that were
        appended since, if it is known.
        """
        tiers = self._tiers
        count = len(tiers.pending)
        if not count:
            state = self.committed_state
        else:
            state = ABSENT if tiers.viewed is None else self._continued(*tiers.viewed)
            if state is ABSENT:
                state = self._view_of_all()
        tiers.viewed = count, state
        return state

    def _continued(self, viewed: int, state: Json) -> Json:
        pending = self._tiers.pending
        if viewed > len(pending) or (state is SHOWN and self.unsaved):
            return ABSENT
        if state is SHOWN:
            state = self._shown.handed_out()
        try:
            return apply_changes(state, pending[viewed:])
        except ApplyChangesError:
            return ABSENT

    def _view_of_all(self) -> Json:
        state, rev, pending = self.committed_state, self.committed_rev, self._tiers.pending
        try:
            return apply_pending_for_view(state, rev, pending)
        except ApplyChangesError:
            # One change that no longer applies must not hide the others; it stays in the queue.
            _, view, hidden = hydrated(state, rev, pending)
            _log.warning(
                "document %r: pending changes that do not apply are not shown: %s",
                self.id,
                [(change.id, change.rev) for change in hidden],
            )
            return view

"""`OTDoc`: an open document under OT.

Its state is three things on top of each other: what the server has committed, what is stored here
and waits for the server (`pending`), and edits that are not stored yet (`unsaved`). The shown state
is computed once per edit. Confirming an edit, by the store or by the server, moves it down a tier
and leaves the shown state as it is; only what came from elsewhere makes it computed again.

A committed change that only confirms what is shown already is not applied to the committed state
either, but remembered: the next change of somebody else applies what has gathered in one pass, and
when nothing is left on top, the shown state is the committed one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import ClassVar, Final, Literal

from patches.algorithms.ot.apply import apply_changes
from patches.algorithms.ot.preparing import can_cut, prepared
from patches.algorithms.ot.store import PendingQueue, StoredSnapshot
from patches.algorithms.ot.tiers import SHOWN, TieredDoc
from patches.algorithms.ot.undo import OTUndoRules
from patches.algorithms.ot.views import (
    Preview,
    check_follows,
    has_hole,
    is_same_queue,
    preview_of,
    preview_with_view,
    shown,
    view_above,
    was_taken_out,
)
from patches.algorithms.ot.walk import TransformWalk
from patches.documents.draft import ops_to_reach
from patches.documents.reversals import History
from patches.documents.shape import T
from patches.errors import (
    ApplyChangesError,
)
from patches.json_patch import ABSENT
from patches.model.change import Change, DocSyncStatus, Snapshot
from patches.model.json_values import Json, Op

_log = logging.getLogger("patches.ot")

#: Confirmed changes that gather before they are applied to the committed state.
_MAX_UNFOLDED: Final = 200
#: How many of them are applied in one turn of the event loop.
_FOLDED_AT_ONCE: Final = 50
#: Why an edit that was made on a history that is no more is set aside.
_LOST_GROUND: Final = "what it was made on is not in the document any more"
_id_of: Final = attrgetter("id")


class OTDoc(TieredDoc[T]):
    """An open OT document. `OTAlgorithm` makes it; `Patches` owns it."""

    follows: ClassVar[Literal["operations", "states"] | None] = "operations"

    # ---- the tiers -------------------------------------------------------------------------------

    def prepare_ops(self, ops: list[Op]) -> list[Op]:
        shown = self._shown
        return prepared(self.id, shown.state, ops, self.limits, exists=shown.committed_rev > 0)

    def can_cut(self, op: Op, max_bytes: int) -> bool:
        return can_cut(op, max_bytes, self.limits)

    @property
    def pending_count(self) -> int:
        return len(self._tiers.pending)

    def measure_pending(self) -> int:
        return sum(len(change.encoded) for change in self._tiers.pending)

    # ---- what the algorithm does with it ---------------------------------------------------------

    def apply_changes(self, changes: Sequence[Change], edit: list[Op] | None = None) -> None:
        """Take over what was stored.

        Committed changes that follow on from `committed_rev`, then all pending ones, rebased; or
        only pending ones, which are the oldest unsaved edit (`edit`), now stored. Raises
        `PatchesError` if the committed ones do not follow on, `ApplyChangesError` if they cannot be
        applied; then nothing is changed.
        """
        committed = [change for change in changes if change.committed_at > 0]
        if committed and changes[0].committed_at > 0:
            self.receive(committed, changes[len(committed) :])
        elif changes:
            self.confirm_saved(changes, edit)

    def preview(self, committed: Sequence[Change]) -> Preview:
        """What `receive` will make of these changes. Raises `ApplyChangesError`."""
        preview = preview_of(self.committed_rev, self._tiers.pending, committed)
        if preview.is_shown:
            return preview
        state = apply_changes(self.committed_state, committed)
        return Preview(is_shown=False, is_echo=preview.is_echo, committed_state=state)

    def view_ahead(
        self, committed: Sequence[Change], pending: Sequence[Change]
    ) -> Callable[[], Preview]:
        """As `preview`, with the view of `pending` on top, for a thread: the call reads nothing of
        the document, only values that do not change.
        """
        tiers = self._tiers
        before, unfolded = list(tiers.pending), list(tiers.unfolded)
        return partial(
            preview_with_view,
            self.committed_rev, before, tiers.folded, unfolded, committed, pending,
        )  # fmt: skip

    def receive(
        self,
        committed: Sequence[Change],
        pending: Sequence[Change],
        preview: Preview | None = None,
        *,
        advanced: Sequence[list[Op]] | None = None,
    ) -> None:
        """Advance to the last of the committed changes, with this pending queue on top.

        `preview`: what `preview` gave for them, if nothing was received since. `advanced`: what
        others committed, advanced over the queue as it is now, if that is known. Raises as
        `apply_changes`.
        """
        check_follows(self.committed_rev, committed)
        preview = preview or self.preview(committed)
        moves = self._moves(advanced) if self._watchers else None
        others = self.edits.move(self._tiers.pending, committed, pending, advanced)
        if preview.is_shown:
            kept = {*map(_id_of, pending)}
            if kept.issuperset(map(_id_of, self._tiers.pending[len(committed) :])):
                self._confirm_committed(committed, pending, others)
                return
            # Another process has set one of ours aside: it is not to be shown any more.
            committed_state = apply_changes(self.committed_state, committed)
            preview = Preview(is_shown=False, committed_state=committed_state)
        rev, before = self.committed_rev, self._tiers.pending
        is_behind = preview.is_echo and any(change.base_rev < rev for change in before)
        self._tiers.folded = preview.committed_state
        self._tiers.unfolded.clear()
        self._advance(committed[-1].rev, pending)
        if preview.view is not ABSENT:
            self._tiers.viewed = len(self._tiers.pending), preview.view
        if is_behind and not others:
            # Shown again with the next event, at the latest when the status becomes "synced": an
            # echo by itself does not notify subscribers.
            self._tiers.is_stale = True
        else:
            self.show(moves=None if others else moves)

    def view_ahead_of(self, pending: Sequence[Change]) -> Callable[[], Json]:
        """The state with this queue in the place of the present one, for a thread; `ABSENT` if
        some of it cannot be applied.
        """
        tiers = self._tiers
        return partial(
            view_above, tiers.folded, list(tiers.unfolded), self.committed_rev, list(pending)
        )

    def replace_pending(self, pending: Sequence[Change], *, is_cut: bool = True) -> None:
        """Take over the queue in other pieces, or with some changes gone, which does not move
        unsaved edits. What to show is the caller's. `is_cut`: the operations are others than
        before.
        """
        viewed = self._tiers.viewed
        self._take_pending(pending)
        if not is_cut:
            self._tiers.viewed = viewed

    def import_snapshot(
        self, snapshot: Snapshot, *, replace: bool = False, view: Json = ABSENT
    ) -> None:
        """Replace committed state and pending changes, keep unsaved edits on top where they apply.

        A snapshot older than `committed_rev` does nothing, unless `replace`. An unsaved edit whose
        change is among the snapshot's was stored meanwhile: it is not applied twice. `view`: the
        state that it shows, if that is known.
        """
        if snapshot.rev < self.committed_rev and not replace:
            return
        self.edits.move(self._tiers.pending, [], snapshot.changes)
        self._tiers.folded = snapshot.state
        self._tiers.unfolded.clear()
        self._advance(snapshot.rev, snapshot.changes)
        self.position = snapshot.position if isinstance(snapshot, StoredSnapshot) else None
        if view is not ABSENT:
            self._tiers.viewed = len(self._tiers.pending), view
        self.show()

    def insert_pending(self, saved: Sequence[Change]) -> None:
        """Take over changes that were appended to the stored queue by somebody else: unsaved edits
        move behind them.
        """
        self.edits.move(self._tiers.pending, [], [*self._tiers.pending, *saved])
        self._take_pending([*self._tiers.pending, *saved])
        self.show()

    def take_over(self, queue: PendingQueue) -> bool:
        """Take over what other processes have stored. Unsaved edits move behind it.

        `queue` has the changes committed since. `False`, and nothing is changed: those are not all
        there, or cannot be applied.
        """
        missed = queue.committed
        if missed and (missed[0].rev != self.committed_rev + 1 or has_hole(missed)):
            return False
        if self.unsaved and was_taken_out(self._tiers.pending, [*missed, *queue.pending]):
            try:
                state = apply_changes(self.committed_state, missed)
            except ApplyChangesError:
                return False
            self.take_over_all(StoredSnapshot.of(state, queue), committed=missed)
        elif missed:
            try:
                self.receive(missed, queue.pending)
            except ApplyChangesError:
                return False
        elif queue.committed_rev != self.committed_rev:
            return False
        elif not is_same_queue(queue.pending, self._tiers.pending):
            self.edits.move(self._tiers.pending, [], queue.pending)
            self._take_pending(queue.pending)
            self.show()
        self.position = queue.position
        return True

    def take_over_all(
        self,
        stored: StoredSnapshot,
        committed: Sequence[Change] = (),
        *,
        is_new_history: bool = False,
    ) -> None:
        """Take over the stored document, where its history does not show how it came to that.

        Unsaved edits move behind what differs. `committed`: changes known to be in its state. On a
        new history those of which nothing is left are to be set aside: nobody has removed what they
        were made on, it is lost.
        """
        before = self.edits.without_stored(self._view(), [*committed, *stored.changes])
        self._tiers.folded = stored.state
        self._tiers.unfolded.clear()
        self._advance(stored.rev, stored.changes)
        self.position = stored.position
        if self.unsaved:
            edits = [(ops, list(ops)) for ops in self.unsaved if ops]
            self.edits.follow(ops_to_reach(shown(before), shown(self._view()), whole=False))
            for ops, made in edits if is_new_history else ():
                if not ops:
                    ops[:] = made
                    self.mark_refused(ops)
                    self.edits.refuse(ops, _LOST_GROUND)
        self.show()

    def forget_unsaved(self, ops: list[Op]) -> None:
        """Drop an edit that came to nothing when it was to be stored."""
        self.edits.forget(ops)
        self._tiers.viewed = None  # the shown state is no view any more

    def rollback_unsaved(self) -> None:
        self.mark_refused(*self.unsaved)
        self.edits.take_back()
        self.show()

    def holds(self, edit: list[Op]) -> bool:
        return super().holds(edit) or self.edits.refusal_of(edit) is not None

    def update_sync_status(self, status: DocSyncStatus, error: Exception | None = None) -> None:
        if self._tiers.is_stale:
            self.show()
        super().update_sync_status(status, error)

    def undo_rules(self) -> OTUndoRules:
        return OTUndoRules(self.limits)

    def unsent(self) -> tuple[Json, Sequence[Sequence[Op]]]:
        edits = [*(change.ops for change in self._tiers.pending), *self.unsaved]
        return shown(self.committed_state), edits

    def storing(self, changes: Sequence[Change], ops: list[Op]) -> list[Change]:
        """This edit is on its way to the store as these changes; see `UnsavedEdits.storing`."""
        for watcher in self._watchers:
            watcher.stored(ops, changes)
        return self.edits.storing(changes, ops)

    # ---- inside ----------------------------------------------------------------------------------

    def _moves(self, advanced: Sequence[list[Op]] | None) -> History | None:
        """What committed changes of others do to the shown state; `advanced` as in `receive`."""
        if advanced is None or not self.unsaved:
            return None if advanced is None else [ops for ops in advanced if ops]
        walk = TransformWalk([*self.unsaved])
        return [ops for ops in map(walk.follow, advanced) if ops]

    def confirm_saved(self, saved: Sequence[Change], edit: list[Op] | None) -> None:
        """The oldest unsaved edit (`edit`) was stored as these pending changes."""
        self.edits.arrived(saved)
        if self._has_imported(saved):
            if edit and self.unsaved and self.unsaved[0] is edit:
                edit.clear()  # it was cut in pieces, in which the import did not know it
                self.show()
            return
        tiers = self._tiers
        tiers.pending.extend(saved)
        self._shown.has_pending = self._shown.is_loaded = True
        if self.unsaved:
            self.unsaved.popleft()  # it is in the shown state already
            if edit is not None and (len(saved) > 1 or len(saved[0].ops) != len(edit)):
                if tiers.viewed is not None and tiers.viewed[1] is SHOWN:
                    tiers.viewed = None  # the pieces may show something else
                self.show_pieces()
            elif not self.unsaved and not tiers.is_stale:
                tiers.viewed = len(tiers.pending), SHOWN
        else:
            self.show()

    def _has_imported(self, saved: Sequence[Change]) -> bool:
        """Whether a snapshot of the store brought these while their saving was under way."""
        # by revision first: a queue may be long
        if not self._tiers.pending or self._tiers.pending[-1].rev < saved[0].rev:
            return False
        return any(change.id == saved[0].id for change in reversed(self._tiers.pending))

    def _confirm_committed(
        self, committed: Sequence[Change], pending: Sequence[Change], others: Sequence[Change]
    ) -> None:
        viewed = self._tiers.viewed
        self._tiers.unfolded.extend(committed)
        self._advance(committed[-1].rev, pending)
        if others:
            self.show()
            return
        if self._tiers.is_stale:
            return
        if viewed is not None and viewed[0] >= len(committed):
            self._tiers.viewed = viewed[0] - len(committed), viewed[1]
        if not self._tiers.pending and not self.unsaved:
            self._tiers.folded = self._shown.handed_out()
            self._tiers.unfolded.clear()
        elif len(self._tiers.unfolded) >= _MAX_UNFOLDED:
            tiers = self._tiers  # some of them: an answer may confirm thousands
            tiers.folded = apply_changes(tiers.folded, tiers.unfolded[:_FOLDED_AT_ONCE])
            del tiers.unfolded[:_FOLDED_AT_ONCE]

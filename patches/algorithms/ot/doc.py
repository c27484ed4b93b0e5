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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

from patches.algorithms.ot.apply import apply_changes, apply_pending_for_view, without_absent
from patches.algorithms.ot.object_marks import mark_object_keys
from patches.algorithms.ot.splitting import break_changes
from patches.algorithms.ot.walk import TransformWalk
from patches.documents.document import Document
from patches.documents.draft import ops_to_reach
from patches.errors import (
    ApplyChangesError,
    OpsRefusedError,
    PatchError,
    PatchesError,
    UnsupportedOperationError,
)
from patches.json_patch import ABSENT, apply_patch
from patches.limits import Limits
from patches.model.change import Change, DocSyncStatus, Snapshot
from patches.model.checks import check_ops, kind_of
from patches.model.codec import json_size
from patches.model.json_values import Json, Op, json_equal

_log = logging.getLogger("patches.ot")

#: Confirmed changes that gather before they are applied to the committed state.
_MAX_UNFOLDED: Final = 200


@dataclass(frozen=True, slots=True)
class Preview:
    """What receiving committed changes will do to a document."""

    #: They only confirm what is shown.
    is_shown: bool
    #: All are changes of its own; some not as they are shown.
    is_echo: bool = True
    committed_state: Json = None


class OTDoc(Document):
    """An open OT document. `OTAlgorithm` makes it; `Patches` owns it."""

    algorithm: ClassVar[str] = "ot"

    def __init__(
        self, doc_id: str, snapshot: Snapshot | None = None, *, limits: Limits | None = None
    ) -> None:
        snapshot = snapshot or Snapshot(state=None, rev=0)
        pending = list(snapshot.changes)
        kept, view, dropped = _hydrated(snapshot.state, snapshot.rev, pending)
        super().__init__(doc_id, state=view, committed_rev=snapshot.rev, limits=limits)
        #: Stored changes that could not be shown when the document was opened.
        self.dropped_pending_changes = dropped
        self._folded_state: Json = snapshot.state
        self._unfolded: list[Change] = []
        self._pending: list[Change] = kept
        self._view_is_stale = False
        #: By change id: unsaved edits that a failed call may have stored all the same.
        self._maybe_stored: dict[str, list[Op]] = {}
        self.has_pending = bool(kept)
        if dropped:
            _log.warning(
                "document %r: pending changes that do not apply are not shown: %s",
                doc_id,
                [(change.id, change.rev) for change in dropped],
            )

    # ---- the tiers -------------------------------------------------------------------------------

    @property
    def pending(self) -> Sequence[Change]:
        """Stored changes that the server has not confirmed, oldest first."""
        return self._pending

    @property
    def committed_state(self) -> Json:
        """The state at `committed_rev`, without any local change; `None` if there is none."""
        if self._unfolded:
            self._folded_state = apply_changes(self._folded_state, self._unfolded)
            self._unfolded.clear()
        return self._folded_state

    def to_snapshot(self) -> Snapshot:
        """The committed state with the pending changes. Unsaved edits are not in it."""
        return Snapshot(
            state=self.committed_state, rev=self.committed_rev, changes=list(self._pending)
        )

    def prepare_ops(self, ops: list[Op]) -> list[Op]:
        """As `Document` has it. A write of the whole document becomes the edits that lead there:
        on a document that exists a server refuses it, since it would undo what others do. A key
        like `"5"` of an object is marked, so that it is not taken for an index.
        """
        for index, op in enumerate(ops):
            if op.get("ts") is not None:
                raise UnsupportedOperationError(
                    f"ops[{index}]: 'ts' belongs to last-write-wins documents; leave it out"
                )
        if not self.committed_rev or all(op.get("path") != "" for op in ops):
            return mark_object_keys(self.state, ops)
        check_ops(ops, self.limits, counted=False)
        target = apply_patch(self.state, ops, strict=True)
        target = {} if target is ABSENT else target
        if type(target) is not type(self.state):
            raise UnsupportedOperationError(
                f"document {self.id!r} exists on the server and stays {kind_of(self.state)}; it "
                f"cannot become {kind_of(target)}: put the value under a key, or make another "
                f"document"
            )
        edits = ops_to_reach(self.state, target, max_depth=self.limits.max_doc_depth)
        return mark_object_keys(self.state, edits)

    def can_cut(self, op: Op, max_bytes: int) -> bool:
        change = Change(id="", ops=[op], base_rev=0, rev=1, created_at=0)
        pieces = break_changes([change], max_bytes, new_id=lambda _rev: "", is_exact=True)
        try:
            for piece in pieces:  # a text that is taken out of a value becomes a text edit
                check_ops(piece.ops, self.limits)
        except OpsRefusedError:
            return False
        return all(json_size(piece.ops) <= max_bytes for piece in pieces)

    @property
    def pending_count(self) -> int:
        return len(self._pending)

    def measure_pending(self) -> int:
        return sum(len(change.encoded) for change in self._pending)

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
            self._confirm_saved(list(changes), edit)

    def preview(self, committed: Sequence[Change]) -> Preview:
        """What `receive` will make of these changes. Raises `ApplyChangesError`."""
        own = {change.id for change in self._pending}
        is_echo = all(change.id in own for change in committed)
        if is_echo and self._confirms_front(committed):
            return Preview(is_shown=True)
        return Preview(
            is_shown=False,
            is_echo=is_echo,
            committed_state=apply_changes(self.committed_state, committed),
        )

    def receive(
        self,
        committed: Sequence[Change],
        pending: Sequence[Change],
        preview: Preview | None = None,
    ) -> None:
        """Advance to the last of the committed changes, with this pending queue on top.

        `preview`: what `preview` gave for them, if nothing was received since. Raises as
        `apply_changes`.
        """
        self._check_follows(committed)
        preview = preview or self.preview(committed)
        if preview.is_shown:
            self._confirm_committed(committed, pending)
            return
        if not preview.is_echo:
            self.rebase_unsaved(committed)
        has_debt = any(change.base_rev < self.committed_rev for change in self._pending)
        self._folded_state = preview.committed_state
        self._unfolded.clear()
        self._advance(committed[-1].rev, pending)
        if preview.is_echo and has_debt:
            # Shown again with the next event, at the latest when the document is said to be synced:
            # an echo as such tells no subscriber.
            self._view_is_stale = True
        else:
            self.show()

    def replace_pending(self, pending: Sequence[Change]) -> None:
        """Take over a queue that the store has in other pieces, or with some changes gone. What to
        show is the caller's.
        """
        self._take_pending(pending)

    def import_snapshot(self, snapshot: Snapshot, *, replace: bool = False) -> None:
        """Replace committed state and pending changes, keep unsaved edits on top where they apply.

        A snapshot older than `committed_rev` does nothing, unless `replace`. An unsaved edit that
        is among the snapshot's pending changes, and was not among them here, was stored meanwhile:
        it is not applied twice.
        """
        if snapshot.rev < self.committed_rev and not replace:
            return
        known = {change.id for change in self._pending}
        known |= self._maybe_stored.keys()
        stored = [change.ops for change in snapshot.changes if change.id not in known]
        self._folded_state = snapshot.state
        self._unfolded.clear()
        self._advance(snapshot.rev, snapshot.changes)
        for ops in self.unsaved:
            found = next((at for at, other in enumerate(stored) if json_equal(other, ops)), None)
            if found is not None:
                del stored[found]
                ops.clear()
        self.show()

    def insert_pending(self, saved: Sequence[Change]) -> None:
        """Take over stored changes that are not an unsaved edit: those move behind them."""
        walk = TransformWalk(list(self.unsaved))
        for change in saved:
            walk.follow(change.ops)
        self._rewrite_unsaved(walk.programs())
        self._pending.extend(saved)
        self.has_pending = True
        self.show()

    def forget_unsaved(self, ops: list[Op]) -> None:
        """Drop an unsaved edit that came to nothing when it was to be stored."""
        for at, waiting in enumerate(self.unsaved):
            if waiting is ops:
                del self.unsaved[at]
                return

    def may_be_stored(self, change_id: str, ops: list[Op]) -> None:
        """Storing this unsaved edit failed, and it is not known whether it took effect.

        When a change of this id turns up among the pending ones, it did.
        """
        self._maybe_stored[change_id] = ops

    def rollback_unsaved(self) -> None:
        for ops in self.unsaved:
            ops.clear()
        self.show()

    def update_sync_status(self, status: DocSyncStatus, error: Exception | None = None) -> None:
        if self._view_is_stale:
            self.show()
        super().update_sync_status(status, error)

    def show(self, *, again: bool = False) -> None:
        """Compute the shown state from the three tiers. `again`: tell even if it is the same."""
        state = self._computed()
        if again and state is self._state and isinstance(state, dict):
            state = dict(state)
        self.publish(state)

    def show_pieces(self) -> None:
        """Show what the pieces of an edit come to that was cut, if that is another state.

        A text without its last newline has one, once it was taken out of its object.
        """
        state = self._computed()
        if not json_equal(state, self._state):
            self.publish(state)

    # ---- inside ----------------------------------------------------------------------------------

    def _computed(self) -> Json:
        state = self._view()
        for ops in self.unsaved:
            if ops:
                state = self._with_unsaved(state, ops)
        kept = [ops for ops in self.unsaved if ops]
        self.unsaved.clear()
        self.unsaved.extend(kept)
        self._view_is_stale = False
        return state

    def _confirm_saved(self, saved: list[Change], edit: list[Op] | None) -> None:
        for change in saved:
            self._maybe_stored.pop(change.id, None)
        if self._has_imported(saved):
            if edit and self.unsaved and self.unsaved[0] is edit:
                edit.clear()  # it was cut in pieces, in which the import did not know it
                self.show()
            return
        self._pending.extend(saved)
        self.has_pending = True
        if self.unsaved:
            self.unsaved.popleft()  # it is in the shown state already
            if edit is not None and (len(saved) > 1 or len(saved[0].ops) != len(edit)):
                self.show_pieces()
        else:
            self.show()

    def _has_imported(self, saved: Sequence[Change]) -> bool:
        """Whether a snapshot of the store brought these while their saving was under way."""
        # by revision first: a queue may be long
        if not self._pending or self._pending[-1].rev < saved[0].rev:
            return False
        return any(change.id == saved[0].id for change in reversed(self._pending))

    def _confirm_committed(self, committed: Sequence[Change], pending: Sequence[Change]) -> None:
        own = {change.id for change in self._pending}
        self._unfolded.extend(committed)
        self._advance(committed[-1].rev, pending)
        if any(change.id not in own for change in pending):
            self._view_is_stale = True  # another process that shares the store has made some
        if self._view_is_stale:
            return
        if not self._pending and not self.unsaved:
            self._folded_state = self._state
            self._unfolded.clear()
        elif len(self._unfolded) >= _MAX_UNFOLDED:
            _ = self.committed_state

    def _check_follows(self, committed: Sequence[Change]) -> None:
        if committed[0].rev != self.committed_rev + 1:
            raise PatchesError(
                "Cannot apply committed changes to a doc that is not at the correct revision"
            )
        for before, after in pairwise(committed):
            if after.rev != before.rev + 1:
                raise PatchesError(
                    f"Cannot apply committed changes with a gap at rev {before.rev} → {after.rev}"
                )

    def _confirms_front(self, committed: Sequence[Change]) -> bool:
        """Whether these are the first pending changes, just as they were made."""
        front = self._pending[: len(committed)]
        return len(front) == len(committed) and all(
            change.id == mine.id
            and mine.base_rev >= self.committed_rev
            and json_equal(change.ops, mine.ops)
            for change, mine in zip(committed, front, strict=True)
        )

    def _advance(self, rev: int, pending: Sequence[Change]) -> None:
        self.committed_rev = rev
        self._take_pending(pending)
        self.mark_loaded()

    def _take_pending(self, pending: Sequence[Change]) -> None:
        self._pending = list(pending)
        self.has_pending = bool(self._pending)
        if self._maybe_stored:
            for change in pending:
                self._maybe_stored.pop(change.id, []).clear()

    def rebase_unsaved(self, committed: Sequence[Change]) -> None:
        """Move unsaved edits behind committed changes, as the end of the pending queue.

        Their lists are rewritten in place. Nothing else changes.
        """
        if not self.unsaved:
            return
        mine = {change.id: at for at, change in enumerate(self._pending)}
        walk = TransformWalk([*(change.ops for change in self._pending), *self.unsaved])
        for change in committed:
            at = mine.pop(change.id, None)
            if at is None:
                walk.follow(change.ops)
            else:
                walk.remove(at)
        self._rewrite_unsaved(walk.programs()[len(self._pending) :])

    def _rewrite_unsaved(self, programs: Sequence[list[Op] | None]) -> None:
        for ops, rebased in zip(self.unsaved, programs, strict=True):
            if rebased is not ops:
                ops[:] = rebased or []

    def _view(self) -> Json:
        try:
            return apply_pending_for_view(self.committed_state, self.committed_rev, self._pending)
        except ApplyChangesError:
            # One change that no longer applies must not hide the others; it stays in the queue.
            _, view, hidden = _hydrated(self.committed_state, self.committed_rev, self._pending)
            _log.warning(
                "document %r: pending changes that do not apply are not shown: %s",
                self.id,
                [(change.id, change.rev) for change in hidden],
            )
            return view

    def _with_unsaved(self, state: Json, ops: list[Op]) -> Json:
        try:
            return without_absent(apply_patch({} if state is None else state, ops, strict=True))
        except PatchError as exc:
            _log.warning(
                "document %r: an edit that no longer applies was dropped: %s", self.id, exc
            )
            ops.clear()
            return state


def _hydrated(
    state: Json, rev: int, pending: Sequence[Change]
) -> tuple[list[Change], Json, list[Change]]:
    """The queue that can be kept, the state it shows, and the changes that cannot be applied."""
    try:
        return list(pending), apply_pending_for_view(state, rev, pending), []
    except ApplyChangesError:
        pass
    kept: list[Change] = []
    dropped: list[Change] = []
    for change in pending:
        if change.base_rev < rev:
            kept.append(change)  # made for another state: it is the server's to transform
            continue
        try:
            state = without_absent(apply_patch(state, change.ops, strict=True))
            kept.append(change)
        except PatchError:
            dropped.append(change)
    return kept, state, dropped

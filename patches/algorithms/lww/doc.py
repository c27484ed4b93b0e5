"""`LWWDoc`: an open document whose last write of a field wins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final, Literal

from patches.algorithms.lww.field_table import FieldTable
from patches.algorithms.lww.receive import rows_of
from patches.algorithms.lww.state import committed_state, rederive, shown_state, shows_history
from patches.algorithms.lww.steps import Step, Work
from patches.algorithms.lww.undo import LWWUndoRules
from patches.algorithms.lww.unsent import Unsent
from patches.algorithms.lww.writes import as_writes
from patches.documents.document import Document
from patches.documents.shape import T
from patches.limits import Limits
from patches.model.change import Change, Snapshot
from patches.model.checks import check_ops
from patches.model.codec import json_size
from patches.model.json_values import Json, Op, json_equal

UNKNOWN_VERSION: Final = -1


class LWWSnapshot(Snapshot):
    """What `load_doc` gives: the committed state, and the tables' version that it was read at."""

    __slots__ = ("work",)

    def __init__(self, work: Work, changes: Sequence[Change]) -> None:
        super().__init__(state=work.state, rev=work.committed_rev, changes=changes)
        self.work: Work = work


class Stored:
    """What a document shows of the stored tables, below the unsent writes."""

    __slots__ = ("committed", "version")

    def __init__(self) -> None:
        #: The committed state.
        self.committed: Json = {}
        #: The version of the tables.
        self.version: int = UNKNOWN_VERSION


class LWWDoc(Document[T]):
    """Shows the committed state with every unsent write on top, each once.

    Nothing is kept twice: the state is derived from the committed state, the pieces being sent, the
    pending ops and the unsaved edits, again only where something happened.
    """

    algorithm: ClassVar[str] = "lww"
    keeps_log: ClassVar[bool] = False
    follows: ClassVar[Literal["operations", "states"] | None] = "states"

    def __init__(
        self, doc_id: str, snapshot: Snapshot | None = None, *, limits: Limits | None = None
    ) -> None:
        super().__init__(doc_id, state={}, committed_rev=0, limits=limits)
        self.stored: Final = Stored()
        self._unsent: Final = Unsent(self.unsaved)
        if snapshot is not None:
            self.install(work_of(snapshot))

    # ---- what every document has -----------------------------------------------------------------

    def prepare_ops(self, ops: list[Op]) -> list[Op]:
        """The writes that recorded operations amount to. Raises `UnsupportedOperationError`."""
        check_ops(ops, self.limits, counted=False)
        return as_writes(self._shown.state, ops, self._unsent)

    @property
    def pending_count(self) -> int:
        """How many stored fields wait for the server."""
        return self._unsent.stored_count

    def measure_pending(self) -> int:
        """Bytes of the stored fields that wait for the server."""
        return sum(map(json_size, self._unsent.stored()))

    def import_snapshot(self, snapshot: Snapshot) -> None:
        """Replace committed and pending parts, keep what is unsaved. An older one does nothing."""
        if snapshot.rev >= self.committed_rev:
            self.install(work_of(snapshot))

    def rollback_unsaved(self) -> None:
        """Forget unsaved edits and show the rest."""
        self.mark_refused(*self.unsaved)
        touched = [op["path"] for ops in self.unsaved for op in ops]
        for ops in self.unsaved:
            ops.clear()
        self.unsaved.clear()
        self._show(touched)

    def undo_rules(self) -> LWWUndoRules:
        return LWWUndoRules()

    # ---- for the algorithm -----------------------------------------------------------------------

    def install(self, work: Work) -> None:
        """Take over everything that is stored; what is unsaved stays on top."""
        self.stored.committed = work.state
        self._unsent.replace(work.sending, work.pending)
        self.committed_rev = work.committed_rev
        self.stored.version = work.version
        self.has_pending = self._unsent.stored_count > 0
        shown = shown_state(self.stored.committed, self._unsent.within(""))
        if not json_equal(shown, self._shown.state):
            self.publish(shown)

    def follow(self, step: Step, saved_edit: list[Op] | None = None) -> bool:
        """Follow a write to the tables. `saved_edit`: the unsaved edit that it stored.

        `False`: the step does not determine the state; the document has to be installed anew.
        """
        shows_already = saved_edit is not None and self._drop_saved(saved_edit)
        if step.work is not None:
            self.install(step.work)
            return True
        stored, doc = self.stored, self._shown
        stored.version = step.after
        if step.committed_rev > doc.committed_rev:
            doc.committed_rev, doc.is_loaded = step.committed_rev, True
        touched: list[str] = []
        for piece in step.confirmed:
            touched += [op["path"] for op in piece.ops]
        if step.rows:
            touched += [op["path"] for op in step.rows]
            before = stored.committed
            stored.committed = committed_state(before, step.rows)
            if shows_history(before, stored.committed, step.rows):
                stored.version = UNKNOWN_VERSION  # until it is installed, should the store fail now
                return False
        if step.saved or step.removed_paths or step.sending is not None:
            self._unsent.save(step.saved, step.removed_paths)
            if step.sending is not None:
                self._unsent.send(step.sending)
            else:
                touched += step.removed_paths
            doc.has_pending = self._unsent.stored_count > 0
            doc.is_loaded = doc.is_loaded or doc.has_pending
        # A write that became the pending op as it is may show already. One that was folded differs,
        # and a removal takes along what an earlier pending write had made to hold its field.
        for op in step.local:
            if not shows_already or op["op"] == "remove" or not self._unsent.pending_is(op):
                touched.append(op["path"])
        if touched:
            self._show(touched)
        return True

    def follow_edits(
        self, steps: Sequence[Step | None], edits: Sequence[list[Op]], work: Work | None
    ) -> None:
        """Follow edits that were stored. `work`: everything, if the steps are not enough."""
        for step, edit in zip(steps, edits, strict=True):
            if step is None:
                continue
            if work is None:
                self.follow(step, edit)
            else:
                self._drop_saved(edit)
        if work is not None:
            self.install(work)

    def _drop_saved(self, edit: list[Op]) -> bool:
        """Take a stored edit off the unsaved ones; whether it was among them, and so is shown."""
        for index, ops in enumerate(self.unsaved):
            if ops is edit:  # by identity: two edits may be equal
                del self.unsaved[index]
                return True
        return False

    def _show(self, touched: Iterable[str]) -> None:
        shown = rederive(self._shown.state, self.stored.committed, self._unsent, touched)
        if shown is not self._shown.state:
            self.publish(shown)


def work_of(snapshot: Snapshot) -> Work:
    """A snapshot's parts: committed changes join the state, the last local one is pending."""
    if isinstance(snapshot, LWWSnapshot):
        return snapshot.work
    committed = [change for change in snapshot.changes if change.committed_at]
    local = [change for change in snapshot.changes if not change.committed_at]
    pending = FieldTable(local[-1].ops if local else ())
    return Work(
        state=committed_state(snapshot.state, rows_of(committed)),
        committed_rev=max([snapshot.rev, *(change.rev for change in committed)]),
        sending=local[:-1],
        pending=pending.ops(),
        version=UNKNOWN_VERSION,
    )

"""`OTAlgorithm`: operational transformation behind the interface of every algorithm.

Everything that changes a document's queue or its committed part runs under the document's lock:
read the queue, decide (pure functions), write in one store transaction, then tell the open
document. The lock orders what this process does; between processes that share a store the
transaction checks that the queue is still the one that was read, and the step is done again if not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from patches.algorithms.base import LocalEdit
from patches.algorithms.ot.apply import apply_changes
from patches.algorithms.ot.batching import leading_run, plan_batch
from patches.algorithms.ot.committed import find_gap
from patches.algorithms.ot.doc import OTDoc
from patches.algorithms.ot.quarantine import Quarantine
from patches.algorithms.ot.rebase import renumbered
from patches.algorithms.ot.receiving import (
    Reception,
    plan_install,
    plan_reception,
    reconciled,
    refuse_lww,
)
from patches.algorithms.ot.store import Conflict, PendingQueue
from patches.algorithms.ot.stored_docs import ot_doc
from patches.documents.document import Document
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op
from patches.options import DocOptions


class OTAlgorithm(Quarantine):
    """OT on the client. Owned by a `Patches`.

    `options` are the sizes for changes as they are made; `store` is the backend's unless given.
    """

    name: ClassVar[str] = "ot"
    edits_at_once: ClassVar[int] = 128

    # ---- documents and local edits ---------------------------------------------------------------

    def create_doc(self, doc_id: str, snapshot: Snapshot | None = None) -> OTDoc:
        return OTDoc(doc_id, snapshot, limits=self._limits)

    async def handle_doc_change(
        self,
        doc_id: str,
        ops: list[Op],
        doc: Document | None,
        metadata: Mapping[str, Json],
        change_id: str | None = None,
    ) -> list[Change]:
        if not ops:
            return []
        (saved,) = await self.handle_doc_changes(doc_id, [LocalEdit(ops, metadata, change_id)], doc)
        return saved

    async def handle_doc_changes(
        self, doc_id: str, edits: Sequence[LocalEdit], doc: Document | None
    ) -> list[list[Change]]:
        open_doc = ot_doc(doc)
        async with self._locks(doc_id):
            base_rev, rev = await self._next_revs(doc_id, open_doc)
            pieces: list[list[Change]] = []
            for edit in edits:
                made: list[Change] = []
                if edit.ops:  # unless a rebase has emptied it while this waited
                    change = self._minted(edit.ops, base_rev, rev, edit.metadata, edit.change_id)
                    made = self._split(doc_id, change)
                    if not made and open_doc is not None:
                        open_doc.forget_unsaved(edit.ops)
                rev += len(made)
                pieces.append(made)
            to_save = [made for made in pieces if made]
            try:
                saved = iter(
                    await self.store.save_pending_edits(doc_id, to_save) if to_save else ()
                )
            except BaseException:
                # A failed commit, or a caller that went away: they may be stored nevertheless.
                for edit, made in zip(edits, pieces, strict=True):
                    if made and open_doc is not None:
                        open_doc.may_be_stored(made[0].id, edit.ops)
                raise
            stored = [next(saved) if made else made for made in pieces]
            if open_doc is not None:
                for edit, changes in zip(edits, stored, strict=True):
                    if changes:
                        open_doc.apply_changes(changes, edit.ops)
            return stored

    # ---- sending ---------------------------------------------------------------------------------

    async def needs_tail(self, doc_id: str) -> bool:
        return await self.has_pending(doc_id)

    async def get_pending_to_send(
        self, doc_id: str, doc: Document | None = None, *, report: bool = True
    ) -> list[Change] | None:
        """The first pending changes that stand on one revision; `None` if nothing is pending.

        Includes what only the open document holds, if it comes after all that is stored. Other
        such changes cannot be sent: they are told once on `on_error`, unless `report` is off.
        """
        queue = await self.store.load_queue(doc_id)
        pending = await self._with_unstored(doc_id, queue, ot_doc(doc))
        if report:
            self._report_unstored(doc_id, ot_doc(doc), pending)
        if not pending:
            return None
        base_rev = pending[0].base_rev
        mixed = next((at for at, c in enumerate(pending) if c.base_rev != base_rev), None)
        return pending[:mixed]

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        open_doc = ot_doc(doc)

        async def step() -> list[Change] | Conflict:
            queue = await self._load_queue(doc_id, open_doc)
            await self._catch_up(doc_id, open_doc, queue)
            pending = await self._with_unstored(doc_id, queue, open_doc)
            self._report_unstored(doc_id, open_doc, pending)
            if len(pending) > len(queue.pending):
                # The store has lost the end of the queue: back it goes, then it is sent like any.
                await self.store.apply_server_changes(doc_id, [], pending, queue)
                return "conflict"
            run = leading_run(queue.pending)
            if not run:
                return []
            plan = plan_batch(
                run,
                options,
                new_id=self._new_id,
                max_changes=self._limits.max_changes_per_commit,
                doc_id=doc_id,
                on_oversized=self.on_oversized_op.emit,
            )
            if _same(plan.pieces, run):
                return plan.batch
            first_rev = run[0].rev
            stored = renumbered([*plan.pieces, *queue.pending[len(run) :]], first_rev - 1)
            if await self.store.apply_server_changes(doc_id, [], stored, queue):
                return "conflict"
            if open_doc is not None:
                open_doc.replace_pending(stored)
                open_doc.show_pieces()
            return stored[: len(plan.batch)]

        async with self._locks(doc_id):
            return await self._converge("next_batch", doc_id, step)

    async def _catch_up(self, doc_id: str, doc: OTDoc | None, queue: PendingQueue) -> None:
        """Let the open document have what another process has put into the store."""
        if doc is None:
            return
        shown = {change.id for change in (*doc.pending, *doc.dropped_pending_changes)}
        if queue.committed_rev > doc.committed_rev or any(
            change.id not in shown for change in queue.pending
        ):
            await self._reload(doc_id, doc)

    async def confirm_sent(self, doc_id: str, changes: Sequence[Change]) -> None:
        """Nothing: under OT the echo of a change confirms it."""

    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        # A sent change that the answer does not name came to nothing at the server: there will be
        # no echo of it, and a replaced root never becomes empty here (`spec/ot.md` 9.6).
        answered = {change.id for change in committed}
        resolved = {change.id for change in sent if change.id not in answered}
        async with self._locks(doc_id):
            if committed:
                return await self._apply_server_changes(doc_id, committed, ot_doc(doc), resolved)
            if resolved:
                await self._drop(doc_id, resolved, ot_doc(doc))
        return []

    async def drop_resolved_pending(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None = None,
    ) -> int:
        """Drop what was sent and is not in the answer. Returns how many were pending."""
        answered = {change.id for change in committed}
        resolved = {change.id for change in sent if change.id not in answered}
        async with self._locks(doc_id):
            return await self._drop(doc_id, resolved, ot_doc(doc))

    async def _drop(self, doc_id: str, change_ids: set[str], doc: OTDoc | None) -> int:
        count = await self.store.drop_pending_changes(doc_id, change_ids) if change_ids else 0
        if doc is not None and any(change.id in change_ids for change in doc.pending):
            doc.replace_pending([c for c in doc.pending if c.id not in change_ids])
            doc.show()
        return count

    async def replace_pending_changes(
        self, doc_id: str, old: Sequence[Change], new: Sequence[Change]
    ) -> None:
        """Put `new` in the place of `old`, before what was made since (`spec/ot.md` 9.7)."""
        replaced = {change.id for change in old}

        async def step() -> Conflict | None:
            queue = await self.store.load_queue(doc_id)
            since = [change for change in queue.pending if change.id not in replaced]
            after = new[-1].rev if new else queue.committed_rev
            pending = [*new, *renumbered(since, after)]
            return await self.store.apply_server_changes(doc_id, [], pending, queue)

        async with self._locks(doc_id):
            await self._converge("replacePendingChanges", doc_id, step)

    # ---- receiving -------------------------------------------------------------------------------

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None = None
    ) -> list[Change]:
        if not changes:
            return []
        async with self._locks(doc_id):
            return await self._apply_server_changes(doc_id, changes, ot_doc(doc), set())

    async def _apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: OTDoc | None, resolved: set[str]
    ) -> list[Change]:
        refuse_lww(doc_id, changes)

        async def step() -> list[Change] | Conflict:
            queue = await self._load_queue(doc_id, doc)
            shown_rev = doc.committed_rev if doc is not None else queue.committed_rev
            pending = await self._with_unstored(doc_id, queue, doc)
            reception = plan_reception(queue, pending, changes, shown_rev, resolved)
            new, preview = reception.new, None
            if doc is not None and _follow(doc, new):
                preview = doc.preview(new)  # raises before anything is stored
            if await self.store.apply_server_changes(doc_id, changes, reception.pending, queue):
                return "conflict"
            if doc is not None and preview is not None:
                doc.receive(new, reception.pending, preview)
            elif doc is not None:
                await self._show_received(doc_id, doc, reception)
            return reception.new

        return await self._converge("applyServerChanges", doc_id, step)

    async def _show_received(self, doc_id: str, doc: OTDoc, reception: Reception) -> None:
        """Show a delivery that is not simply the next changes of the document."""
        if reception.new or doc.committed_rev < await self.store.get_committed_rev(doc_id):
            await self._reload(doc_id, doc)
        else:
            doc.replace_pending(reception.pending)
            doc.show(again=True)  # a redelivery tells the subscribers, as it always has

    async def reconcile_pending(self, doc_id: str, tail: Sequence[Change]) -> None:
        """Move pending changes behind committed ones, in the store alone (`spec/ot.md` 9.8).

        The tail is stored as committed and not applied, so this works on a state that is broken.
        """
        if not tail:
            return

        async def step() -> Conflict | None:
            queue = await self.store.load_queue(doc_id)
            rebased = reconciled(queue.committed_rev, queue.pending, tail)
            return await self.store.apply_server_changes(doc_id, tail, rebased, queue)

        async with self._locks(doc_id):
            await self._converge("reconcilePending", doc_id, step)

    async def install_snapshot(
        self,
        doc_id: str,
        snapshot: Snapshot,
        doc: Document | None,
        *,
        tail: Sequence[Change] = (),
        resolved: Sequence[Change] = (),
    ) -> None:
        refuse_lww(doc_id, [*snapshot.changes, *tail])
        open_doc = ot_doc(doc)
        state, head = apply_changes(snapshot.state, snapshot.changes), snapshot.head
        tail = [change for change in tail if change.rev <= head]
        gone = {change.id for change in (*snapshot.changes, *tail, *resolved)}

        async def step() -> list[Change] | Conflict:
            queue = await self._load_queue(doc_id, open_doc)
            pending = await self._with_unstored(doc_id, queue, open_doc)
            rebased = plan_install(queue, pending, tail, head, gone)
            committed = Snapshot(state=state, rev=head)
            if await self.store.install_doc(doc_id, committed, rebased, queue):
                return "conflict"
            return rebased

        async with self._locks(doc_id):
            rebased = await self._converge("installSnapshot", doc_id, step)
            if open_doc is not None:
                missed = [change for change in tail if change.rev > open_doc.committed_rev]
                open_doc.rebase_unsaved(missed)
                open_doc.import_snapshot(
                    Snapshot(state=state, rev=head, changes=rebased), replace=True
                )
                open_doc.mark_loaded()


def _follow(doc: OTDoc, new: Sequence[Change]) -> bool:
    """Whether these are the next committed changes of an open document."""
    return bool(new) and find_gap(doc.committed_rev, new, allow_root_replace=False) is None


def _same(pieces: Sequence[Change], run: Sequence[Change]) -> bool:
    return len(pieces) == len(run) and all(a is b for a, b in zip(pieces, run, strict=True))

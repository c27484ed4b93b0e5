"""`OTAlgorithm`: operational transformation behind the interface of every algorithm.

Everything that changes a document's queue or its committed part runs under the document's lock:
read the queue, decide (pure functions), write in one store transaction, then update the
open document. The lock orders what this process does; between processes that share a store the
transaction checks that the queue is still the one that was read, and the step is done again if not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Final

from patches.algorithms.histories import (
    check_not_outdated,
    installation_of,
    version_after_install,
)
from patches.algorithms.ot.apply import apply_changes
from patches.algorithms.ot.batching import BatchPlan, leading_run, plan_batch
from patches.algorithms.ot.doc import OTDoc
from patches.algorithms.ot.rebase import renumbered
from patches.algorithms.ot.receiving import (
    STEPS_TO_APPLY,
    plan_encoded_reception,
    plan_install,
    plan_reception,
    reception_steps,
    refuse_lww,
)
from patches.algorithms.ot.saving import Saving
from patches.algorithms.ot.splitting import OversizedOp
from patches.algorithms.ot.store import (
    CONFLICT,
    Conflict,
    PendingQueue,
    StoredSnapshot,
)
from patches.algorithms.ot.stored_docs import ot_doc
from patches.algorithms.ot.views import view_or_absent
from patches.documents.document import Document
from patches.errors import CorruptDataError
from patches.json_patch import ABSENT
from patches.model.change import Change, Snapshot
from patches.model.history import history_in
from patches.model.json_values import Json
from patches.options import DocOptions

#: Changes of one commit: its answer is parsed in one turn of the event loop.
_CHANGES_AT_ONCE: Final = 1_000


class OTAlgorithm(Saving):
    """OT on the client. Owned by a `Patches`.

    `options` are the sizes for changes as they are made; `store` is the backend's unless given.
    """

    name: ClassVar[str] = "ot"
    edits_at_once: ClassVar[int] = 128

    def create_doc(self, doc_id: str, snapshot: Snapshot | None = None) -> OTDoc:
        return OTDoc(doc_id, snapshot, limits=self._limits)

    # ---- sending ---------------------------------------------------------------------------------

    async def needs_tail(self, doc_id: str) -> bool:
        # The tail shows which changes of the queue, and of those set aside, are committed.
        if await self.has_pending(doc_id):
            return True
        return bool(await self.store.list_quarantined_changes(doc_id))

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        open_doc = ot_doc(doc)

        async def step() -> list[Change] | Conflict:
            queue = await self._current_queue(doc_id, open_doc)
            run = leading_run(queue.pending)
            if not run:
                return []
            plan = await self._plan_batch(doc_id, run, options)
            if _same(plan.pieces, run):
                return plan.batch
            first_rev = run[0].rev
            stored = renumbered([*plan.pieces, *queue.pending[len(run) :]], first_rev - 1)
            is_cut = open_doc is not None and not _have_same_ops(plan.pieces, run)
            view: Json = ABSENT
            if open_doc is not None and is_cut:
                steps = STEPS_TO_APPLY * (len(stored) + open_doc.unfolded_count)
                if self._is_long(steps):
                    view = await self._runtime.run_blocking(open_doc.view_ahead_of(stored))
            if await self._replace_queue(doc_id, open_doc, queue, stored, is_cut=is_cut):
                return CONFLICT
            if open_doc is not None and is_cut:
                open_doc.show_pieces(view)
            return stored[: len(plan.batch)]

        async with self._locks(doc_id):
            return await self._converge("next_batch", doc_id, step)

    async def _plan_batch(
        self, doc_id: str, run: Sequence[Change], options: DocOptions
    ) -> BatchPlan:
        steps = STEPS_TO_APPLY * len(run)
        oversized: list[OversizedOp] = []
        # In a thread, the runtime's source of ids must not be used.
        new_id = self._own_ids() if self._is_long(steps) else self._new_id
        plan = partial(
            plan_batch,
            run,
            options,
            new_id=new_id,
            max_changes=min(
                self._limits.max_changes_per_commit or _CHANGES_AT_ONCE, _CHANGES_AT_ONCE
            ),
            doc_id=doc_id,
            on_oversized=oversized.append,
        )
        try:
            return await self._offload(steps, plan)
        finally:
            for report in oversized:
                self.on_oversized_op.emit(report)

    async def _replace_queue(
        self,
        doc_id: str,
        doc: OTDoc | None,
        queue: PendingQueue,
        pending: Sequence[Change],
        *,
        is_cut: bool = True,
    ) -> Conflict | None:
        """Put `pending` in the place of `queue`, in the store and in the open document.

        `is_cut`: its operations are others than before.
        """
        if await self.store.apply_server_changes(doc_id, [], pending, queue):
            if doc is not None:
                await self._catch_up(doc_id, doc)
            return CONFLICT
        if doc is not None:
            doc.replace_pending(pending, is_cut=is_cut)
            doc.position = queue.position.replaced(queue.committed_rev, pending)
        return None

    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        # A sent change that the answer does not name came to nothing at the server: there will be
        # no echo of it, and a replaced root never becomes empty here (`docs/internals/ot.md` 9.6).
        answered = {change.id for change in committed}
        resolved = {change.id for change in sent if change.id not in answered}
        async with self._locks(doc_id):
            if committed:
                return await self._apply_server_changes(doc_id, committed, ot_doc(doc), resolved)
            if resolved:
                await self._drop(doc_id, resolved, ot_doc(doc))
        return []

    async def _drop(self, doc_id: str, change_ids: set[str], doc: OTDoc | None) -> None:
        async def step() -> Conflict | None:
            queue = await self._known_queue(doc_id, doc)
            left = [change for change in queue.pending if change.id not in change_ids]
            if len(left) == len(queue.pending):
                return None
            if await self._replace_queue(doc_id, doc, queue, left):
                return CONFLICT
            if doc is not None:
                doc.show()
            return None

        await self._converge("receiveAnswer", doc_id, step)

    # ---- receiving -------------------------------------------------------------------------------

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None = None
    ) -> list[Change]:
        async with self._locks(doc_id):
            if changes:
                return await self._apply_server_changes(doc_id, changes, ot_doc(doc), set())
            if doc is not None:
                await self._current_queue(doc_id, ot_doc(doc))
            return []

    async def _apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: OTDoc | None, resolved: set[str]
    ) -> list[Change]:
        refuse_lww(doc_id, changes)

        async def step() -> list[Change] | Conflict:
            queue = await self._known_queue(doc_id, doc)
            self._check_is_asked_about(doc_id, queue)
            if changes[0].rev <= queue.committed_rev:
                await self._check_overlap(doc_id, queue, changes)
            steps = reception_steps(queue, changes)
            if doc is not None:
                steps += STEPS_TO_APPLY * doc.unfolded_count
            is_long = self._is_long(steps)
            if is_long:
                reception = await self._runtime.run_blocking(
                    partial(plan_encoded_reception, queue, changes, resolved)
                )
            else:
                reception = plan_reception(queue, changes, resolved)
            new, pending, preview = reception.new, reception.pending, None
            # A root that was replaced may come without what was before it.
            follows = doc is not None and bool(new) and new[0].rev == doc.committed_rev + 1
            if doc is not None and follows:  # raises before anything is stored
                if is_long:
                    preview = await self._runtime.run_blocking(doc.view_ahead(new, pending))
                else:
                    preview = doc.preview(new)
            if await self.store.apply_server_changes(doc_id, changes, pending, queue):
                if doc is not None:
                    await self._catch_up(doc_id, doc)
                return CONFLICT
            self._histories.advance(doc_id, changes[-1].rev, changes[-1].id)
            if doc is None:
                return new
            if follows:
                doc.receive(new, pending, preview, advanced=reception.advanced)
            elif new:  # behind a root that was replaced: what was before is not at hand
                await self._catch_up(doc_id, doc)
                return new
            else:
                doc.replace_pending(pending)
                doc.show(again=True)  # a redelivery notifies the subscribers, as it always has
            doc.position = queue.position.replaced(doc.committed_rev, pending)
            return new

        try:
            return await self._converge("applyServerChanges", doc_id, step)
        except CorruptDataError as damage:
            self._recovery.reload_damaged(doc_id, damage)
            raise

    async def install_snapshot(
        self,
        doc_id: str,
        snapshot: Snapshot,
        doc: Document | None,
        *,
        tail: Sequence[Change] = (),
        resolved: Sequence[Change] = (),
        is_new_history: bool = False,
        asked_at: int | None = None,
    ) -> None:
        refuse_lww(doc_id, [*snapshot.changes, *tail])
        open_doc = ot_doc(doc)
        head = snapshot.head
        state = await self._offload(
            STEPS_TO_APPLY * len(snapshot.changes),
            partial(apply_changes, snapshot.state, snapshot.changes),
        )
        tail = [change for change in tail if change.rev <= head]
        gone = {change.id for change in (*snapshot.changes, *tail, *resolved)}
        last_id = snapshot.changes[-1].id if snapshot.changes else None
        history = history_in(snapshot.metadata, head, last_id)
        if asked_at is None and open_doc is not None:
            asked_at = open_doc.committed_rev

        async def step() -> Conflict | None:
            queue = await self._current_queue(doc_id, open_doc)
            self._check_is_asked_about(doc_id, queue)
            if not is_new_history:
                check_not_outdated(doc_id, asked_at=asked_at, head=head, rev=queue.committed_rev)
            plan = await self._offload(
                reception_steps(queue, tail),
                partial(plan_install, queue, tail, state, head, gone, is_new=is_new_history),
            )
            rebased = plan.pending
            view: Json = ABSENT
            if open_doc is not None and self._is_long(STEPS_TO_APPLY * len(rebased)):
                view = await self._runtime.run_blocking(
                    partial(view_or_absent, state, head, rebased)
                )
            committed = Snapshot(state=state, rev=head)
            aside = [self._aside(doc_id, change, reason) for change, reason in plan.aside]
            if await self.store.install_doc(
                doc_id, committed, rebased, queue, history, aside, gone
            ):
                return CONFLICT
            version = version_after_install(queue.version)
            self._histories.put(doc_id, history, installation_of(version))
            if open_doc is not None:
                if aside:  # unsaved edits were written over it
                    open_doc.mark_refused(*(entry.change for entry in aside), *open_doc.unsaved)
                    open_doc.edits.refuse_all(aside[-1].reason)
                missed = [change for change in tail if change.rev > open_doc.committed_rev]
                open_doc.edits.move(open_doc.pending, missed, open_doc.pending)
                open_doc.import_snapshot(
                    StoredSnapshot(
                        state=state,
                        rev=head,
                        changes=rebased,
                        version=version,
                    ),
                    replace=True,
                    view=view,
                )
                open_doc.mark_loaded()
            for entry in aside:
                self.report_set_aside(entry)
            return None

        async with self._locks(doc_id):
            await self._converge("installSnapshot", doc_id, step)


def _have_same_ops(pieces: Sequence[Change], run: Sequence[Change]) -> bool:
    return len(pieces) == len(run) and all(
        piece.ops is change.ops for piece, change in zip(pieces, run, strict=True)
    )


def _same(pieces: Sequence[Change], run: Sequence[Change]) -> bool:
    return len(pieces) == len(run) and all(a is b for a, b in zip(pieces, run, strict=True))

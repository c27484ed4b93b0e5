"""`LWWAlgorithm`: the client's side of last-write-wins documents.

It decides nothing itself: each call is one transaction over the document's tables
(`transactions.py`), and the open document then follows the same step. A lock per document keeps
both in the same order; it is not held over the network.

Instead of being mended, three things cannot go wrong. What is sent is in the store with its id
before it is sent, piece by piece, so a retry is the same change. An answer confirms and replaces in
one transaction, and rows are compared by revision, so nothing that arrives late undoes anything.
The state that is shown is derived, so nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from patches.algorithms.base import LocalEdit
from patches.algorithms.histories import installation_of
from patches.algorithms.lww import local_edits, quarantine, reading, sending, transactions
from patches.algorithms.lww.doc import LWWDoc
from patches.algorithms.lww.stored_docs import StoredDocs, lww_doc
from patches.algorithms.lww.tables import EDITS_KEPT
from patches.documents.document import Document
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.options import DocOptions


class LWWAlgorithm(StoredDocs):
    """Keeps LWW documents equal. `store` is usually left to `open_store`."""

    name: ClassVar[str] = "lww"
    edits_at_once: ClassVar[int] = EDITS_KEPT

    # ---- documents and local edits ---------------------------------------------------------------

    def create_doc(self, doc_id: str, snapshot: Snapshot | None = None) -> LWWDoc:
        """An open document over what `load_doc` gave."""
        return LWWDoc(doc_id, snapshot, limits=self._limits)

    async def handle_doc_changes(
        self, doc_id: str, edits: Sequence[LocalEdit], doc: Document | None
    ) -> list[list[Change]]:
        """Fold edits into the stored pending ops, all at the time now, in one transaction.

        With the same id again an edit is stored once: a failed try may have stored it all the same.
        The changes that are returned are for listeners; what is sent has ids and no metadata of its
        own.
        """
        now, opened = self._runtime.wall_ms(), lww_doc(doc)
        async with self._locks(doc_id):
            # what was rolled back while it waited is empty
            written = [(list(edit.ops), edit.change_id) for edit in edits]
            known = None if opened is None else opened.stored.version
            steps, work = await self._store.change(
                doc_id, lambda tables: local_edits.add_edits(tables, written, now, known)
            )
            if opened is not None:
                opened.follow_edits(steps, [edit.ops for edit in edits], work)
                if work is not None:
                    self._notice(opened, known)
        return [
            []
            if step is None
            else [
                self._change(
                    step.local,
                    step.committed_rev,
                    now,
                    change_id=edit.change_id,
                    metadata=edit.metadata,
                )
            ]
            for edit, step in zip(edits, steps, strict=True)
        ]

    # ---- sending ---------------------------------------------------------------------------------

    async def has_pending(self, doc_id: str) -> bool:
        """Whether a piece is being sent or an op is pending."""
        return await self._store.read(doc_id, reading.has_pending)

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        """The next piece; an edit made meanwhile comes after the pieces before it.

        Pieces are in the store with their ids before the first of them is returned. Raises
        `UnsplittableChangeError`; then the ops stay pending.
        """
        return await self._next_piece(doc_id, doc, options.over(self._options))

    async def _next_piece(
        self, doc_id: str, doc: Document | None, options: DocOptions | None
    ) -> list[Change]:
        opened, new_id, now = lww_doc(doc), self._own_ids(), self._runtime.wall_ms()
        async with self._locks(doc_id):
            known = None if opened is None else opened.stored.version
            piece, step = await self._store.change(
                doc_id,
                lambda tables: sending.next_piece(
                    tables,
                    options,
                    new_id=new_id,
                    now=now,
                    doc_id=doc_id,
                    known=known,
                    max_ops=self._limits.max_ops_per_change,
                ),
            )
            await self._follow(doc_id, opened, step)
        return [] if piece is None else [piece]

    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        """As `Algorithm` has it: the sent pieces are confirmed by id, in the one transaction that
        applies the answer's rows.
        """
        opened = lww_doc(doc)
        async with self._locks(doc_id):
            known = None if opened is None else opened.stored.version
            asked = self._histories.asked_about(doc_id)
            step = await self._received(
                doc_id,
                lambda tables: transactions.fold_answer(
                    tables, doc_id, sent, committed, known, asked
                ),
            )
            await self._follow(doc_id, opened, step)
        return step.newly_committed

    # ---- receiving -------------------------------------------------------------------------------

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None = None
    ) -> list[Change]:
        """As `Algorithm` has it. A document that another process has left behind takes what is
        stored.
        """
        opened = lww_doc(doc)
        if not changes and opened is None:
            return []
        async with self._locks(doc_id):
            known = None if opened is None else opened.stored.version
            asked = self._histories.asked_about(doc_id)
            step = await self._received(
                doc_id,
                lambda tables: transactions.fold_changes(tables, doc_id, changes, (), known, asked),
            )
            await self._follow(doc_id, opened, step)
        return step.newly_committed

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
        """Replace the committed part by the server's; pending ops and pieces stay.

        `resolved` pieces are dropped. There is no `tail`: rows need no rebasing.
        """
        opened, now = lww_doc(doc), self._runtime.wall_ms()
        ids = {change.id for change in resolved}
        if asked_at is None and opened is not None:
            asked_at = opened.committed_rev
        async with self._locks(doc_id):
            asked = self._histories.asked_about(doc_id)
            work, aside = await self._received(
                doc_id,
                lambda tables: transactions.install(
                    tables,
                    doc_id,
                    snapshot,
                    ids,
                    now=now,
                    is_new_history=is_new_history,
                    asked_at=asked_at,
                    asked=asked,
                ),
            )
            history = await self._store.read(doc_id, lambda tables: tables.history())
            self._histories.put(doc_id, history, installation_of(work.version))
            if opened is not None:
                opened.install(work)
            for entry in aside:
                self.report_set_aside(entry)

    # ---- changes that the server refuses ---------------------------------------------------------

    async def verify_pending_change(self, doc_id: str, change_id: str) -> bool:
        """Whether a piece applies strictly to the committed state; `True` if there is none."""
        return await self._store.read(
            doc_id, lambda tables: quarantine.applies_cleanly(tables, change_id)
        )

    async def eject_pending_change(
        self,
        doc_id: str,
        change_id: str,
        reason: str,
        doc: Document | None = None,
        *,
        only_if_unappliable: bool = False,
    ) -> QuarantinedChange | None:
        """Move a piece into quarantine. Pending ops have no id yet and cannot be ejected."""
        opened, now = lww_doc(doc), self._runtime.wall_ms()
        async with self._locks(doc_id):
            ejected = await self._store.change(
                doc_id,
                lambda tables: quarantine.eject(
                    tables, doc_id, change_id, reason, now, only_if_unappliable=only_if_unappliable
                ),
            )
            if ejected is None:
                return None
            quarantined, work = ejected
            if opened is not None:
                opened.mark_refused(quarantined.change)
                self._take(opened, work)
        return quarantined

    async def divide_pending_change(
        self, doc_id: str, change_id: str, doc: Document | None
    ) -> bool:
        """As `Algorithm` has it: a piece holds many edits, and is divided between them."""
        opened, new_id = lww_doc(doc), self._own_ids()
        async with self._locks(doc_id):
            work = await self._store.change(
                doc_id, lambda tables: quarantine.divide(tables, change_id, new_id=new_id)
            )
            if work is not None and opened is not None:
                self._take(opened, work)
        return work is not None

    async def retry_quarantined_change(
        self, doc_id: str, change_id: str, doc: Document | None
    ) -> list[Change]:
        """Send a quarantined change again, under its own id, behind what is being sent.

        Raises `PendingChangeError` if it is not in quarantine.
        """
        opened = lww_doc(doc)
        async with self._locks(doc_id):
            piece, work = await self._store.change(
                doc_id, lambda tables: quarantine.retry(tables, doc_id, change_id)
            )
            if opened is not None:
                self._take(opened, work)
        return [piece]

"""Changes that the server refuses: judging them, setting them aside, trying them again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

from patches.algorithms.ot.doc import OTDoc
from patches.algorithms.ot.ejection import (
    applies_in_queue,
    check_applies_on_top,
    compute_pending_ejection,
)
from patches.algorithms.ot.store import CONFLICT, Conflict, PendingQueue, StoredSnapshot
from patches.algorithms.ot.stored_docs import StoredDocs, ot_doc
from patches.documents.document import Document
from patches.errors import PendingChangeError
from patches.model.change import Change, QuarantinedChange, Snapshot

_log = logging.getLogger("patches.ot")


def made_on_top(change_id: str, reason: str) -> str:
    """Why a change is set aside that only writes into what a refused one has made."""
    return f"made on top of change {change_id}, which was refused: {reason}"


class Quarantine(StoredDocs):
    """The part of OT's algorithm that handles refused changes (`docs/internals/ot.md` 9.9)."""

    async def verify_pending_change(self, doc_id: str, change_id: str) -> bool:
        snapshot = await self.store.get_doc(doc_id)
        return snapshot is None or applies_in_queue(snapshot, change_id)

    async def eject_pending_change(
        self,
        doc_id: str,
        change_id: str,
        reason: str,
        doc: Document | None = None,
        *,
        only_if_unappliable: bool = False,
    ) -> QuarantinedChange | None:
        """As `Algorithm` has it. What was made on top of the change and is nothing without it goes
        into quarantine before it, each as an entry of its own.
        """
        open_doc = ot_doc(doc)

        async def step() -> QuarantinedChange | Conflict | None:
            while True:
                entry, is_last = await eject_one()
                if is_last or not isinstance(entry, QuarantinedChange):
                    return entry

        async def eject_one() -> tuple[QuarantinedChange | Conflict | None, bool]:
            if open_doc is not None:
                await self._catch_up(doc_id, open_doc)
            snapshot = await self.store.get_doc(doc_id)
            if snapshot is None:
                return None, True
            if only_if_unappliable and applies_in_queue(snapshot, change_id):
                return None, True
            # Edits of a document that is not on a server yet were made to `{}`, as it is shown.
            state = {} if snapshot.state is None else snapshot.state
            at, why = change_id, reason
            ejection = compute_pending_ejection(state, snapshot.rev, snapshot.changes, at)
            while ejection is not None and ejection.lost:
                at, why = ejection.lost[-1].id, made_on_top(change_id, reason)
                ejection = compute_pending_ejection(state, snapshot.rev, snapshot.changes, at)
            if ejection is None:
                return None, True
            queue = PendingQueue(snapshot.rev, list(snapshot.changes), snapshot.version)
            entry = await self.store.quarantine_pending_change(
                doc_id, ejection.ejected, why, ejection.new_pending, queue
            )
            if isinstance(entry, QuarantinedChange):
                _warn_of_debt(doc_id, snapshot.rev, ejection.new_pending)
                if open_doc is not None:
                    open_doc.mark_refused(ejection.ejected)
                self._show_queue(open_doc, snapshot, ejection.new_pending)
            return entry, at == change_id

        async with self._locks(doc_id):
            return await self._converge("ejectPendingChange", doc_id, step)

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        return await self.store.list_quarantined_changes(doc_id)

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        await self.store.discard_quarantined_change(doc_id, change_id)

    async def retry_quarantined_change(
        self, doc_id: str, change_id: str, doc: Document | None
    ) -> list[Change]:
        """As `Algorithm` has it. Raises `PendingChangeError` if it is not in quarantine, or cannot
        be applied to the document as it is now; then it stays there.
        """
        open_doc = ot_doc(doc)
        async with self._locks(doc_id):
            entries = await self.store.list_quarantined_changes(doc_id)
            entry = next((entry for entry in entries if entry.change_id == change_id), None)
            if entry is None:
                raise PendingChangeError(
                    f"document {doc_id!r} has no change {change_id!r} in quarantine"
                )
            return await self._converge(
                "retryQuarantinedChange", doc_id, partial(self._requeue, doc_id, entry, open_doc)
            )

    async def _requeue(
        self, doc_id: str, entry: QuarantinedChange, doc: OTDoc | None
    ) -> list[Change] | Conflict:
        if doc is not None:
            await self._catch_up(doc_id, doc)
        snapshot: Snapshot | None = doc.to_snapshot() if doc else await self.store.get_doc(doc_id)
        check_applies_on_top(doc_id, snapshot or Snapshot(state=None, rev=0), entry.change)
        position = await self.store.load_position(doc_id)
        # Its id and time stay: if it was committed after all, the server recognises it.
        change = entry.change.replace(
            base_rev=position.committed_rev, rev=position.tail_rev + 1, batch_id=None
        )
        pieces = self._split(doc_id, change)
        saved = await self.store.requeue_quarantined_change(
            doc_id, entry.change_id, pieces, position
        )
        if saved == CONFLICT:
            return CONFLICT
        if saved and doc is not None:
            if doc.position == position:
                doc.insert_pending(saved)
                doc.position = position.appended(len(saved))
            else:
                await self._catch_up(doc_id, doc)
        return saved or []

    @staticmethod
    def _show_queue(doc: OTDoc | None, snapshot: StoredSnapshot, pending: list[Change]) -> None:
        if doc is not None:
            doc.take_over_all(
                StoredSnapshot(
                    state=snapshot.state,
                    rev=snapshot.rev,
                    changes=pending,
                    version=snapshot.version + 1,
                )
            )


def _warn_of_debt(doc_id: str, rev: int, pending: Sequence[Change]) -> None:
    behind = [change.id for change in pending if change.base_rev != rev]
    if behind:
        _log.warning(
            "document %r: pending changes made on an older revision than %d: %s",
            doc_id,
            rev,
            behind,
        )

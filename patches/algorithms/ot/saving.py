"""Edits on their way into the queue: of an open document, which shows them, and of a closed one."""

from __future__ import annotations

from collections.abc import Sequence

from patches.algorithms.base import LocalEdit
from patches.algorithms.ot.doc import OTDoc
from patches.algorithms.ot.quarantine import Quarantine
from patches.algorithms.ot.store import CONFLICT, Conflict, QueuePosition
from patches.algorithms.ot.stored_docs import ot_doc
from patches.documents.document import Document
from patches.model.change import Change


class Saving(Quarantine):
    """The part of OT's algorithm that makes edits durable."""

    async def handle_doc_changes(
        self, doc_id: str, edits: Sequence[LocalEdit], doc: Document | None
    ) -> list[list[Change]]:
        async with self._locks(doc_id):
            open_doc = ot_doc(doc)
            if open_doc is not None:
                return await self._store_shown(doc_id, edits, open_doc)
            return await self._store_unseen(doc_id, edits)

    async def _store_shown(
        self, doc_id: str, edits: Sequence[LocalEdit], doc: OTDoc
    ) -> list[list[Change]]:
        """Store edits that the open document shows."""
        ids = [edit.change_id for edit in edits]

        async def step() -> list[list[Change]] | Conflict:
            position = doc.position  # as known here: the store refuses to write behind another
            if position is None:
                position = (await self._current_queue(doc_id, doc)).position
            if doc.edits.has_refused:
                await self._set_refused_aside(doc_id, edits, ids, doc)
            pieces = self._pieces(doc_id, edits, ids, position)
            first_tried: list[Change] = []
            for edit, made in zip(edits, pieces, strict=True):
                if edit.ops and not made:
                    doc.forget_unsaved(edit.ops)
                first_tried += doc.storing(made, edit.ops)
            saved = await self._save(doc_id, pieces, position)
            self._maybe_stored.pop(doc_id, None)
            if saved == CONFLICT:
                # the others may be what has moved the queue: a call that failed has stored them
                doc.edits.arrived(first_tried)
                await self._catch_up(doc_id, doc)
                return CONFLICT
            doc.position = position.appended(sum(map(len, saved)))
            for edit, changes in zip(edits, saved, strict=True):
                if changes:
                    doc.confirm_saved(changes, edit.ops)
            return saved

        saved = await self._converge("handleDocChange", doc_id, step)
        if all(saved):
            return saved
        return [
            changes or [change for change in doc.pending if change.id == change_id]
            for change_id, changes in zip(ids, saved, strict=True)
        ]

    async def _store_unseen(self, doc_id: str, edits: Sequence[LocalEdit]) -> list[list[Change]]:
        """Store edits of a document that is not open."""
        ids = [edit.change_id for edit in edits]
        known: dict[str, Change] = {}
        if self._maybe_stored.get(doc_id):
            known = {c.id: c for c in (await self.store.load_queue(doc_id)).pending}
        left = [edit for edit in edits if edit.change_id not in known]

        async def step() -> list[list[Change]] | Conflict:
            position = await self.store.load_position(doc_id)
            pieces = self._pieces(doc_id, left, [edit.change_id for edit in left], position)
            return await self._save(doc_id, pieces, position)

        saved = iter(await self._converge("handleDocChange", doc_id, step))
        self._maybe_stored.pop(doc_id, None)
        return [
            [known[change_id]] if change_id is not None and change_id in known else next(saved)
            for change_id in ids
        ]

    def _pieces(
        self,
        doc_id: str,
        edits: Sequence[LocalEdit],
        ids: list[str | None],
        position: QueuePosition,
    ) -> list[list[Change]]:
        """The changes that edits become behind a queue; `ids` keeps the ids that are made here."""
        rev = position.tail_rev + 1
        pieces: list[list[Change]] = []
        for place, edit in enumerate(edits):
            made: list[Change] = []
            if edit.ops:  # unless a rebase has emptied it while this waited
                change = self._minted(
                    edit.ops, position.committed_rev, rev, edit.metadata, ids[place]
                )
                ids[place] = change.id
                made = self._split(doc_id, change)
            rev += len(made)
            pieces.append(made)
        return pieces

    async def _save(
        self, doc_id: str, pieces: Sequence[list[Change]], position: QueuePosition
    ) -> list[list[Change]] | Conflict:
        to_save = [made for made in pieces if made]
        if not to_save:
            return list(pieces)
        try:
            saved = await self.store.save_pending_edits(doc_id, to_save, position)
        except BaseException:
            # A failed commit, or a caller that went away: they may be stored nevertheless. An open
            # document knows that, too, but it may be closed before they are stored again.
            unsure = self._maybe_stored.setdefault(doc_id, set())
            unsure.update(made[0].id for made in to_save)
            raise
        if saved == CONFLICT:
            return CONFLICT
        if len(saved) == len(pieces):
            return saved
        stored = iter(saved)
        return [next(stored) if made else made for made in pieces]

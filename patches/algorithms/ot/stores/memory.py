"""`OTMemoryStore`: OT documents in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from patches.algorithms.ot.apply import SkippedChange, apply_changes_for_reconstruction
from patches.algorithms.ot.store import CONFLICT, Conflict, PendingQueue
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.model.json_values import Json
from patches.runtime import Runtime

_log = logging.getLogger("patches.stores")

#: Committed changes that are kept beside a state before they are folded into it.
SNAPSHOT_INTERVAL: Final = 200


def log_skipped(doc_id: str, skipped: SkippedChange) -> None:
    """Say that a committed change was left out of a document's state."""
    _log.warning(
        "document %r: committed change %s (rev %d) cannot be applied and was left out: %s",
        doc_id,
        skipped.change.id,
        skipped.change.rev,
        skipped.error,
    )


@dataclass(slots=True)
class _Document:
    state: Json = None
    rev: int = 0  # of `state`
    committed: list[Change] = field(default_factory=list)
    pending: list[Change] = field(default_factory=list)
    pending_ids: set[str] = field(default_factory=set)
    deleted: bool = False

    @property
    def committed_rev(self) -> int:
        return self.committed[-1].rev if self.committed else self.rev

    @property
    def tail_rev(self) -> int:
        return self.pending[-1].rev if self.pending else self.committed_rev

    def replace_pending(self, pending: Sequence[Change]) -> None:
        self.pending = list(pending)
        self.pending_ids = {change.id for change in pending}


class OTMemoryStore:
    """Keeps what `OTClientStore` promises while the process runs."""

    def __init__(self, *, runtime: Runtime | None = None) -> None:
        self._runtime = runtime or Runtime()
        self._docs: dict[str, _Document] = {}
        self._quarantine: dict[tuple[str, str], QuarantinedChange] = {}

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        for doc_id in doc_ids:
            self._live(doc_id)

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        for doc_id in doc_ids:
            self._docs.pop(doc_id, None)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        return [
            TrackedDoc(doc_id=doc_id, committed_rev=doc.committed_rev, deleted=doc.deleted)
            for doc_id, doc in self._docs.items()
            if include_deleted or not doc.deleted
        ]

    async def get_doc(self, doc_id: str) -> Snapshot | None:
        doc = self._docs.get(doc_id)
        if doc is None or doc.deleted:
            return None
        return Snapshot(
            state=self._replayed(doc_id, doc, len(doc.committed)),
            rev=doc.committed_rev,
            changes=list(doc.pending),
        )

    async def get_committed_rev(self, doc_id: str) -> int:
        doc = self._docs.get(doc_id)
        return doc.committed_rev if doc else 0

    async def save_doc(self, doc_id: str, snapshot: Snapshot) -> None:
        doc = self._live(doc_id)
        doc.state, doc.rev = snapshot.state, snapshot.rev
        doc.committed = list(snapshot.changes)

    async def install_doc(
        self,
        doc_id: str,
        snapshot: Snapshot,
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> Conflict | None:
        doc = self._live(doc_id)
        if self._moved(doc_id, doc, read):
            return CONFLICT
        doc.state, doc.rev = snapshot.state, snapshot.rev
        doc.committed = list(snapshot.changes)
        doc.replace_pending(rebased_pending)
        return None

    async def delete_doc(self, doc_id: str) -> None:
        self._docs[doc_id] = _Document(deleted=True)
        for key in [key for key in self._quarantine if key[0] == doc_id]:
            del self._quarantine[key]

    async def confirm_delete_doc(self, doc_id: str) -> None:
        doc = self._docs.get(doc_id)
        if doc is not None and doc.deleted:
            del self._docs[doc_id]

    async def load_queue(self, doc_id: str) -> PendingQueue:
        doc = self._docs.get(doc_id) or _Document()
        return PendingQueue(doc.committed_rev, list(doc.pending))

    async def get_pending_changes(
        self, doc_id: str, *, start_after_rev: int | None = None, limit: int | None = None
    ) -> list[Change]:
        doc = self._docs.get(doc_id) or _Document()
        after = start_after_rev if start_after_rev is not None else -1
        return [change for change in doc.pending if change.rev > after][:limit]

    async def save_pending_changes(self, doc_id: str, changes: Sequence[Change]) -> list[Change]:
        doc = self._live(doc_id)
        if changes and changes[0].id in doc.pending_ids:
            at = [change.id for change in doc.pending].index(changes[0].id)
            return doc.pending[at : at + len(changes)]
        saved = [
            change.replace(rev=rev) for rev, change in enumerate(changes, start=doc.tail_rev + 1)
        ]
        doc.pending.extend(saved)
        doc.pending_ids.update(change.id for change in saved)
        return saved

    async def save_pending_edits(
        self, doc_id: str, edits: Sequence[Sequence[Change]]
    ) -> list[list[Change]]:
        return [await self.save_pending_changes(doc_id, changes) for changes in edits]

    async def drop_pending_changes(self, doc_id: str, change_ids: Iterable[str]) -> int:
        doc = self._docs.get(doc_id) or _Document()
        dropped = set(change_ids)
        before = len(doc.pending)
        doc.replace_pending([change for change in doc.pending if change.id not in dropped])
        return before - len(doc.pending)

    async def list_changes(self, doc_id: str, *, start_after: int | None = None) -> list[Change]:
        doc = self._docs.get(doc_id) or _Document()
        after = start_after if start_after is not None else -1
        return [change for change in (*doc.committed, *doc.pending) if change.rev > after]

    async def apply_server_changes(
        self,
        doc_id: str,
        server_changes: Sequence[Change],
        rebased_pending: Sequence[Change],
        read: PendingQueue | None = None,
    ) -> Conflict | None:
        doc = self._live(doc_id)
        if read is not None and self._moved(doc_id, doc, read):
            return CONFLICT
        known = doc.committed_rev
        new = [change for change in server_changes if change.rev > known]
        doc.committed.extend(new)
        for change in new if self._quarantine else ():
            self._quarantine.pop((doc_id, change.id), None)
        doc.replace_pending(rebased_pending)
        self._fold(doc_id, doc)
        return None

    async def quarantine_pending_change(
        self,
        doc_id: str,
        poison: Change,
        reason: str,
        rebased_pending: Sequence[Change],
        read: PendingQueue | None = None,
    ) -> QuarantinedChange | Conflict | None:
        doc = self._docs.get(doc_id) or _Document()
        if read is not None and self._moved(doc_id, doc, read):
            return CONFLICT
        if all(change.id != poison.id for change in doc.pending):
            return None
        entry = QuarantinedChange(
            doc_id=doc_id,
            change_id=poison.id,
            change=poison,
            reason=reason,
            quarantined_at=self._runtime.wall_ms(),
        )
        self._quarantine[doc_id, poison.id] = entry
        doc.replace_pending(rebased_pending)
        return entry

    def _moved(self, doc_id: str, doc: _Document, read: PendingQueue) -> bool:
        if doc.committed_rev != read.committed_rev:
            return True
        if doc.pending and doc.pending[-1].rev > read.tail_rev:
            return True
        # one was ejected since: what followed it was rewritten as well
        return any(
            (doc_id, change.id) in self._quarantine and change.id not in doc.pending_ids
            for change in (read.pending if self._quarantine else ())
        )

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        return [
            entry for entry in self._quarantine.values() if doc_id is None or entry.doc_id == doc_id
        ]

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        self._quarantine.pop((doc_id, change_id), None)

    async def requeue_quarantined_change(
        self, doc_id: str, change_id: str, changes: Sequence[Change]
    ) -> list[Change] | None:
        if self._quarantine.pop((doc_id, change_id), None) is None:
            return None
        return await self.save_pending_changes(doc_id, changes)

    def _live(self, doc_id: str) -> _Document:
        doc = self._docs.get(doc_id)
        if doc is None or doc.deleted:
            doc = self._docs[doc_id] = _Document()
        return doc

    def _fold(self, doc_id: str, doc: _Document) -> None:
        while len(doc.committed) >= SNAPSHOT_INTERVAL:
            doc.state = self._replayed(doc_id, doc, SNAPSHOT_INTERVAL)
            doc.rev = doc.committed[SNAPSHOT_INTERVAL - 1].rev
            del doc.committed[:SNAPSHOT_INTERVAL]

    @staticmethod
    def _replayed(doc_id: str, doc: _Document, count: int) -> Json:
        return apply_changes_for_reconstruction(
            doc.state,
            doc.committed[:count],
            on_skipped_change=lambda skipped: log_skipped(doc_id, skipped),
        )

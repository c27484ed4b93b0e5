"""`OTMemoryStore`: OT documents in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from patches.algorithms.histories import version_after_install
from patches.algorithms.ot.store import (
    CONFLICT,
    Conflict,
    PendingQueue,
    QueuePosition,
    StoredSnapshot,
)
from patches.algorithms.ot.stores.replay import SNAPSHOT_INTERVAL, replayed
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.model.history import NO_HISTORY, History
from patches.model.json_values import Json
from patches.runtime import Runtime

_VERSION_BITS: Final = 40


@dataclass(slots=True)
class _Document:
    version: int
    state: Json = None
    rev: int = 0  # of `state`
    committed: list[Change] = field(default_factory=list)
    pending: list[Change] = field(default_factory=list)
    deleted: bool = False
    history: History = NO_HISTORY

    @property
    def position(self) -> QueuePosition:
        committed_rev = self.committed[-1].rev if self.committed else self.rev
        tail_rev = self.pending[-1].rev if self.pending else committed_rev
        return QueuePosition(committed_rev=committed_rev, version=self.version, tail_rev=tail_rev)

    @property
    def committed_rev(self) -> int:
        return self.committed[-1].rev if self.committed else self.rev

    def replace_pending(self, pending: Sequence[Change]) -> None:
        self.pending = list(pending)
        self.version += 1


class OTMemoryStore:
    """Keeps what `OTClientStore` promises while the process runs."""

    def __init__(self, *, runtime: Runtime | None = None) -> None:
        self._runtime = runtime or Runtime()
        self._docs: dict[str, _Document] = {}
        self._quarantine: dict[tuple[str, str], QuarantinedChange] = {}
        self._made = 0  # records so far: each has versions of its own

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

    async def get_doc(self, doc_id: str) -> StoredSnapshot | None:
        doc = self._docs.get(doc_id)
        if doc is None or doc.deleted:
            return None
        return StoredSnapshot(
            state=replayed(doc_id, doc.state, doc.committed),
            rev=doc.committed_rev,
            changes=list(doc.pending),
            version=doc.version,
        )

    async def install_doc(
        self,
        doc_id: str,
        snapshot: Snapshot,
        rebased_pending: Sequence[Change],
        read: PendingQueue,
        history: History = NO_HISTORY,
        aside: Sequence[QuarantinedChange] = (),
        committed_ids: Collection[str] = (),
    ) -> Conflict | None:
        if self._known(doc_id).position != read.position:
            return CONFLICT
        doc = self._live(doc_id)
        doc.state, doc.rev = snapshot.state, snapshot.rev
        doc.committed = list(snapshot.changes)
        doc.history = history
        doc.pending = list(rebased_pending)
        doc.version = version_after_install(doc.version)
        for change_id in committed_ids:
            self._quarantine.pop((doc_id, change_id), None)
        for entry in aside:
            self._quarantine[doc_id, entry.change_id] = entry
        self._fold(doc_id, doc)
        return None

    async def get_history(self, doc_id: str) -> History:
        doc = self._docs.get(doc_id)
        return doc.history if doc else NO_HISTORY

    async def put_token(self, doc_id: str, token: str | None) -> None:
        doc = self._docs.get(doc_id)
        if doc is not None:
            doc.history = History(token, doc.history.last_rev, doc.history.last_id)

    async def delete_doc(self, doc_id: str) -> None:
        self._docs[doc_id] = self._new(deleted=True)
        for key in [key for key in self._quarantine if key[0] == doc_id]:
            del self._quarantine[key]

    async def confirm_delete_doc(self, doc_id: str) -> None:
        doc = self._docs.get(doc_id)
        if doc is not None and doc.deleted:
            del self._docs[doc_id]

    async def load_position(self, doc_id: str) -> QueuePosition:
        return self._known(doc_id).position

    async def load_queue(self, doc_id: str, *, committed_after: int | None = None) -> PendingQueue:
        doc = self._known(doc_id)
        after = committed_after
        committed = [] if after is None else [c for c in doc.committed if c.rev > after]
        return PendingQueue(doc.committed_rev, list(doc.pending), doc.version, committed)

    async def load_appended(self, doc_id: str, known: QueuePosition) -> list[Change] | None:
        doc = self._known(doc_id)
        if doc.version != known.version or doc.position.is_behind(known):
            return None
        return [change for change in doc.pending if change.rev > known.tail_rev]

    async def save_pending_edits(
        self, doc_id: str, edits: Sequence[Sequence[Change]], read: QueuePosition
    ) -> list[list[Change]] | Conflict:
        if self._known(doc_id).position != read:
            return CONFLICT
        doc, rev = self._live(doc_id), read.tail_rev
        saved: list[list[Change]] = []
        for changes in edits:
            numbered: list[Change] = []
            for change in changes:
                rev += 1
                numbered.append(change if change.rev == rev else change.replace(rev=rev))
            doc.pending.extend(numbered)
            saved.append(numbered)
        return saved

    async def apply_server_changes(
        self,
        doc_id: str,
        server_changes: Sequence[Change],
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> Conflict | None:
        if self._known(doc_id).position != read.position:
            return CONFLICT
        doc = self._live(doc_id)
        known = doc.committed_rev
        new = [change for change in server_changes if change.rev > known]
        doc.committed.extend(new)
        if new:
            doc.history = doc.history.after(new[-1].rev, new[-1].id)
        for change in new if self._quarantine else ():
            self._quarantine.pop((doc_id, change.id), None)
        doc.replace_pending(rebased_pending)
        self._fold(doc_id, doc)
        return None

    async def quarantine_pending_change(
        self,
        doc_id: str,
        refused: Change,
        reason: str,
        rebased_pending: Sequence[Change],
        read: PendingQueue,
    ) -> QuarantinedChange | Conflict | None:
        doc = self._known(doc_id)
        if doc.position != read.position:
            return CONFLICT
        if all(change.id != refused.id for change in doc.pending):
            return None
        entry = QuarantinedChange(
            doc_id=doc_id,
            change_id=refused.id,
            change=refused,
            reason=reason,
            quarantined_at=self._runtime.wall_ms(),
        )
        self._quarantine[doc_id, refused.id] = entry
        doc.replace_pending(rebased_pending)
        return entry

    async def quarantine_edit(self, entry: QuarantinedChange) -> None:
        self._quarantine[entry.doc_id, entry.change_id] = entry

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        return [
            entry for entry in self._quarantine.values() if doc_id is None or entry.doc_id == doc_id
        ]

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        self._quarantine.pop((doc_id, change_id), None)

    async def requeue_quarantined_change(
        self, doc_id: str, change_id: str, changes: Sequence[Change], read: QueuePosition
    ) -> list[Change] | Conflict | None:
        if (doc_id, change_id) not in self._quarantine:
            return None
        if self._known(doc_id).position != read:
            return CONFLICT
        del self._quarantine[doc_id, change_id]
        return self._appended(self._live(doc_id), changes)

    @staticmethod
    def _appended(doc: _Document, changes: Sequence[Change]) -> list[Change]:
        first = doc.position.tail_rev + 1
        saved = [
            change if change.rev == rev else change.replace(rev=rev)
            for rev, change in enumerate(changes, start=first)
        ]
        doc.pending.extend(saved)
        return saved

    def _known(self, doc_id: str) -> _Document:
        """The document, or what it would be if it were recorded now."""
        doc = self._docs.get(doc_id)
        if doc is None or doc.deleted:
            return _Document((self._made + 1) << _VERSION_BITS)
        return doc

    def _live(self, doc_id: str) -> _Document:
        doc = self._docs.get(doc_id)
        if doc is None or doc.deleted:
            doc = self._docs[doc_id] = self._new()
        return doc

    def _new(self, *, deleted: bool = False) -> _Document:
        self._made += 1
        return _Document(self._made << _VERSION_BITS, deleted=deleted)

    @staticmethod
    def _fold(doc_id: str, doc: _Document) -> None:
        """Apply committed changes to the state, not many at a time: an answer may bring thousands,
        and the event loop waits.
        """
        if len(doc.committed) >= SNAPSHOT_INTERVAL:
            first = doc.committed[:SNAPSHOT_INTERVAL]
            doc.state, doc.rev = replayed(doc_id, doc.state, first), first[-1].rev
            del doc.committed[:SNAPSHOT_INTERVAL]

"""`PlainAlgorithm`: the smallest algorithm there is, for tests of what is above them.

It keeps documents in memory and transforms nothing. Storing can be made to fail.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from patches.aio.signals import Signal
from patches.algorithms.base import Algorithm, LocalEdit
from patches.documents.document import Document
from patches.errors import ErrorContext, PatchesError, UnsupportedOperationError
from patches.json_patch import apply_patch
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.model.json_values import Json, Op
from patches.options import DocOptions


class PlainDoc(Document):
    """Committed state, stored changes and unsaved edits, in this order."""

    algorithm: ClassVar[str] = "plain"

    def __init__(self, doc_id: str, snapshot: Snapshot) -> None:
        super().__init__(doc_id, state=snapshot.state, committed_rev=snapshot.rev)
        self.committed: Json = None
        self.pending: Sequence[Change] = ()
        self.import_snapshot(snapshot)

    def prepare_ops(self, ops: list[Op]) -> list[Op]:
        if any(op["op"] == "@txt" for op in ops):
            raise UnsupportedOperationError("plain documents have no texts")
        return [op for op in ops if op["op"] != "test"]

    @property
    def pending_count(self) -> int:
        return len(self.pending)

    def measure_pending(self) -> int:
        return sum(len(change.encoded) for change in self.pending)

    def apply_changes(self, changes: Sequence[Change]) -> None:
        self.pending = [*self.pending, *changes]
        self.has_pending = True
        if self.unsaved:
            self.unsaved.popleft()
        else:
            self._show()

    def import_snapshot(self, snapshot: Snapshot) -> None:
        self.committed, self.committed_rev = snapshot.state, snapshot.rev
        self.pending = snapshot.changes
        self.has_pending = bool(snapshot.changes)
        self._show()

    def rollback_unsaved(self) -> None:
        for ops in self.unsaved:
            ops.clear()
        self.unsaved.clear()
        self._show()

    def _show(self) -> None:
        lists = [*(change.ops for change in self.pending), *self.unsaved]
        self.publish(apply_patch(self.committed, [op for ops in lists for op in ops]))


class PlainAlgorithm(Algorithm):
    """`failures` are raised by the next calls that store an edit; `gate` holds them up."""

    name: ClassVar[str] = "plain"

    def __init__(self) -> None:
        self.on_error: Signal[[Exception, ErrorContext]] = Signal("on_error")
        self.snapshots: dict[str, Snapshot] = {}
        self.tombstones: set[str] = set()
        self.quarantine: dict[tuple[str, str], QuarantinedChange] = {}
        self.failures: deque[Exception] = deque()
        self.load_failures: deque[Exception] = deque()
        self.attempts: list[str] = []  # the id of every edit that was to be stored
        self.metadata: list[Mapping[str, Json]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.backend: Any = None
        self.is_closed = False

    def open_store(self, backend: Any) -> None:
        self.backend = backend

    async def close(self) -> None:
        self.is_closed = True

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        self._fail(self.load_failures)
        for doc_id in doc_ids:
            self.snapshots.setdefault(doc_id, Snapshot(state=None, rev=0))
            self.tombstones.discard(doc_id)

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        for doc_id in doc_ids:
            self.snapshots.pop(doc_id, None)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        live = [
            TrackedDoc(doc_id=doc_id, committed_rev=snapshot.rev, algorithm=self.name)
            for doc_id, snapshot in self.snapshots.items()
        ]
        dead = [
            TrackedDoc(doc_id=doc_id, committed_rev=0, deleted=True, algorithm=self.name)
            for doc_id in self.tombstones
        ]
        return live + dead if include_deleted else live

    async def get_committed_rev(self, doc_id: str) -> int:
        return self.snapshots[doc_id].rev

    async def delete_doc(self, doc_id: str) -> None:
        self.snapshots.pop(doc_id, None)
        self.tombstones.add(doc_id)

    async def confirm_delete_doc(self, doc_id: str) -> None:
        self.tombstones.discard(doc_id)

    def create_doc(self, doc_id: str, snapshot: Snapshot | None = None) -> Document:
        return PlainDoc(doc_id, snapshot or Snapshot(state=None, rev=0))

    async def load_doc(self, doc_id: str) -> Snapshot | None:
        await self.gate.wait()
        self._fail(self.load_failures)
        return self.snapshots.get(doc_id)

    async def handle_doc_changes(
        self, doc_id: str, edits: Sequence[LocalEdit], doc: Document | None
    ) -> list[list[Change]]:
        (edit,) = edits
        await self.gate.wait()
        if not edit.ops:
            return [[]]
        self.attempts.append(edit.change_id or "")
        self.metadata.append(edit.metadata)
        self._fail(self.failures)
        before = self.snapshots[doc_id]
        change = Change(
            id=edit.change_id or "",
            ops=edit.ops,
            base_rev=before.rev,
            rev=before.head + 1,
            created_at=0,
            metadata=edit.metadata,
        )
        self._store(doc_id, [*before.changes, change])
        if doc is not None:
            doc.apply_changes([change])
        return [[change]]

    async def has_pending(self, doc_id: str) -> bool:
        return bool(self.snapshots[doc_id].changes)

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        return list(self.snapshots[doc_id].changes)

    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        await self.install_snapshot(
            doc_id, Snapshot(state=None, rev=committed[-1].rev, changes=committed), doc
        )
        return list(committed)

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None
    ) -> list[Change]:
        return await self.receive_answer(doc_id, (), changes, doc)

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
        self.snapshots[doc_id] = snapshot
        if doc is not None:
            doc.import_snapshot(snapshot)

    async def eject_pending_change(
        self,
        doc_id: str,
        change_id: str,
        reason: str,
        doc: Document | None,
        *,
        only_if_unappliable: bool = False,
    ) -> QuarantinedChange | None:
        pending = self.snapshots[doc_id].changes
        ejected = [change for change in pending if change.id == change_id]
        if not ejected or only_if_unappliable:
            return None
        self._store(doc_id, [change for change in pending if change.id != change_id])
        entry = QuarantinedChange(
            doc_id=doc_id, change_id=change_id, change=ejected[0], reason=reason, quarantined_at=0
        )
        self.quarantine[doc_id, change_id] = entry
        if doc is not None:
            doc.import_snapshot(self.snapshots[doc_id])
        return entry

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        return [entry for entry in self.quarantine.values() if doc_id in (None, entry.doc_id)]

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        self.quarantine.pop((doc_id, change_id), None)

    async def retry_quarantined_change(
        self, doc_id: str, change_id: str, doc: Document | None
    ) -> list[Change]:
        entry = self.quarantine.pop((doc_id, change_id))
        before = self.snapshots[doc_id]
        change = entry.change.replace(rev=before.head + 1, base_rev=before.rev)
        self._store(doc_id, [*before.changes, change])
        if doc is not None:
            doc.import_snapshot(self.snapshots[doc_id])
        return [change]

    def _store(self, doc_id: str, pending: Sequence[Change]) -> None:
        before = self.snapshots.get(doc_id)
        if before is None:
            raise PatchesError(f"{doc_id!r} is not tracked")
        self.snapshots[doc_id] = Snapshot(state=before.state, rev=before.rev, changes=pending)

    def _fail(self, failures: deque[Exception]) -> None:
        if failures:
            raise failures.popleft()

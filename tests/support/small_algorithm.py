"""`SmallAlgorithm`: a third algorithm, as small as one can be, that uses all of the interface.

A document is its committed state and a queue of pending changes, which are applied on top as they
are: nothing is transformed, the server's order decides. It has an options object, notifications and
a snapshot token of its own, and its failures can be arranged. It keeps everything in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from patches.aio.signals import Signal
from patches.algorithms.base import Algorithm, LocalEdit, SyncHost
from patches.documents.document import Document
from patches.errors import (
    ApplyChangesError,
    ErrorContext,
    MissingChangesError,
    PatchError,
    PendingChangeError,
    UnsupportedOperationError,
)
from patches.json_patch import apply_patch
from patches.limits import Limits
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.model.codec import json_size
from patches.model.json_values import Json, Op
from patches.options import DocOptions


@dataclass
class Record:
    """What is stored of one document."""

    state: Json = None
    rev: int = 0
    pending: list[Change] = field(default_factory=list)
    deleted: bool = False


class SmallDoc(Document):
    """Shows the committed state with pending and unsaved edits on top."""

    algorithm = "small"

    def __init__(self, doc_id: str, record: Record, limits: Limits | None = None) -> None:
        super().__init__(doc_id, state=None, committed_rev=record.rev, limits=limits)
        self.show(record)

    def prepare_ops(self, ops: list[Op]) -> list[Op]:
        if any(op["op"] == "@txt" for op in ops):
            raise UnsupportedOperationError("small documents have no texts")
        return [op for op in ops if op["op"] != "test"]

    @property
    def pending_count(self) -> int:
        return len(self._record.pending)

    def measure_pending(self) -> int:
        return sum(len(change.encoded) for change in self._record.pending)

    def show(self, record: Record) -> None:
        """Take the stored document over; unsaved edits stay on top."""
        self._record = record
        self.committed_rev, self.has_pending = record.rev, bool(record.pending)
        state = record.state
        for ops in (*(change.ops for change in record.pending), *self.unsaved):
            state = apply_patch(state, ops)
        self.publish(state)

    def import_snapshot(self, snapshot: Snapshot) -> None:
        self.show(Record(snapshot.state, snapshot.rev, list(snapshot.changes)))

    def rollback_unsaved(self) -> None:
        for ops in self.unsaved:
            ops.clear()
        self.unsaved.clear()
        self.show(self._record)


class SmallAlgorithm(Algorithm):
    """The algorithm named `"small"`. `gate` holds up what loads a document or stores an edit."""

    name: ClassVar[str] = "small"

    def __init__(self) -> None:
        self.on_error: Signal[[Exception, ErrorContext]] = Signal("on_error")
        self.records: dict[str, Record] = {}
        self.quarantine: list[QuarantinedChange] = []
        self.unappliable: set[str] = set()  # committed changes that fail
        self.bad_pending: set[str] = set()  # pending changes that fail here too
        self.failures: dict[str, list[BaseException]] = {}  # by method, raised one after another
        self.seen_options: list[DocOptions] = []
        self.notices: list[tuple[str, str]] = []
        self.options: Mapping[str, Json] | None = None
        self.resolved: list[str] = []  # ids that an install was told of
        self.host: SyncHost | None = None
        self.attempts: list[str] = []  # the id of every edit that was to be stored
        self.metadata: list[Mapping[str, Json]] = []  # and its metadata
        self.gate = asyncio.Event()
        self.gate.set()
        self.backend: Any = None
        self.is_closed = False

    @property
    def live(self) -> set[str]:
        """The documents that are tracked."""
        return {doc_id for doc_id, record in self.records.items() if not record.deleted}

    @property
    def tombstones(self) -> set[str]:
        """The documents that were deleted, and are not confirmed."""
        return self.records.keys() - self.live

    def fail(self, method: str, *errors: BaseException) -> None:
        """Make the next calls of a method raise."""
        self.failures.setdefault(method, []).extend(errors)

    def open_store(self, backend: Any) -> None:
        self.backend = backend

    async def close(self) -> None:
        self.is_closed = True

    def attach(self, host: SyncHost) -> None:
        self.host = host

    # ---- tracking --------------------------------------------------------------------------------

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        self._may_fail("track_docs")
        for doc_id in doc_ids:
            if doc_id not in self.records or self.records[doc_id].deleted:
                self.records[doc_id] = Record()

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        for doc_id in doc_ids:
            self.records.pop(doc_id, None)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        self._may_fail("list_docs")
        return [
            TrackedDoc(
                doc_id=doc_id,
                committed_rev=record.rev,
                deleted=record.deleted,
                algorithm=self.name,
            )
            for doc_id, record in self.records.items()
            if include_deleted or not record.deleted
        ]

    async def get_committed_rev(self, doc_id: str) -> int:
        return self.records[doc_id].rev if doc_id in self.records else 0

    async def delete_doc(self, doc_id: str) -> None:
        self.records[doc_id] = Record(deleted=True)

    async def confirm_delete_doc(self, doc_id: str) -> None:
        if doc_id in self.records and self.records[doc_id].deleted:
            del self.records[doc_id]

    # ---- documents and local edits ---------------------------------------------------------------

    def create_doc(self, doc_id: str, snapshot: Snapshot | None = None) -> SmallDoc:
        doc = SmallDoc(doc_id, Record())
        if snapshot is not None:
            doc.import_snapshot(snapshot)
        return doc

    async def load_doc(self, doc_id: str) -> Snapshot | None:
        await self.gate.wait()
        self._may_fail("load_doc")
        record = self.records.get(doc_id)
        if record is None or record.deleted:
            return None
        return Snapshot(state=record.state, rev=record.rev, changes=list(record.pending))

    async def handle_doc_changes(
        self, doc_id: str, edits: Sequence[LocalEdit], doc: Document | None
    ) -> list[list[Change]]:
        (edit,) = edits
        await self.gate.wait()
        if not edit.ops:
            return [[]]
        self.attempts.append(edit.change_id or "")
        self.metadata.append(edit.metadata)
        self._may_fail("handle_doc_change")
        record = self.records[doc_id]
        change = Change(
            id=edit.change_id or f"c{record.rev}.{len(record.pending)}",
            ops=list(edit.ops),
            base_rev=record.rev,
            rev=record.rev + len(record.pending) + 1,
            created_at=1,
            metadata=edit.metadata,
        )
        record.pending.append(change)
        if doc is not None:
            doc.unsaved.popleft()
        self._show(doc_id, doc)
        return [[change]]

    # ---- sending ---------------------------------------------------------------------------------

    async def has_pending(self, doc_id: str) -> bool:
        return bool(doc_id in self.records and self.records[doc_id].pending)

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        self._may_fail("next_batch")
        self.seen_options.append(options)
        pending = self.records[doc_id].pending if doc_id in self.records else []
        batch: list[Change] = []
        size = 0
        for change in pending:
            size += json_size(change.to_wire())
            most = options.max_payload_bytes
            if batch and most is not None and size > most:
                break
            batch.append(change.replace(base_rev=pending[0].base_rev))
        return batch

    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        self._may_fail("receive_answer")
        return self._apply(doc_id, committed, doc, {change.id for change in sent})

    # ---- receiving -------------------------------------------------------------------------------

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None
    ) -> list[Change]:
        self._may_fail("apply_server_changes")
        return self._apply(doc_id, changes, doc, set())

    async def needs_tail(self, doc_id: str) -> bool:
        return await self.has_pending(doc_id)

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
        self._may_fail("install_snapshot")
        state = snapshot.state
        for index, change in enumerate(snapshot.changes):
            state = self._applied(state, change, index)
        known = {change.id for change in (*snapshot.changes, *tail, *resolved)}
        self.resolved += [change.id for change in resolved]
        record = self.records[doc_id]
        record.state, record.rev = state, snapshot.head
        record.pending = [
            change.replace(base_rev=record.rev, rev=record.rev + 1)
            for change in record.pending
            if change.id not in known
        ]
        self._show(doc_id, doc)

    # ---- changes that the server refuses ---------------------------------------------------------

    async def verify_pending_change(self, doc_id: str, change_id: str) -> bool:
        self._may_fail("verify_pending_change")
        return change_id not in self.bad_pending

    async def eject_pending_change(
        self,
        doc_id: str,
        change_id: str,
        reason: str,
        doc: Document | None,
        *,
        only_if_unappliable: bool = False,
    ) -> QuarantinedChange | None:
        self._may_fail("eject_pending_change")
        record = self.records[doc_id]
        found = [change for change in record.pending if change.id == change_id]
        if not found or (only_if_unappliable and change_id not in self.bad_pending):
            return None
        record.pending = [change for change in record.pending if change.id != change_id]
        entry = QuarantinedChange(
            doc_id=doc_id, change_id=change_id, change=found[0], reason=reason, quarantined_at=1
        )
        self.quarantine.append(entry)
        self._show(doc_id, doc)
        return entry

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        return [entry for entry in self.quarantine if doc_id in (None, entry.doc_id)]

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        self.quarantine = [
            entry
            for entry in self.quarantine
            if (entry.doc_id, entry.change_id) != (doc_id, change_id)
        ]

    async def retry_quarantined_change(
        self, doc_id: str, change_id: str, doc: Document | None
    ) -> list[Change]:
        record = self.records[doc_id]
        for entry in self.quarantine:
            if (entry.doc_id, entry.change_id) == (doc_id, change_id):
                await self.discard_quarantined_change(doc_id, change_id)
                change = entry.change.replace(base_rev=record.rev)
                record.pending.append(change)
                self._show(doc_id, doc)
                return [change]
        raise PendingChangeError(f"document {doc_id!r} has no change {change_id!r} in quarantine")

    # ---- a wire of its own -----------------------------------------------------------------------

    async def sync_options(self, doc_id: str) -> Mapping[str, Json] | None:
        return self.options

    async def handle_notification(
        self, doc_id: str, method: str, params: Mapping[str, Json], doc: Document | None
    ) -> None:
        self._may_fail("handle_notification")
        self.notices.append((doc_id, method))

    # ---- inside ----------------------------------------------------------------------------------

    def _apply(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None, sent: set[str]
    ) -> list[Change]:
        record = self.records[doc_id]
        new = [change for change in changes if change.rev > record.rev]
        expected, state = record.rev + 1, record.state
        for index, change in enumerate(new):
            if change.rev != expected:
                raise MissingChangesError(
                    expected_rev=expected, got_rev=change.rev, since_rev=record.rev
                )
            state, expected = self._applied(state, change, index), expected + 1
        confirmed = sent | {change.id for change in changes}
        record.state, record.rev = state, expected - 1
        record.pending = [
            change.replace(base_rev=record.rev)
            for change in record.pending
            if change.id not in confirmed
        ]
        self._show(doc_id, doc)
        return new

    def _applied(self, state: Json, change: Change, index: int) -> Json:
        if change.id in self.unappliable and change.ops:
            cause = PatchError("arranged")
            raise ApplyChangesError(change.id, rev=change.rev, index=index, cause=cause)
        return apply_patch(state, change.ops)

    def _show(self, doc_id: str, doc: Document | None) -> None:
        if isinstance(doc, SmallDoc):
            doc.show(replace(self.records[doc_id]))

    def _may_fail(self, method: str) -> None:
        errors = self.failures.get(method)
        if errors:
            raise errors.pop(0)

"""`StoredDocs`: what everything in OT's algorithm stands on.

The store, one lock per document, the loop that does a step again when another process has written
in between, and the making of pending changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

from patches.aio.keyed_locks import KeyedLocks
from patches.aio.signals import Signal
from patches.algorithms.base import Algorithm
from patches.algorithms.ot.doc import OTDoc
from patches.algorithms.ot.splitting import OversizedOp, break_changes, cut_by_ops
from patches.algorithms.ot.store import Conflict, OTClientStore, PendingQueue
from patches.documents.document import Document
from patches.errors import ConvergenceError, PatchesError, UnstoredPendingError
from patches.limits import Limits
from patches.model.change import Change, Snapshot, TrackedDoc
from patches.model.ids import change_ids
from patches.model.json_values import Json, Op
from patches.options import DocOptions
from patches.runtime import Runtime

T = TypeVar("T")

_MAX_ATTEMPTS: Final = 10
#: What an edit's metadata cannot set: these say what the change is.
_RESERVED: Final = frozenset(
    {"id", "ops", "baseRev", "rev", "createdAt", "committedAt", "batchId", "clientId"}
)


class StoredDocs(Algorithm):
    """The part of OT's algorithm that knows the store."""

    name: ClassVar[str] = "ot"

    def __init__(
        self,
        store: OTClientStore | None = None,
        *,
        options: DocOptions | None = None,
        runtime: Runtime | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._store = store
        self._options = options or DocOptions()
        self._runtime = runtime or Runtime()
        self._limits = limits or Limits()
        self._new_id = change_ids(self._runtime.random)
        self._locks = KeyedLocks()
        self._reported: dict[str, set[str]] = {}  # unstored changes told of, by document
        self.on_error: Signal[[Exception, Mapping[str, Any]]] = Signal("on_error")
        #: `(report)`: an operation over a size limit that cannot be cut (`spec/ot.md` 7.6).
        self.on_oversized_op: Signal[[OversizedOp]] = Signal("on_oversized_op")

    @property
    def store(self) -> OTClientStore:
        """The store in use."""
        if self._store is None:
            raise PatchesError("OTAlgorithm has no store yet: give it one, or a Patches")
        return self._store

    def open_store(self, backend: Any) -> None:
        if self._store is None:
            self._store = backend.ot

    # ---- tracking --------------------------------------------------------------------------------

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        await self.store.track_docs(doc_ids)

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        for doc_id in doc_ids:
            self._reported.pop(doc_id, None)
        await self.store.untrack_docs(doc_ids)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        return await self.store.list_docs(include_deleted)

    async def get_committed_rev(self, doc_id: str) -> int:
        return await self.store.get_committed_rev(doc_id)

    async def delete_doc(self, doc_id: str) -> None:
        async with self._locks(doc_id):
            await self.store.delete_doc(doc_id)

    async def confirm_delete_doc(self, doc_id: str) -> None:
        self._reported.pop(doc_id, None)
        await self.store.confirm_delete_doc(doc_id)

    async def list_changes(self, doc_id: str, *, start_after: int | None = None) -> list[Change]:
        """Stored committed changes and pending ones by revision, those above `start_after`."""
        return await self.store.list_changes(doc_id, start_after=start_after)

    # ---- reading ---------------------------------------------------------------------------------

    async def load_doc(self, doc_id: str) -> Snapshot | None:
        return await self.store.get_doc(doc_id)

    async def has_pending(self, doc_id: str) -> bool:
        return await self.peek_pending_head(doc_id) is not None

    async def peek_pending_head(self, doc_id: str) -> Change | None:
        """The first pending change in the store."""
        head = await self.store.get_pending_changes(doc_id, limit=1)
        return head[0] if head else None

    async def list_pending(self, doc_id: str, doc: Document | None) -> list[Change]:
        queue, open_doc = await self.store.load_queue(doc_id), ot_doc(doc)
        pending = queue.pending
        # A document that is behind the store may hold what is committed by now.
        if open_doc is not None and open_doc.committed_rev >= queue.committed_rev:
            stored = {change.id for change in pending}
            lost = [change for change in open_doc.pending if change.id not in stored]
            pending = sorted([*pending, *lost], key=lambda change: change.rev)
        return list(pending)

    async def _load_queue(self, doc_id: str, doc: OTDoc | None) -> PendingQueue:
        """The stored queue, in the objects of the open document where it has the same changes.

        Those are decoded already.
        """
        queue = await self.store.load_queue(doc_id)
        if doc is None or not doc.pending:
            return queue
        mine = {change.id: change for change in doc.pending}
        return PendingQueue(
            queue.committed_rev, [_decoded(change, mine) for change in queue.pending]
        )

    async def _with_unstored(
        self, doc_id: str, queue: PendingQueue, doc: OTDoc | None
    ) -> list[Change]:
        """The stored queue, and behind it what only the open document holds.

        Without what another process has put into quarantine: that has left the queue for good.
        """
        pending = with_unstored(queue, doc)
        if len(pending) == len(queue.pending):
            return pending
        entries = await self.store.list_quarantined_changes(doc_id)
        ejected = {entry.change_id for entry in entries}
        return [change for change in pending if change.id not in ejected]

    # ---- making changes --------------------------------------------------------------------------

    async def _next_revs(self, doc_id: str, doc: OTDoc | None) -> tuple[int, int]:
        if doc is not None:
            tail = doc.pending[-1].rev if doc.pending else doc.committed_rev
            return doc.committed_rev, tail + 1
        queue = await self.store.load_queue(doc_id)
        return queue.committed_rev, queue.tail_rev + 1

    def _minted(
        self,
        ops: list[Op],
        base_rev: int,
        rev: int,
        metadata: Mapping[str, Json],
        change_id: str | None,
    ) -> Change:
        created_at = metadata.get("createdAt")
        return Change(
            id=change_id or self._new_id(rev),
            ops=list(ops),  # the list given lives on in the document
            base_rev=base_rev,
            rev=rev,
            created_at=created_at if isinstance(created_at, int) else self._runtime.wall_ms(),
            metadata={key: value for key, value in metadata.items() if key not in _RESERVED},
        )

    def _split(self, doc_id: str, change: Change) -> list[Change]:
        options = self._options
        pieces = cut_by_ops(change, self._limits.max_ops_per_change, new_id=self._new_id)
        if not options.max_storage_bytes:
            return pieces
        return break_changes(
            pieces,
            options.max_storage_bytes,
            options.size_calculator,
            new_id=self._new_id,
            max_unsplittable_bytes=options.max_unsplittable_bytes,
            doc_id=doc_id,
            on_oversized=self.on_oversized_op.emit,
            is_exact=True,
        )

    # ---- inside ----------------------------------------------------------------------------------

    async def _converge(
        self, method: str, doc_id: str, step: Callable[[], Awaitable[T | Conflict]]
    ) -> T:
        """Run read, decide, write until no other process has written in between."""
        for _ in range(_MAX_ATTEMPTS):
            result = await step()
            if result != "conflict":
                return result
        raise ConvergenceError(method, doc_id, _MAX_ATTEMPTS)

    async def _reload(self, doc_id: str, doc: OTDoc) -> None:
        snapshot = await self.store.get_doc(doc_id)
        if snapshot is not None:
            doc.import_snapshot(snapshot)

    def _report_unstored(self, doc_id: str, doc: OTDoc | None, sendable: Sequence[Change]) -> None:
        if doc is None or not doc.pending:
            return
        known = {change.id for change in sendable}
        reported = self._reported.setdefault(doc_id, set())
        missing = [c.id for c in doc.pending if c.id not in known and c.id not in reported]
        if missing:
            reported.update(missing)
            self.on_error.emit(UnstoredPendingError(doc_id, missing), {"doc_id": doc_id})


def ot_doc(doc: Document | None) -> OTDoc | None:
    """An open document as its own algorithm knows it."""
    assert doc is None or isinstance(doc, OTDoc)  # the algorithm is asked for its own documents
    return doc


def with_unstored(queue: PendingQueue, doc: OTDoc | None) -> list[Change]:
    """The stored queue, and behind it what only the open document holds."""
    if doc is None or not doc.pending:
        return queue.pending
    stored = {change.id for change in queue.pending}
    tail = queue.pending[-1].rev if queue.pending else doc.committed_rev
    return [*queue.pending, *(c for c in doc.pending if c.id not in stored and c.rev > tail)]


def _decoded(stored: Change, mine: Mapping[str, Change]) -> Change:
    change = mine.get(stored.id)
    return change if change is not None and change.encoded == stored.encoded else stored

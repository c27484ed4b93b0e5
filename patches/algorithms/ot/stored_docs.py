"""`StoredDocs`: what everything in OT's algorithm stands on.

The store, one lock per document, the loop that does a step again when another process has written
in between, and the making of pending changes.

An open document knows the position of the stored queue that it shows. Every write names it, and the
store refuses a write from another position. Then the document takes over what others have stored,
its unsaved edits move behind that, and the step is done again. So each change in the queue stands
on what is before it, whichever process made it.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import ClassVar, Final, TypeVar

from patches.aio.keyed_locks import KeyedLocks
from patches.aio.signals import Signal
from patches.algorithms.base import Algorithm, LocalEdit, SyncHost
from patches.algorithms.histories import Copy, Histories
from patches.algorithms.ot.doc import OTDoc
from patches.algorithms.ot.splitting import OversizedOp, break_changes, cut_by_ops
from patches.algorithms.ot.store import (
    CONFLICT,
    Conflict,
    OTClientStore,
    PendingQueue,
    StoredSnapshot,
)
from patches.algorithms.ot.stores.factory import OT_STORES
from patches.algorithms.recovery import Recovery
from patches.documents.document import Document
from patches.errors import (
    ConvergenceError,
    ErrorContext,
    OutdatedAnswerError,
    PatchesError,
    UnstoredPendingError,
)
from patches.limits import Limits
from patches.model.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.model.ids import IdSource, change_ids
from patches.model.json_values import Json, Op
from patches.options import DocOptions
from patches.runtime import Runtime
from patches.stores.backend import Backend

T = TypeVar("T")

#: Of one step, while other processes write to the same queue.
_MAX_ATTEMPTS: Final = 200
#: A step is about a microsecond; estimates are rough, and others want the loop as well.
_STEPS_PER_MS: Final = 400
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
        self._histories = Histories(self.name, self._load_copy, self._save_token)
        self._reported: dict[str, set[str]] = {}  # unstored changes that were reported, by document
        #: By closed document: changes that a call which failed may have stored all the same.
        self._maybe_stored: dict[str, set[str]] = {}
        self._recovery = Recovery(self)
        self.on_error: Signal[[Exception, ErrorContext]] = Signal("on_error")
        #: `(report)`: an operation over a size limit that cannot be cut (`docs/internals/ot.md`
        #: 7.6).
        self.on_oversized_op: Signal[[OversizedOp]] = Signal("on_oversized_op")

    @property
    def store(self) -> OTClientStore:
        """The store in use."""
        if self._store is None:
            raise PatchesError("OTAlgorithm has no store yet: give it one, or a Patches")
        return self._store

    def attach(self, host: SyncHost) -> None:
        self._recovery.host = host

    def open_store(self, backend: Backend) -> None:
        if self._store is None:
            self._store = backend.open_store(OT_STORES)

    # ---- tracking --------------------------------------------------------------------------------

    async def track_docs(self, doc_ids: Sequence[str]) -> None:
        await self.store.track_docs(doc_ids)

    async def untrack_docs(self, doc_ids: Sequence[str]) -> None:
        for doc_id in doc_ids:
            self._reported.pop(doc_id, None)
        await self.store.untrack_docs(doc_ids)
        for doc_id in doc_ids:
            self._histories.drop(doc_id)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        return self._recovery.listed(await self.store.list_docs(include_deleted))

    async def get_committed_rev(self, doc_id: str) -> int:
        rev = (await self.store.load_position(doc_id)).committed_rev
        self._histories.seen_at(doc_id, rev)
        return rev

    async def delete_doc(self, doc_id: str) -> None:
        async with self._locks(doc_id):
            await self.store.delete_doc(doc_id)
            self._histories.drop(doc_id)

    async def confirm_delete_doc(self, doc_id: str) -> None:
        self._reported.pop(doc_id, None)
        await self.store.confirm_delete_doc(doc_id)

    # ---- history ---------------------------------------------------------------------------------

    async def sync_options(self, doc_id: str) -> Mapping[str, Json] | None:
        return await self._histories.options(doc_id)

    async def commit_options(self, doc_id: str) -> Mapping[str, Json] | None:
        return await self._histories.commit_options(doc_id)

    async def receive_token(self, doc_id: str, token: str | None, *, is_given: bool = True) -> None:
        async with self._locks(doc_id):
            await self._histories.receive_token(doc_id, token, is_given=is_given)

    async def _load_copy(self, doc_id: str) -> Copy:
        # In this order: a copy that is installed in between is taken for the older one, and asked
        # about again.
        position = await self.store.load_position(doc_id)
        return Copy(await self.store.get_history(doc_id), position.installation)

    async def _save_token(self, doc_id: str, token: str | None) -> None:
        position = await self.store.load_position(doc_id)
        if self._histories.is_asked_about(doc_id, position.installation):
            await self.store.put_token(doc_id, token)

    def _check_is_asked_about(self, doc_id: str, queue: PendingQueue) -> None:
        """Raise `OutdatedAnswerError` if what the server says is about another copy."""
        is_here = queue.committed_rev > 0  # else there is nothing that it could be mistaken for
        if is_here and not self._histories.is_asked_about(doc_id, queue.position.installation):
            self._histories.forget(doc_id)
            raise OutdatedAnswerError(doc_id, rev=queue.committed_rev, is_replaced=True)

    async def _check_overlap(
        self, doc_id: str, queue: PendingQueue, changes: Sequence[Change]
    ) -> None:
        """Raise `OutdatedAnswerError` if the newest stored change is another one than the server
        has at its revision: another process has stored it, of a history that is no more.
        """
        rev = queue.committed_rev
        there = next((change.id for change in changes if change.rev == rev), None)
        if there is None:
            return
        history = await self.store.get_history(doc_id)
        if history.last_rev == rev and history.last_id not in (None, there):
            self._histories.forget(doc_id)
            raise OutdatedAnswerError(doc_id, rev=rev, is_replaced=True)

    # ---- reading ---------------------------------------------------------------------------------

    async def load_doc(self, doc_id: str) -> Snapshot | None:
        return await self._recovery.load(doc_id, lambda: self.store.get_doc(doc_id))

    async def has_pending(self, doc_id: str) -> bool:
        position = await self.store.load_position(doc_id)
        return position.tail_rev > position.committed_rev

    async def list_pending(self, doc_id: str, doc: Document | None) -> list[Change]:
        queue, open_doc = await self.store.load_queue(doc_id), ot_doc(doc)
        pending = queue.pending
        if open_doc is not None and _is_behind(queue, open_doc):
            stored = {change.id for change in pending}
            lost = [change for change in open_doc.pending if change.id not in stored]
            pending = sorted([*pending, *lost], key=lambda change: change.rev)
        return list(pending)

    async def _current_queue(self, doc_id: str, doc: OTDoc | None) -> PendingQueue:
        """The stored queue; an open document has caught up with it, and its changes are decoded."""
        if doc is None:
            queue = await self.store.load_queue(doc_id)
            self._histories.seen_at(doc_id, queue.committed_rev)
            return queue
        if doc.position is None or doc.position != await self.store.load_position(doc_id):
            await self._catch_up(doc_id, doc)
        return doc.queue()

    async def _known_queue(self, doc_id: str, doc: OTDoc | None) -> PendingQueue:
        """`_current_queue` for a step that writes, which finds out by that if it is not current."""
        if doc is None or doc.position is None:
            return await self._current_queue(doc_id, doc)
        return doc.queue()

    async def _catch_up(self, doc_id: str, doc: OTDoc) -> None:
        """Let an open document have what other processes have put into the store."""

        async def step() -> Conflict | None:
            if doc.position is not None:
                appended = await self.store.load_appended(doc_id, doc.position)
                if appended is not None:
                    if appended:
                        doc.insert_pending(appended)
                        doc.position = doc.position.appended(len(appended))
                    return None
            queue = await self.store.load_queue(doc_id, committed_after=doc.committed_rev)
            if _was_installed_anew(doc, queue):
                # Of another history, its revisions mean other changes, and so do ours.
                await self._take_over_all(doc_id, doc, queue, is_new_history=True)
                self._histories.forget(doc_id)
                if self._recovery.host is not None:
                    self._recovery.host.replaced(doc_id, doc.committed_rev)
                return None
            lost = await self._lost(doc_id, queue, doc)
            if lost:
                # The store has lost the end of the queue: back it goes, then it is sent like any.
                edits = [[change] for change in lost]
                if await self.store.save_pending_edits(doc_id, edits, queue.position) == CONFLICT:
                    return CONFLICT
                queue = await self.store.load_queue(doc_id, committed_after=doc.committed_rev)
            self._report_unstored(doc_id, doc, queue)
            if not doc.take_over(queue):
                await self._take_over_all(doc_id, doc, queue)
            self._histories.seen_at(doc_id, doc.committed_rev)
            return None

        await self._converge("catchUp", doc_id, step)

    async def _take_over_all(
        self, doc_id: str, doc: OTDoc, queue: PendingQueue, *, is_new_history: bool = False
    ) -> None:
        stored = await self.store.get_doc(doc_id)
        if stored is None:  # forgotten, or deleted: the coordinator is notified of that
            stored = StoredSnapshot(state=None, rev=0, changes=(), version=queue.version)
        doc.take_over_all(stored, is_new_history=is_new_history)

    async def _lost(self, doc_id: str, queue: PendingQueue, doc: OTDoc) -> list[Change]:
        """What only the open document holds and belongs behind the stored queue.

        Only if the store is behind the document: what another process has taken out of the queue
        has left it for good, whether it was committed, set aside, or came to nothing. Where the
        committed changes are not at hand, nobody knows.
        """
        if (
            not _is_behind(queue, doc)
            or len(queue.committed) < queue.committed_rev - doc.committed_rev
        ):
            return []
        gone = {change.id for change in (*queue.committed, *queue.pending)}
        tail = queue.pending[-1].rev if queue.pending else doc.committed_rev
        lost = [c for c in doc.pending if c.id not in gone and c.rev > tail]
        if not lost:
            return []
        ejected = {e.change_id for e in await self.store.list_quarantined_changes(doc_id)}
        return [change for change in lost if change.id not in ejected]

    def _report_unstored(self, doc_id: str, doc: OTDoc, queue: PendingQueue) -> None:
        """Tell once of changes that the store has lost out of the middle of the queue."""
        if (
            not _is_behind(queue, doc)
            or len(queue.committed) < queue.committed_rev - doc.committed_rev
        ):
            return
        known = {change.id for change in (*queue.committed, *queue.pending)}
        reported = self._reported.setdefault(doc_id, set())
        missing = [c.id for c in doc.pending if c.id not in known and c.id not in reported]
        if missing:
            reported.update(missing)
            self.on_error.emit(UnstoredPendingError(doc_id, missing), ErrorContext(doc_id=doc_id))

    # ---- making changes --------------------------------------------------------------------------

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

    # ---- what does not apply any more ------------------------------------------------------------

    async def _set_refused_aside(
        self, doc_id: str, edits: Sequence[LocalEdit], ids: list[str | None], doc: OTDoc
    ) -> None:
        """Put those of the edits into quarantine that do not apply any more, and empty them."""
        for place, edit in enumerate(edits):
            reason = doc.edits.refusal_of(edit.ops)
            if reason is None:
                continue
            rev = doc.committed_rev
            change = self._minted(edit.ops, rev, rev + 1, edit.metadata, ids[place])
            entry = self._aside(doc_id, change, reason)
            await self.store.quarantine_edit(entry)
            doc.edits.set_aside(edit.ops)
            self.report_set_aside(entry)

    def _aside(self, doc_id: str, change: Change, reason: str) -> QuarantinedChange:
        return QuarantinedChange(
            doc_id=doc_id,
            change_id=change.id,
            change=change,
            reason=reason,
            quarantined_at=self._runtime.wall_ms(),
        )

    # ---- inside ----------------------------------------------------------------------------------

    def _own_ids(self) -> IdSource:
        """Ids for a function in another thread, where the runtime's source must not be used."""
        return change_ids(random.Random(self._runtime.random.getrandbits(64)))

    def _is_long(self, steps: int) -> bool:
        """Whether work of so many steps would hold the event loop longer than the limits allow."""
        every_ms = self._limits.yield_every_ms
        return every_ms is not None and steps > every_ms * _STEPS_PER_MS

    async def _offload(self, steps: int, work: Callable[[], T]) -> T:
        """The result of `work`, which touches nothing but values; in a thread if it takes long."""
        return await self._runtime.run_blocking(work) if self._is_long(steps) else work()

    async def _converge(
        self, method: str, doc_id: str, step: Callable[[], Awaitable[T | Conflict]]
    ) -> T:
        """Run read, decide, write until no other process has written in between."""
        for _ in range(_MAX_ATTEMPTS):
            result = await step()
            if result != CONFLICT:
                return result
        raise ConvergenceError(method, doc_id, _MAX_ATTEMPTS)


def _was_installed_anew(doc: OTDoc, queue: PendingQueue) -> bool:
    """Whether another process has installed a snapshot since the document was last current."""
    known = doc.position
    is_installed = queue.committed_rev > 0  # else it was forgotten: nothing is there to take over
    return (
        known is not None
        and is_installed
        and queue.position.installation > known.installation  # lower: the store has lost something
    )


def _is_behind(queue: PendingQueue, doc: OTDoc) -> bool:
    """Whether the store has lost what an open document has seen in it."""
    return doc.position is not None and queue.position.is_behind(doc.position)


def ot_doc(doc: Document | None) -> OTDoc | None:
    """An open document as its own algorithm knows it."""
    assert doc is None or isinstance(doc, OTDoc)  # an algorithm gets its own documents only
    return doc

"""`OTAlgorithm`: operational transformation behind the interface of every algorithm.

Everything that changes a document's queue or its committed part runs under the document's lock:
read the queue, decide (pure functions), write in one store transaction, then tell the open
document. The lock orders what this process does; between processes that share a store the
transaction checks that the queue is still the one that was read, and the step is done again if not.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

from patches.algorithms.base import Algorithm
from patches.algorithms.ot.apply import apply_changes, create_state_from_snapshot
from patches.algorithms.ot.batching import leading_run, plan_batch
from patches.algorithms.ot.committed import find_gap
from patches.algorithms.ot.doc import OTDoc
from patches.algorithms.ot.ejection import compute_pending_ejection
from patches.algorithms.ot.rebase import rebase_queue, renumbered
from patches.algorithms.ot.splitting import OversizedOp, break_changes
from patches.algorithms.ot.store import Conflict, OTClientStore, PendingQueue
from patches.change import Change, QuarantinedChange, Snapshot, TrackedDoc
from patches.document import Document
from patches.errors import (
    AlgorithmMismatchError,
    ApplyChangesError,
    ConvergenceError,
    PatchError,
    PatchesError,
    PendingChangeError,
    UnstoredPendingError,
)
from patches.ids import change_ids
from patches.json_patch import apply_patch
from patches.json_values import Json, Op
from patches.keyed_locks import KeyedLocks
from patches.limits import Limits
from patches.options import DocOptions
from patches.runtime import Runtime
from patches.signals import Signal

_log = logging.getLogger("patches.ot")

T = TypeVar("T")

_MAX_ATTEMPTS: Final = 10
#: What an edit's metadata cannot set: these say what the change is.
_RESERVED: Final = frozenset(
    {"id", "ops", "baseRev", "rev", "createdAt", "committedAt", "batchId", "clientId"}
)


class OTAlgorithm(Algorithm):
    """OT on the client. Owned by a `Patches`.

    `options` are the sizes for changes as they are made; `store` is the backend's unless given.
    """

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

    # ---- documents and local edits ---------------------------------------------------------------

    def create_doc(self, doc_id: str, snapshot: Snapshot | None = None) -> OTDoc:
        return OTDoc(doc_id, snapshot, limits=self._limits)

    async def load_doc(self, doc_id: str) -> Snapshot | None:
        return await self.store.get_doc(doc_id)

    async def handle_doc_change(
        self,
        doc_id: str,
        ops: list[Op],
        doc: Document | None,
        metadata: Mapping[str, Json],
        change_id: str | None = None,
    ) -> list[Change]:
        if not ops:
            return []
        async with self._locks(doc_id):
            if not ops:  # a rebase has emptied it while this waited
                return []
            open_doc = _ot(doc)
            base_rev, rev = await self._next_revs(doc_id, open_doc)
            change = self._minted(ops, base_rev, rev, metadata, change_id)
            changes = self._split(doc_id, change)
            if not changes:
                if open_doc is not None:
                    open_doc.forget_unsaved(ops)
                return []
            saved = await self.store.save_pending_changes(doc_id, changes)
            if open_doc is not None:
                open_doc.apply_changes(saved)
            return saved

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
        if not options.max_storage_bytes:
            return [change]
        return break_changes(
            [change],
            options.max_storage_bytes,
            options.size_calculator,
            new_id=self._new_id,
            max_unsplittable_bytes=options.max_unsplittable_bytes,
            doc_id=doc_id,
            on_oversized=self.on_oversized_op.emit,
        )

    # ---- sending ---------------------------------------------------------------------------------

    async def has_pending(self, doc_id: str) -> bool:
        return await self.peek_pending_head(doc_id) is not None

    async def needs_tail(self, doc_id: str) -> bool:
        return await self.has_pending(doc_id)

    async def peek_pending_head(self, doc_id: str) -> Change | None:
        """The first pending change in the store."""
        head = await self.store.get_pending_changes(doc_id, limit=1)
        return head[0] if head else None

    async def get_pending_to_send(
        self, doc_id: str, doc: Document | None = None, *, report: bool = True
    ) -> list[Change] | None:
        """The first pending changes that stand on one revision; `None` if nothing is pending.

        Includes what only the open document holds, if it comes after all that is stored. Other
        such changes cannot be sent: they are told once on `on_error`, unless `report` is off.
        """
        queue = await self.store.load_queue(doc_id)
        pending = _with_unstored(queue, _ot(doc))
        if report:
            self._report_unstored(doc_id, _ot(doc), pending)
        if not pending:
            return None
        base_rev = pending[0].base_rev
        mixed = next((at for at, c in enumerate(pending) if c.base_rev != base_rev), None)
        return pending[:mixed]

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        open_doc = _ot(doc)

        async def step() -> list[Change] | Conflict:
            queue = await self.store.load_queue(doc_id)
            await self._catch_up(doc_id, open_doc, queue)
            run = leading_run(queue.pending)
            if not run:
                return []
            plan = plan_batch(
                run,
                options,
                new_id=self._new_id,
                max_changes=self._limits.max_changes_per_commit,
                doc_id=doc_id,
                on_oversized=self.on_oversized_op.emit,
            )
            if _same(plan.pieces, run):
                return plan.batch
            first_rev = run[0].rev
            stored = renumbered([*plan.pieces, *queue.pending[len(run) :]], first_rev - 1)
            if await self.store.apply_server_changes(doc_id, [], stored, queue):
                return "conflict"
            if open_doc is not None:
                open_doc.replace_pending(stored)
            return stored[: len(plan.batch)]

        async with self._locks(doc_id):
            return await self._converge("next_batch", doc_id, step)

    async def _catch_up(self, doc_id: str, doc: OTDoc | None, queue: PendingQueue) -> None:
        """Let the open document have what another process has put into the store."""
        if doc is None:
            return
        stored = {change.id for change in queue.pending}
        if queue.committed_rev > doc.committed_rev or not stored <= {c.id for c in doc.pending}:
            dropped = {change.id for change in doc.dropped_pending_changes}
            if queue.committed_rev > doc.committed_rev or not stored <= dropped | {
                change.id for change in doc.pending
            }:
                await self._reload(doc_id, doc)
        self._report_unstored(doc_id, doc, queue.pending)

    async def confirm_sent(self, doc_id: str, changes: Sequence[Change]) -> None:
        """Nothing: under OT the echo of a change confirms it."""

    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        known = doc.committed_rev if doc is not None else await self.get_committed_rev(doc_id)
        # A sent change that the answer does not name came to nothing at the server: there will be
        # no echo of it, and a replaced root never becomes empty here (`spec/ot.md` 9.6).
        answered = {change.id for change in committed}
        resolved = {change.id for change in sent if change.id not in answered}
        async with self._locks(doc_id):
            if committed:
                await self._apply_server_changes(doc_id, committed, _ot(doc), resolved)
            elif resolved:
                await self._drop(doc_id, resolved, _ot(doc))
        return [change for change in committed if change.rev > known]

    async def drop_resolved_pending(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None = None,
    ) -> int:
        """Drop what was sent and is not in the answer. Returns how many were pending."""
        answered = {change.id for change in committed}
        resolved = {change.id for change in sent if change.id not in answered}
        async with self._locks(doc_id):
            return await self._drop(doc_id, resolved, _ot(doc))

    async def _drop(self, doc_id: str, change_ids: set[str], doc: OTDoc | None) -> int:
        count = await self.store.drop_pending_changes(doc_id, change_ids) if change_ids else 0
        if doc is not None and any(change.id in change_ids for change in doc.pending):
            doc.replace_pending([c for c in doc.pending if c.id not in change_ids])
        return count

    async def replace_pending_changes(
        self, doc_id: str, old: Sequence[Change], new: Sequence[Change]
    ) -> None:
        """Put `new` in the place of `old`, before what was made since (`spec/ot.md` 9.7)."""
        replaced = {change.id for change in old}

        async def step() -> Conflict | None:
            queue = await self.store.load_queue(doc_id)
            since = [change for change in queue.pending if change.id not in replaced]
            after = new[-1].rev if new else queue.committed_rev
            pending = [*new, *renumbered(since, after)]
            return await self.store.apply_server_changes(doc_id, [], pending, queue)

        async with self._locks(doc_id):
            await self._converge("replacePendingChanges", doc_id, step)

    # ---- receiving -------------------------------------------------------------------------------

    async def apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: Document | None = None
    ) -> list[Change]:
        """As `Algorithm` has it. Returns the changes given, then the pending ones, rebased."""
        if not changes:
            return []
        async with self._locks(doc_id):
            return await self._apply_server_changes(doc_id, changes, _ot(doc), set())

    async def _apply_server_changes(
        self, doc_id: str, changes: Sequence[Change], doc: OTDoc | None, resolved: set[str]
    ) -> list[Change]:
        _refuse_lww(doc_id, changes)

        async def step() -> list[Change] | Conflict:
            queue = await self.store.load_queue(doc_id)
            base = doc.committed_rev if doc is not None else queue.committed_rev
            new = [change for change in changes if change.rev > base]
            gap = find_gap(base, new)
            if gap is not None and queue.committed_rev > base:
                # Another process that shares the store has gone ahead.
                base = queue.committed_rev
                new = [change for change in changes if change.rev > base]
                gap = find_gap(base, new)
            if gap is not None:
                raise gap
            follows = (
                doc is not None
                and bool(new)
                and find_gap(doc.committed_rev, new, allow_root_replace=False) is None
            )
            if doc is not None and follows:
                doc.preview(new)
            frame = max(base, queue.committed_rev)
            confirmed = {change.id for change in changes if change.rev <= frame}
            pending = [c for c in _with_unstored(queue, doc) if c.id not in confirmed]
            history = [change for change in changes if change.rev > frame]
            rebased = rebase_queue(history, pending, frame)
            if resolved:
                rebased = renumbered(
                    [change for change in rebased if change.id not in resolved],
                    max(frame, changes[-1].rev),
                )
            if await self.store.apply_server_changes(doc_id, changes, rebased, queue):
                return "conflict"
            if doc is not None:
                await self._show_received(doc_id, doc, new, rebased, follows)
            return [*changes, *rebased]

        return await self._converge("applyServerChanges", doc_id, step)

    async def _show_received(
        self,
        doc_id: str,
        doc: OTDoc,
        new: Sequence[Change],
        rebased: Sequence[Change],
        follows: bool,
    ) -> None:
        if new and follows:
            doc.receive(new, rebased)
        elif new or doc.committed_rev < await self.store.get_committed_rev(doc_id):
            await self._reload(doc_id, doc)
        else:
            doc.replace_pending(rebased)
            doc.show(again=True)  # a redelivery tells the subscribers, as it always has

    async def reconcile_pending(self, doc_id: str, tail: Sequence[Change]) -> None:
        """Move pending changes behind committed ones, in the store alone (`spec/ot.md` 9.8).

        The tail is stored as committed and not applied, so this works on a state that is broken.
        """
        if not tail:
            return

        async def step() -> Conflict | None:
            queue = await self.store.load_queue(doc_id)
            rebased = _reconciled(queue, tail)
            return await self.store.apply_server_changes(doc_id, tail, rebased, queue)

        async with self._locks(doc_id):
            await self._converge("reconcilePending", doc_id, step)

    async def install_snapshot(
        self,
        doc_id: str,
        snapshot: Snapshot,
        doc: Document | None,
        *,
        tail: Sequence[Change] = (),
        resolved: Sequence[Change] = (),
    ) -> None:
        _refuse_lww(doc_id, [*snapshot.changes, *tail])
        open_doc = _ot(doc)
        state, head = apply_changes(snapshot.state, snapshot.changes), snapshot.head
        tail = [change for change in tail if change.rev <= head]
        gone = {change.id for change in (*snapshot.changes, *tail, *resolved)}

        async def step() -> list[Change] | Conflict:
            queue = await self.store.load_queue(doc_id)
            waiting = PendingQueue(queue.committed_rev, _with_unstored(queue, open_doc))
            pending = [
                # A revision that the server does not have (it was set back) means nothing to it.
                change.replace(base_rev=head) if change.base_rev > head else change
                for change in _reconciled(waiting, tail)
                if change.id not in gone
            ]
            rebased = renumbered(pending, head)
            committed = Snapshot(state=state, rev=head)
            if await self.store.install_doc(doc_id, committed, rebased, queue):
                return "conflict"
            return rebased

        async with self._locks(doc_id):
            rebased = await self._converge("installSnapshot", doc_id, step)
            if open_doc is not None:
                missed = [change for change in tail if change.rev > open_doc.committed_rev]
                open_doc.rebase_unsaved(missed)
                open_doc.import_snapshot(
                    Snapshot(state=state, rev=head, changes=rebased), replace=True
                )
                open_doc.mark_loaded()

    # ---- changes that the server refuses ---------------------------------------------------------

    async def verify_pending_change(self, doc_id: str, change_id: str) -> bool:
        snapshot = await self.store.get_doc(doc_id)
        return snapshot is None or _applies(snapshot, change_id)

    async def eject_pending_change(
        self,
        doc_id: str,
        change_id: str,
        reason: str,
        doc: Document | None = None,
        *,
        only_if_unappliable: bool = False,
    ) -> QuarantinedChange | None:
        open_doc = _ot(doc)

        async def step() -> QuarantinedChange | Conflict | None:
            snapshot = await self.store.get_doc(doc_id)
            if snapshot is None:
                return None
            queue = PendingQueue(snapshot.rev, list(snapshot.changes))
            pending = _with_unstored(queue, open_doc)
            if only_if_unappliable and _applies(
                Snapshot(state=snapshot.state, rev=snapshot.rev, changes=pending), change_id
            ):
                return None
            ejection = compute_pending_ejection(snapshot.state, snapshot.rev, pending, change_id)
            if ejection is None:
                return None
            entry = await self.store.quarantine_pending_change(
                doc_id, ejection.poison, reason, ejection.new_pending, queue
            )
            if isinstance(entry, QuarantinedChange):
                _warn_of_debt(doc_id, snapshot.rev, ejection.new_pending)
                self._import_queue(doc_id, open_doc, snapshot, ejection.new_pending)
            return entry

        async with self._locks(doc_id):
            return await self._converge("ejectPendingChange", doc_id, step)

    async def list_quarantined_changes(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        return await self.store.list_quarantined_changes(doc_id)

    async def discard_quarantined_change(self, doc_id: str, change_id: str) -> None:
        await self.store.discard_quarantined_change(doc_id, change_id)

    async def retry_quarantined_change(
        self, doc_id: str, change_id: str, doc: Document | None, new_id: str
    ) -> list[Change]:
        """As `Algorithm` has it. Raises `PendingChangeError` if it is not in quarantine, or cannot
        be applied to the document as it is now; then it stays there.
        """
        open_doc = _ot(doc)
        async with self._locks(doc_id):
            entries = await self.store.list_quarantined_changes(doc_id)
            entry = next((entry for entry in entries if entry.change_id == change_id), None)
            if entry is None:
                raise PendingChangeError(
                    f"document {doc_id!r} has no change {change_id!r} in quarantine"
                )
            snapshot = open_doc.to_snapshot() if open_doc else await self.store.get_doc(doc_id)
            _check_applies_on_top(doc_id, snapshot or Snapshot(state=None, rev=0), entry.change)
            base_rev, rev = await self._next_revs(doc_id, open_doc)
            change = self._minted(entry.change.ops, base_rev, rev, entry.change.metadata, new_id)
            pieces = self._split(doc_id, change)
            saved = await self.store.requeue_quarantined_change(doc_id, change_id, pieces)
            if saved and open_doc is not None:
                open_doc.insert_pending(saved)
            return saved or []

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

    def _import_queue(
        self, doc_id: str, doc: OTDoc | None, snapshot: Snapshot, pending: list[Change]
    ) -> None:
        if doc is None:
            return
        try:
            doc.import_snapshot(Snapshot(state=snapshot.state, rev=snapshot.rev, changes=pending))
        except PatchesError:  # the queue is in the store; the document shows it when it is reloaded
            _log.exception("document %r: the queue without the ejected change is not shown", doc_id)

    def _report_unstored(self, doc_id: str, doc: OTDoc | None, sendable: Sequence[Change]) -> None:
        if doc is None or not doc.pending:
            return
        known = {change.id for change in sendable}
        reported = self._reported.setdefault(doc_id, set())
        missing = [c.id for c in doc.pending if c.id not in known and c.id not in reported]
        if missing:
            reported.update(missing)
            self.on_error.emit(UnstoredPendingError(doc_id, missing), {"doc_id": doc_id})


def _ot(doc: Document | None) -> OTDoc | None:
    assert doc is None or isinstance(doc, OTDoc)  # the algorithm is asked for its own documents
    return doc


def _refuse_lww(doc_id: str, changes: Sequence[Change]) -> None:
    if any("ts" in op for change in changes for op in change.ops):
        raise AlgorithmMismatchError(doc_id, expected="ot", got="lww")


def _with_unstored(queue: PendingQueue, doc: OTDoc | None) -> list[Change]:
    """The stored queue, and behind it what only the open document holds."""
    if doc is None or not doc.pending:
        return queue.pending
    stored = {change.id for change in queue.pending}
    tail = queue.pending[-1].rev if queue.pending else doc.committed_rev
    return [*queue.pending, *(c for c in doc.pending if c.id not in stored and c.rev > tail)]


def _reconciled(queue: PendingQueue, tail: Sequence[Change]) -> list[Change]:
    """A queue behind a tail of committed changes, of which it may stand on some already."""
    if not tail:
        return queue.pending
    frame = max(tail[0].rev - 1, queue.committed_rev)
    confirmed = {change.id for change in tail if change.rev <= frame}
    pending = [change for change in queue.pending if change.id not in confirmed]
    return rebase_queue([change for change in tail if change.rev > frame], pending, frame)


def _applies(snapshot: Snapshot, change_id: str) -> bool:
    """Whether a pending change applies; true also if it is unknown or cannot be judged."""
    at = next((at for at, c in enumerate(snapshot.changes) if c.id == change_id), None)
    if at is None:
        return True
    try:
        before = apply_changes(snapshot.state, snapshot.changes[:at])
    except ApplyChangesError:
        return True  # a change before it is at fault
    try:
        apply_patch(before, snapshot.changes[at].ops, strict=True)
    except PatchError:
        return False
    return True


def _check_applies_on_top(doc_id: str, snapshot: Snapshot, change: Change) -> None:
    try:
        apply_patch(create_state_from_snapshot(snapshot), change.ops, strict=True)
    except (ApplyChangesError, PatchError) as exc:
        raise PendingChangeError(
            f"document {doc_id!r}: the quarantined change {change.id!r} does not apply to the "
            f"document as it is now: {exc}"
        ) from exc


def _same(pieces: Sequence[Change], run: Sequence[Change]) -> bool:
    return len(pieces) == len(run) and all(a is b for a, b in zip(pieces, run, strict=True))


def _warn_of_debt(doc_id: str, rev: int, pending: Sequence[Change]) -> None:
    behind = [change.id for change in pending if change.base_rev != rev]
    if behind:
        _log.warning(
            "document %r: pending changes made on an older revision than %d: %s",
            doc_id,
            rev,
            behind,
        )

"""`Document`: what all open documents share: local edits, subscribers, unsaved edits.

An edit is applied to the shown state in one synchronous call: draft, operations, checks, strict
apply. Its operation list then waits in `unsaved` until the algorithm has stored it. That
list is the live one: a rebase rewrites it in place, and one that it empties is skipped by whoever
saves it (`docs/internals/ot.md` 8.3, `docs/internals/lww.md` 12).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final, cast

from patches.aio.signals import Signal, Spawn
from patches.documents.access import HasAccess
from patches.documents.confirmed import Confirmable
from patches.documents.described import Described
from patches.documents.draft import draft_of, ops_to_reach, plain_ops, record
from patches.documents.owner import NotADict, Owner
from patches.documents.past import HasPast
from patches.documents.reversals import History
from patches.documents.shape import T
from patches.documents.shown import ShownState
from patches.documents.streaming import Streaming
from patches.documents.threadsafe import ThreadSafe
from patches.errors import (
    DocumentClosedError,
    OpsRefusedError,
    PatchError,
    QueueFullError,
    UnsupportedOperationError,
)
from patches.limits import Limits
from patches.model.change import Change, DocSyncStatus, Snapshot
from patches.model.checks import check_ops
from patches.model.codec import json_size
from patches.model.json_values import Json, Op
from patches.model.request_checks import CHANGE_ENVELOPE_BYTES
from patches.runtime import Runtime


class Document(Streaming[T], Described, HasPast, HasAccess, Confirmable, NotADict):
    """An open document. `Patches.open_doc` makes it and owns it.

    `T` is what it was opened as; without a type its state is plain JSON.
    """

    #: The algorithm's name: `"ot"`, `"lww"`.
    algorithm: ClassVar[str] = ""

    #: An edit was applied here: its live operation list.
    on_change: Signal[[list[Op]]]
    #: `sync_status` or `sync_error` changed: both.
    on_status_change: Signal[[DocSyncStatus, Exception | None]]

    def __init__(
        self,
        doc_id: str,
        *,
        state: Json,
        committed_rev: int,
        limits: Limits | None = None,
        shown: ShownState | None = None,
    ) -> None:
        """`shown`: an algorithm's own way to keep what is shown, at `committed_rev`."""
        super().__init__()
        self.id = doc_id
        self.limits: Final = limits or Limits()
        #: Edits in the shown state that are not stored yet, oldest first.
        self.unsaved: deque[list[Op]] = deque()
        #: The size of the metadata that goes onto each change; set by the owner.
        self.metadata_bytes: int = 0
        #: Stored changes that could not be applied when this document was made; they are gone.
        self.dropped_pending_changes: Sequence[Change] = ()
        #: Waits until what is unsaved is stored; set by the owner.
        self.flusher: Callable[[], Awaitable[None]] | None = None
        #: The owner's clock; set by the owner.
        self.runtime: Runtime | None = None
        self.on_change = Signal("on_change")
        self.on_status_change = Signal("on_status_change", spawn=self._spawned)
        self._shown = shown or ShownState(state, committed_rev, self.limits)
        self._sync: tuple[DocSyncStatus, Exception | None] = ("unsynced", None)
        self._closed = False
        self._owner: Owner | None = None  # who may edit it; `None`: everybody
        self._largest_change: Final = self.limits.largest_change_bytes - CHANGE_ENVELOPE_BYTES
        #: Bytes of unsent work, at most; negative: unknown. Measured when it looks too much.
        self._work_bytes = -1

    # ---- what it shows ---------------------------------------------------------------------------

    @property
    def committed_rev(self) -> int:
        """The last server revision that the state contains."""
        return self._shown.committed_rev

    @committed_rev.setter
    def committed_rev(self, rev: int) -> None:
        self._shown.committed_rev = rev
        if rev > 0:
            self._shown.is_loaded = True

    @property
    def has_pending(self) -> bool:
        """True if stored edits are not confirmed by the server."""
        return self._shown.has_pending

    @has_pending.setter
    def has_pending(self, has_pending: bool) -> None:
        self._shown.has_pending = has_pending
        if has_pending:
            self._shown.is_loaded = True

    @property
    def is_loaded(self) -> bool:
        """True once the document was committed, edited or synced."""
        return self._shown.is_loaded

    @property
    def sync_status(self) -> DocSyncStatus:
        """`"unsynced"`, `"syncing"`, `"synced"` or `"error"`."""
        return self._sync[0]

    @property
    def sync_error(self) -> Exception | None:
        """The reason, if the status is `"error"`."""
        return self._sync[1]

    @property
    def is_closed(self) -> bool:
        """True after the last reference was closed. `state` stays readable, edits raise."""
        return self._closed

    # ---- edits -----------------------------------------------------------------------------------

    def change(self, fn: Callable[[T], object]) -> None:
        """Edit the document: `fn` gets a draft of the state, and its edits are applied.

        Raises what `fn` raises, `PatchError` for an edit that cannot be made, and `StateTypeError`
        for one that does not fit the document's type. Then nothing is changed.
        """
        self._check_open()
        shown, shape, before = self._shown, self._shape, self._shown.changes
        base = shown.state if shape is None else shape.base_of(shown.state)
        shown.drafts += 1
        try:
            ops = record(base, fn, max_depth=self.limits.max_value_depth, typing=shape)
        finally:
            shown.drafts -= 1
        self._edited(before, ops if shape is None else shape.checked(shown.state, ops))

    @contextmanager
    def edit(self) -> Iterator[T]:
        """`with doc.edit() as draft:` applies the edits of the block, or none if it raises."""
        self._check_open()
        shown, shape, before = self._shown, self._shape, self._shown.changes
        base = shown.state if shape is None else shape.base_of(shown.state)
        draft = draft_of(base, max_depth=self.limits.max_value_depth, typing=shape)
        shown.drafts += 1
        try:
            yield draft.shown_root()
        finally:
            shown.drafts -= 1
            draft.end()
        self._edited(before, draft.ops if shape is None else shape.checked(shown.state, draft.ops))

    def apply(self, ops: Any) -> None:
        """Apply JSON Patch operations, all or none: a list, or a `jsonpatch.JsonPatch`.

        Raises `PatchError` if one cannot be applied.
        """
        self._check_open()
        before, state, shape = self._shown.changes, self._shown.state, self._shape
        plain = plain_ops(state, ops, max_depth=self.limits.max_value_depth)
        if shape is not None and self._editor is None:  # what is undone was there before
            plain = shape.checked(state, plain)
        self._edited(before, plain)

    def set(self, state: T) -> None:
        """Make `state` the document's state, by the smallest patch that leads there.

        With a type: members that the type does not know stay as they are.
        """
        self._check_open()
        shape, target = self._shape, cast("Json", state)
        if shape is not None:
            target = shape.encode_state(state, self._shown.state)
        before = self._shown.changes
        try:
            self._edited(before, self._ops_to(target, text=True))
        except UnsupportedOperationError:  # an algorithm without text merging
            self._edited(before, self._ops_to(target, text=False))

    async def flush(self) -> None:
        """Wait until every edit so far is in the store. Does not wait for the server."""
        if self._owner is not None:
            self._owner.check(f"document {self.id!r}", "doc.threadsafe.flush()")
        if self.flusher is not None:
            await self.flusher()

    @property
    def threadsafe(self) -> ThreadSafe:
        """The members that edit, for other threads, which wait for them."""
        return ThreadSafe(self, self._owner)

    # ---- for the owner and the algorithm ---------------------------------------------------------

    def adopt(
        self,
        *,
        spawn: Spawn,
        flusher: Callable[[], Awaitable[None]],
        metadata_bytes: int,
        debug: bool,
        runtime: Runtime,
        fetcher: Callable[[int], Awaitable[Sequence[Change]]] | None = None,
    ) -> None:
        """The caller owns this document from now on; its thread and event loop alone may edit it.

        `metadata_bytes`: the size of the metadata that goes onto each change. `fetcher`: fetches
        what was committed after a revision.
        """
        self.fetcher = fetcher
        self.spawn: Spawn | None = spawn
        self.flusher = flusher
        self.metadata_bytes = metadata_bytes
        self.runtime = runtime
        self._owner = Owner()
        self._debug = debug
        self._sealed = True

    def publish(self, state: Json, moves: History | None = None) -> None:
        """Show `state`, and call subscribers if it is another object than before.

        `moves`: what others did to the shown state, if that is known.
        """
        before = self._shown.handed_out() if self._watchers else None
        is_other = self._shown.replace(state)
        if self._watchers:
            self._notify_watchers(before, self._shown.state, moves)
        if is_other:
            if self._shape is not None:
                self._arrived()
            self._notify()

    def mark_loaded(self) -> None:
        """Record that the state is that of the document, not only an empty start."""
        self._shown.is_loaded = True
        if self._shape is not None:
            self._arrived()

    def update_sync_status(self, status: DocSyncStatus, error: Exception | None = None) -> None:
        """Set by the coordinator. `error` counts only with `"error"`."""
        error = error if status == "error" else None
        if status in ("synced", "error"):
            self._shown.is_loaded = True
        if (status, error) != self._sync:
            self._sync = status, error
            self.on_status_change.emit(status, error)

    def mark_closed(self) -> None:
        """Refuse further edits and end `async for`. Called by the owner."""
        self._closed = True
        self._watchers = ()
        self._wake()

    def take_ops(self, ops: list[Op], *, metadata_bytes: int = 0) -> list[Op]:
        """Apply the owner's operations like an edit, without `on_change`; returns the live list.

        `metadata_bytes`: the size of what the owner stores beside them.
        """
        before = self._shown.changes
        plain = plain_ops(self._shown.state, ops, max_depth=self.limits.max_value_depth)
        self._editor = self  # no edit of a watcher's user
        try:
            live = self._apply_locally(plain, metadata_bytes)
        finally:
            self._editor = None
        if before != self._shown.changes:
            self._notify()
        return live

    # ---- what an algorithm's document implements -------------------------------------------------

    def prepare_ops(self, ops: list[Op]) -> list[Op]:
        """What this algorithm writes for recorded operations, which were made for `state`.

        Raises `UnsupportedOperationError`.
        """
        return ops

    def can_cut(self, op: Op, max_bytes: int) -> bool:
        """Whether one operation can be divided into pieces of at most so many bytes."""
        return False

    @property
    def pending_count(self) -> int:
        """How many stored changes or fields wait for the server. O(1): asked at every edit."""
        return 0

    def holds(self, edit: list[Op]) -> bool:
        """Whether this edit is still to be stored, by the identity of its list."""
        return any(ops is edit for ops in self.unsaved)

    @abstractmethod
    def import_snapshot(self, snapshot: Snapshot) -> None:
        """Replace committed and pending parts, keep what is unsaved. An older one does nothing."""

    @abstractmethod
    def rollback_unsaved(self) -> None:
        """Forget unsaved edits: empty their lists in place, clear `unsaved`, show the rest."""

    # ---- inside ----------------------------------------------------------------------------------

    def _edited(self, before: int, ops: list[Op]) -> None:
        if not ops:
            return
        self._check_writable()
        if before != self._shown.changes:
            raise PatchError(
                f"document {self.id!r} changed while it was being edited; "
                f"an edit holds no await and no other edit"
            )
        prepared = self._apply_locally(ops, self.metadata_bytes)
        if prepared:
            # The owner queues the edit before any subscriber runs: one may edit again at once.
            self.on_change.emit(prepared)
            if before != self._shown.changes:
                self._notify()

    def _ops_to(self, state: Json, *, text: bool) -> list[Op]:
        shown = self._shown.state
        return ops_to_reach(shown, state, max_depth=self.limits.max_doc_depth, text=text)

    def _apply_locally(self, ops: list[Op], metadata_bytes: int) -> list[Op]:
        prepared = self.prepare_ops(ops)
        if not prepared:
            return prepared
        check_ops(prepared, self.limits, counted=False)
        size = json_size(prepared)
        most = self._largest_change - metadata_bytes
        if size > most:
            self._check_divisible(prepared, most)
        self._check_queue(size)
        if self._watchers:
            carry_out = self._planned(prepared)
            self._shown.apply(self.id, prepared, size)
            carry_out()
        else:
            self._shown.apply(self.id, prepared, size)
        self._work_bytes += size
        self.unsaved.append(prepared)
        return prepared

    def _check_divisible(self, ops: list[Op], most: int) -> None:
        """Refuse an operation that no change can hold. An edit of several is cut between them."""
        for index, op in enumerate(ops):
            if json_size(op) > most and not self.can_cut(op, most):
                limit, name = self.limits.largest_change
                size = json_size(ops) + self.limits.largest_change_bytes - most
                where = "" if len(ops) == 1 else f" (ops[{index}] at {op['path'][:80]!r})"
                raise OpsRefusedError(
                    f"this change has {size:,} bytes, a server takes {limit:,} ({name}); split it, "
                    f"or store the data elsewhere and its address here{where}",
                    code=413,
                )

    def _check_queue(self, size: int) -> None:
        """Refuse an edit of `size` bytes that makes unsent work more than is kept."""
        most = self.limits.max_pending_per_doc
        if most is not None and len(self.unsaved) + self.pending_count >= most:
            raise QueueFullError(
                f"document {self.id!r} has {most} unsent changes; connect it, or wait"
            )
        most = self.limits.max_pending_bytes_per_doc
        if most is None:
            return
        if not (self.unsaved or self._shown.has_pending):
            self._work_bytes = 0
        elif self._work_bytes < 0:
            self._work_bytes = self.measure_pending()
        if self._work_bytes + size > most:
            # What was committed meanwhile is still in the estimate.
            self._work_bytes = self.unsent_bytes()
            if self._work_bytes + size > most:
                raise QueueFullError(
                    f"document {self.id!r} has {self._work_bytes} bytes of unsent changes, at most "
                    f"{most} are kept; connect it, or wait"
                )

    def _check_open(self) -> None:
        if self._owner is not None:
            self._owner.check(f"document {self.id!r}", "doc.threadsafe.change(…)")
        if self._closed:
            raise DocumentClosedError(f"document {self.id!r} is closed; open it again to edit it")

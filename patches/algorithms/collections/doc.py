"""`CollectionsDoc`: an open collections document: its rows, its writes and its live queries.

The tables are kept in place and queries follow each changed row, so that a write costs what it
touches. `state` is an immutable picture of them, made when it is asked for: only tables that have
changed since are copied, and each copies references, not rows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Protocol, TypeVar

from patches.aio.signals import Signal, Spawn
from patches.algorithms.base import SyncHost
from patches.algorithms.collections import call_ops
from patches.algorithms.collections.collection import Collection
from patches.algorithms.collections.declaration import Collections, DeclaredTable
from patches.algorithms.collections.live import Live
from patches.algorithms.collections.overlay import Changed, Layer, Overlay, Place
from patches.algorithms.collections.queries import Queries
from patches.algorithms.collections.row_edits import check_row_ops, checked_row_ops, row_edit
from patches.algorithms.collections.shown_tables import ShownTables
from patches.algorithms.collections.store_views import EventStore, SingularStore
from patches.algorithms.collections.subsets import Interest
from patches.algorithms.collections.tables import Work
from patches.algorithms.collections.transactions import Step, rows_of
from patches.algorithms.collections.writes import Write, WriteBook
from patches.documents.document import Document
from patches.documents.draft import plain_ops
from patches.errors import OpsRefusedError, PatchError, QueueFullError
from patches.limits import Limits
from patches.model.change import Change, Snapshot
from patches.model.checks import check_ops
from patches.model.codec import json_size
from patches.model.json_values import Json, Op
from patches.rows.row_ops import Row, RowOp, parse_row_ops

_log = logging.getLogger("patches.algorithms.collections")

T = TypeVar("T")

MAX_PENDING: Final = 10_000
_MAX_ROUNDS: Final = 100


class CollectionsSnapshot(Snapshot):
    """What the store holds, as `load_doc` gives it."""

    __slots__ = ("work",)

    def __init__(self, work: Work) -> None:
        super().__init__(state=work.rows, rev=work.committed_rev, changes=work.pending)
        self.work = work


class DocHost(Protocol):
    """What a document asks of its algorithm."""

    confirm_timeout_s: float

    @property
    def host(self) -> SyncHost | None:
        """Who syncs the documents, if anybody does."""

    def adopted(self, doc: CollectionsDoc) -> None:
        """A document is open."""

    def new_id(self) -> str:
        """An id for a change."""

    def new_key(self) -> str:
        """A key for a row: a UUIDv7."""

    def now(self) -> int:
        """The time, in milliseconds."""

    async def read_options(self, doc_id: str) -> Mapping[str, Json]:
        """The options of a call that reads."""

    async def forget_write(self, doc_id: str, write_id: str) -> None:
        """Take a stored write out of the store."""


class CollectionsDoc(Document):
    """Synced rows, with rows in progress and unconfirmed writes on top."""

    algorithm: ClassVar[str] = "collections"

    def __init__(
        self,
        doc_id: str,
        snapshot: Snapshot | None,
        *,
        declaration: Collections,
        host: DocHost,
        limits: Limits | None = None,
    ) -> None:
        work = work_of(snapshot)
        self.declaration: Final = declaration
        self._host: Final = host
        self._overlay = Overlay(work.rows, declaration.schema.tables)
        self._pictures = ShownTables(self._overlay.visible, work.committed_rev, limits or Limits())
        super().__init__(
            doc_id,
            state=None,
            committed_rev=work.committed_rev,
            limits=limits,
            shown=self._pictures,
        )
        #: How often the store's tables were written to, as far as this document has followed.
        self.version = work.version
        self.interest: Final = Interest(self.is_on_demand)
        self.interest.cursor = work.committed_rev
        self.queries: Final = Queries(self, self.interest)
        loop = asyncio.get_running_loop()
        self._book = WriteBook(self, host.confirm_timeout_s, loop.time)
        #: A write of this document was not confirmed within the confirm timeout; it stays pending.
        self.on_unconfirmed: Signal[[Write]] = self._book.on_unconfirmed
        #: A write was refused for good and is undone.
        self.on_rejected: Signal[[Write]] = self._book.on_rejected
        self._unsaved_ids: dict[int, str] = {}  # by the identity of the live list
        self._lives: list[Live[Any]] = []
        self._contact = asyncio.Event()
        self._untold: set[str] = set()  # tables that changed since subscribers were called
        self._transaction: tuple[Layer, list[Op], Write] | None = None
        self._watching = False
        self._lay_stored(work.pending)

    # ---- what it shows ---------------------------------------------------------------------------

    @property
    def tables(self) -> Mapping[str, Mapping[str, Row]]:
        """The visible tables as they are kept. Read only, and not a picture: they change."""
        return self._overlay.visible

    def collection(self, table: type | str) -> Collection:
        """The rows of a table, by the class that declares it or its name."""
        return Collection(self, self.declaration.table_of(table))

    def store(self, declared: type | str) -> EventStore | SingularStore:
        """The records of the user, by the class that declares the store or its name."""
        table = self.declaration.table_of(declared)
        if table.kind == "event":
            return EventStore(self, table)
        if table.kind == "singular":
            return SingularStore(self, table)
        raise PatchError(f"{table.name!r} is a table, not a store; use collection({table.name!r})")

    def live(self, fn: Callable[[Mapping[str, Mapping[str, Row]]], T]) -> Live[T]:
        """Any function of the visible tables, computed again when one that it has read changes."""
        live: Live[T] = Live(fn, self._overlay.visible, self._lives_remove)
        self._lives.append(live)
        return live

    def _lives_remove(self, live: Live[Any]) -> None:
        if live in self._lives:
            self._lives.remove(live)

    def is_pending(self, table: type | str, key: str) -> bool:
        """Whether an unconfirmed write concerns a row."""
        return self._overlay.is_touched((self.declaration.table_of(table).name, key))

    def is_partial(self, table: type | str, key: str) -> bool:
        """Whether a row is in progress: shown while the server still makes it."""
        return (self.declaration.table_of(table).name, key) in self._overlay.partials

    @property
    def writes(self) -> tuple[Write, ...]:
        """The writes that the server has not decided about, in order."""
        return tuple(self._book)

    # ---- writes ----------------------------------------------------------------------------------

    def apply(self, ops: Any) -> None:
        """Apply row operations, all or none, with `test` operations before them if need be.

        Raises `NotARowOperationError` for others, `InvalidRowError`, `PatchError`.
        """
        self._check_open()
        before, state = self._shown.changes, self._shown.state
        plain = plain_ops(state, ops, max_depth=self.limits.max_value_depth)
        check_row_ops(plain)
        self._edited(before, plain)

    def prepare_ops(self, ops: list[Op]) -> list[Op]:
        """The row operations that an edit amounts to, checked."""
        return row_edit(ops, self._overlay.visible, self.declaration.schema.tables)

    def write(self, ops: list[Op], key: str | None = None) -> Write:
        """Show row operations that were checked, and queue them. In a transaction, they join it."""
        self._check_open()
        if self._transaction is not None:
            return self._extend_transaction(ops, key)
        if not any(op["op"] != "test" for op in ops):  # nothing to write
            write = self._book.begin(self._host.new_id(), key)
            self._book.confirmed(write.id)
            return write
        write = self._show_write(ops, key=key, metadata_bytes=self.metadata_bytes)
        self._queue(ops)
        return write

    def call(self, action: Callable[..., object] | str, /, **arguments: Json) -> Write:
        """Call an action of the server, by its optimistic half or its name.

        The optimistic half is shown until the server has answered. Raises what it raises now.
        """
        self._check_open()
        name = self.declaration.action_name(action)
        if self._transaction is not None:
            raise PatchError("an action is a change of its own: call it outside the transaction")
        ops = call_ops.encode(name, arguments)
        write = self._show_write(ops, metadata_bytes=self.metadata_bytes)
        self._queue(ops)
        return write

    @contextmanager
    def transaction(self) -> Iterator[Write]:
        """`with doc.transaction():` makes one change of the writes in the block.

        The server takes all of them or none. If the block raises, they are undone.
        """
        self._check_open()
        if self._transaction is not None:
            raise PatchError("a transaction is open already")
        write_id = self._host.new_id()
        layer, ops = Layer(write_id), list[Op]()
        self._overlay.add(layer)
        write = self._book.begin(write_id)
        self._transaction = (layer, ops, write)
        self._unsaved_ids[id(ops)] = write_id
        try:
            yield write
            self._check_open()
        except BaseException:
            del self._unsaved_ids[id(ops)]
            self._book.discarded(write_id)
            self._settle(self._overlay.step(remove=[write_id]), is_held=True)
            self._transaction = None
            self.queries.release_held(is_kept=False)
            self._notify()
            raise
        self._transaction = None
        self._untold.update(op["path"].split("/")[1] for op in ops)
        self.queries.release_held(is_kept=True)
        if any(op["op"] != "test" for op in ops):
            self.unsaved.append(ops)
            self._queue(ops)
        else:
            del self._unsaved_ids[id(ops)]
            self._book.confirmed(write_id)
            self._changed(self._overlay.step(remove=[write_id]))

    def retry_write(self, write_id: str) -> None:
        """Send an unconfirmed write now, if there is a connection."""
        if self._book.retried(write_id):
            self._watch()
            if self._host.host is not None:
                self._host.host.work_changed(self.id)

    def discard_write(self, write_id: str) -> None:
        """Take a write back here."""
        self._check_open()
        if self._overlay.layer(write_id) is None:
            return
        if self._transaction is not None and self._transaction[0].id == write_id:
            raise PatchError("raise an error in the block to take its transaction back")
        is_stored = True
        for ops in [each for each in self.unsaved if self._unsaved_ids[id(each)] == write_id]:
            is_stored = False
            self._forget_unsaved(ops)
            ops.clear()  # whoever stores it skips it
        changed = self._overlay.step(remove=[write_id], keep=self.interest.keeps)
        self._book.discarded(write_id)
        self._changed(changed)
        if is_stored:
            self.run(self._host.forget_write(self.id, write_id))

    # ---- for queries and stores ------------------------------------------------------------------

    def is_on_demand(self, table: str) -> bool:
        """Whether the rows of a table come by subsets alone."""
        declared = self.declaration.tables.get(table)
        return declared is not None and declared.sync == "on_demand"

    def new_key(self) -> str:
        """A key for a row."""
        return self._host.new_key()

    def now(self) -> int:
        """The time, in milliseconds."""
        return self._host.now()

    def row(self, table: DeclaredTable, key: str) -> Row | None:
        """A visible row."""
        return self._overlay.row((table.name, key))

    @property
    def host(self) -> SyncHost | None:
        """Who syncs the document, if anybody does."""
        return self._host.host

    async def read_options(self) -> Mapping[str, Json]:
        """The options of a call that reads."""
        return await self._host.read_options(self.id)

    async def next_contact(self) -> None:
        """Wait until the document was synced over a connection once more."""
        await self._contact.wait()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run this while the client is open."""
        self._spawned(coroutine)

    def take_rows(self, ops: list[RowOp], review: list[Place]) -> None:
        """Synced rows of an on-demand table came, and others may go."""
        self._changed(self._overlay.step(ops, review=review, keep=self.interest.keeps))

    # ---- for the algorithm -----------------------------------------------------------------------

    @property
    def pending_count(self) -> int:
        """How many stored writes wait for the server."""
        return len(self._overlay.layers) - len(self._unsaved_ids)

    def write_id_of(self, ops: list[Op]) -> str | None:
        """The id of an unsaved edit, by its live list."""
        return self._unsaved_ids.get(id(ops))

    def saved(self, edits: Sequence[list[Op]], step: Step) -> None:
        """Edits are in the store as writes."""
        for ops in edits:
            self._forget_unsaved(ops)
        self.follow(step)

    def sent(self, changes: Sequence[Change]) -> None:
        """Writes leave for the server."""
        for change in changes:
            self._book.sent(change.id)

    def follow(self, step: Step) -> None:
        """Follow a write to the store's tables."""
        if step.work is not None:
            self.install(step.work)
        else:
            ops: list[RowOp] = []
            review: list[Place] = []
            for change in step.accepted:
                taken, left = self.interest.taken(change, self._overlay.synced)
                ops += taken
                review += left
            self.version = step.after
            self.committed_rev = max(self.committed_rev, step.committed_rev)
            self.interest.cursor = self.committed_rev
            changed = self._overlay.step(
                ops, remove=step.confirmed, review=review, keep=self.interest.keeps
            )
            self._settle(changed)
        for write_id in step.confirmed:
            self._book.confirmed(write_id)
        self._notify()

    def rejected(self, write_id: str, reason: str, step: Step) -> None:
        """The server has refused a write for good."""
        if step.work is not None:
            self.install(step.work, rejected=(write_id,))
        else:
            self.version = step.after
            self._settle(self._overlay.step(remove=[write_id], keep=self.interest.keeps))
        self._book.rejected(write_id, reason)
        self._notify()

    def retried(self, change: Change, step: Step) -> None:
        """A refused write is pending again."""
        if step.work is not None:
            self.install(step.work)
        else:
            self.version = step.after
            self._lay_stored([change])
        self._notify()

    def install(
        self,
        work: Work,
        *,
        snapshot: Snapshot | None = None,
        rejected: Sequence[str] = (),
    ) -> None:
        """Take over what is stored, or the server's `snapshot`; what is unsaved stays on top."""
        if snapshot is not None:
            self.interest.installed(work.committed_rev, snapshot.metadata.get("windows"))
        elif work.committed_rev != self.committed_rev:
            self.interest.lost()
        rows = work.rows
        for name in self._overlay.synced:
            if self.is_on_demand(name) and snapshot is None:
                rows.setdefault(name, self._overlay.synced[name])
        kept = {change.id for change in work.pending} | set(self._unsaved_ids.values())
        gone = [layer.id for layer in self._overlay.layers if layer.id not in kept]
        changed = self._overlay.replace_synced(rows, gone, keep=self.interest.keeps)
        self.committed_rev = work.committed_rev
        self.interest.cursor = work.committed_rev
        self.version = work.version
        self._settle(changed)
        for write_id in gone:
            if write_id not in rejected:
                self._book.confirmed(write_id)
        self._lay_stored(work.pending)
        self._notify()

    def import_snapshot(self, snapshot: Snapshot) -> None:
        """Replace synced rows and pending writes. An older one does nothing."""
        if snapshot.rev >= self.committed_rev:
            self.install(work_of(snapshot))

    def rollback_unsaved(self) -> None:
        """Forget unsaved edits and show the rest."""
        failure = PatchError("the write could not be stored")
        for ops in list(self.unsaved):
            write_id = self._unsaved_ids[id(ops)]
            self._forget_unsaved(ops)
            ops.clear()
            self._settle(self._overlay.step(remove=[write_id], keep=self.interest.keeps))
            self._book.rejected(write_id, failure)
        self._notify()

    def synced_again(self) -> None:
        """The document was synced over a connection."""
        self._contact.set()
        self._contact = asyncio.Event()
        self.queries.load_again()

    def take_partials(self, changes: Sequence[Mapping[str, Any]]) -> None:
        """Rows in progress, as the server tells them."""
        partials: dict[Place, Row | None] = {}
        for change in changes:
            for op in parse_row_ops(change["ops"]):
                if op.key is not None and op.kind in ("add", "remove"):
                    partials[op.table, op.key] = op.value if op.kind == "add" else None
        self._changed(self._overlay.step(partials=partials))

    def drop_partials(self) -> None:
        """The connection that told of rows in progress has ended."""
        if self._overlay.partials:
            gone = dict.fromkeys(self._overlay.partials)
            self._changed(self._overlay.step(partials=gone))

    # ---- life ------------------------------------------------------------------------------------

    def adopt(self, *, spawn: Spawn, **owned: Any) -> None:
        """The caller owns this document from now on."""
        super().adopt(spawn=spawn, **owned)
        self._host.adopted(self)
        self._watch()

    def mark_closed(self) -> None:
        """Refuse further edits, end `async for`, queries and the watch over writes."""
        super().mark_closed()
        self._book.close(self.id)

    # ---- inside ----------------------------------------------------------------------------------

    def _apply_locally(self, ops: list[Op], metadata_bytes: int) -> list[Op]:
        prepared = self.prepare_ops(ops)
        if self._transaction is not None:
            self._extend_transaction(prepared, None)
            return []
        if any(op["op"] != "test" for op in prepared):
            self._show_write(prepared, metadata_bytes=metadata_bytes)
            self._watch()
            return prepared
        return []

    def _show_write(self, ops: list[Op], *, key: str | None = None, metadata_bytes: int) -> Write:
        """Show operations as a write of their own; `ops` is its live list."""
        if len(self._overlay.layers) >= MAX_PENDING:
            raise QueueFullError(
                f"document {self.id!r} has {MAX_PENDING} unsent writes; connect it, or wait"
            )
        layer = self._layer(self._host.new_id(), ops)
        changed = self._overlay.add(layer)
        try:
            self._check_written(ops, changed, metadata_bytes)
        except BaseException:
            self._overlay.step(remove=[layer.id])
            raise
        self._unsaved_ids[id(ops)] = layer.id
        self.unsaved.append(ops)
        write = self._book.begin(layer.id, key)
        self._settle(changed)
        return write

    def _check_written(self, ops: list[Op], changed: Changed, metadata_bytes: int) -> None:
        call = call_ops.decode(ops)
        if call is None:
            check_ops(ops, self.limits, counted=False)
            checked_row_ops(ops, self.declaration, changed)
        size = json_size(ops)
        most = self._largest_change - metadata_bytes
        if size > most:
            raise OpsRefusedError(
                f"a write of {size} bytes, at most {most} fit into one change", code=413
            )
        self._check_queue(size)

    def _extend_transaction(self, ops: list[Op], key: str | None) -> Write:
        assert self._transaction is not None
        layer, live, write = self._transaction
        changed = self._overlay.extend(layer, parse_row_ops(_written(ops)))
        try:
            self._check_written([*live, *ops], changed, self.metadata_bytes)
        except BaseException:
            self._overlay.step(remove=[layer.id])  # the block sees what was before its last write
            layer.ops = parse_row_ops(_written(live))
            self._overlay.add(layer)
            raise
        live += ops
        self._settle(changed, is_held=True)
        return self._book.also(write.id, key) if key is not None else write

    def _queue(self, ops: list[Op]) -> None:
        # The owner queues the edit before any subscriber runs: one may write again at once.
        self.on_change.emit(ops)
        self._watch()
        self._notify()

    def _lay_stored(self, pending: Sequence[Change]) -> None:
        now = self._host.now()
        for change in pending:
            if self._overlay.layer(change.id) is not None:
                continue
            age_s = max(0, now - change.created_at) / 1000
            self._book.begin(change.id, _only_key(change.ops), age_s=age_s)
            layer = self._layer(change.id, change.ops, change.metadata.get("action"))
            self._settle(self._overlay.add_stored(layer))
        self.has_pending = self.pending_count > 0

    def _layer(self, write_id: str, ops: list[Op], action: Json = None) -> Layer:
        call = call_ops.decode(ops) or call_ops.from_action(action)
        if call is None:
            return Layer(write_id, parse_row_ops(_written(ops)))
        name, arguments = call
        half = self.declaration.actions.get(name)
        if half is None:
            return Layer(write_id)
        return Layer(write_id, run=lambda tx: half(tx, **arguments))

    def optimistic_ops(self, write_id: str) -> list[Op]:
        """What the optimistic half of a called action writes, for the server's information."""
        layer = self._overlay.layer(write_id)
        return [] if layer is None else [op_of(op) for op in layer.ops]

    def _forget_unsaved(self, ops: list[Op]) -> None:
        for index, each in enumerate(self.unsaved):
            if each is ops:  # by identity: two edits may be equal
                del self.unsaved[index]
                self._unsaved_ids.pop(id(ops), None)
                return

    def _changed(self, changed: Changed) -> None:
        self._settle(changed)
        self._notify()

    def _settle(self, changed: Changed, *, is_held: bool = False) -> None:
        """Take visible changes into queries and the picture; `is_held`: tell nobody of them."""
        self.has_pending = self.pending_count > 0
        if changed:
            tables = {table for table, _ in changed}
            self._pictures.mark(tables)
            if not is_held:
                self._untold |= tables
            self.queries.update(changed, is_held=is_held)

    def _notify(self) -> None:
        """Call subscribers, if something visible differs. Each sees the newest rows."""
        if not self._untold:
            return
        self._wake()
        if self._notifying:
            return
        self._notifying = True
        try:
            for _ in range(_MAX_ROUNDS):
                tables, self._untold = self._untold, set()
                if not tables:
                    return
                if self.on_update:
                    self.on_update.emit(self.state)
                self.queries.notify()
                for live in list(self._lives):
                    self._update_live(live, tables)
            _log.error(
                "document %r: subscribers changed it %d times in a row; they are not called again",
                self.id,
                _MAX_ROUNDS,
            )
        finally:
            self._notifying = False

    def _update_live(self, live: Live[Any], tables: set[str]) -> None:
        try:
            live.update(tables)
        except Exception:  # boundary: the application's function; its value stays as it was
            _log.exception("document %r: a live function failed", self.id)

    def _watch(self) -> None:
        if not self._watching and self.spawn is not None and self._book.next_deadline is not None:
            self._watching = True
            self._spawned(self._watched())

    async def _watched(self) -> None:
        try:
            await self._book.watch()
        finally:
            self._watching = False


def work_of(snapshot: Snapshot | None) -> Work:
    """What a document takes over."""
    if isinstance(snapshot, CollectionsSnapshot):
        return snapshot.work
    if snapshot is None:
        return Work(rows={}, committed_rev=0, pending=[], version=0, schema_version=0)
    pending = [change for change in snapshot.changes if not change.committed_at]
    committed = [change for change in snapshot.changes if change.committed_at]
    settled = Snapshot(state=snapshot.state, rev=snapshot.rev, changes=committed)
    return Work(
        rows=rows_of(settled),
        committed_rev=settled.head,
        pending=pending,
        version=0,
        schema_version=0,
    )


def op_of(op: RowOp) -> Op:
    """A row operation as JSON Patch."""
    return call_ops.row_op(op)


def _written(ops: Sequence[Op]) -> list[Op]:
    return [op for op in ops if op.get("op") not in ("test", call_ops.CALL)]


def _only_key(ops: Sequence[Op]) -> str | None:
    """The key of the row that operations are about, if they are about one."""
    keys = {(op.table, op.key) for op in parse_row_ops(_written(ops))}
    return next(iter(keys))[1] if len(keys) == 1 else None

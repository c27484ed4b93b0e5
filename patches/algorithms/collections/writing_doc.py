"""`WritingDoc`: what makes writes of an open collections document, until they are stored.

A write is shown, checked and queued in one synchronous call. Its live list of operations waits in
`unsaved` until the algorithm has stored it under the write's id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from patches.aio.signals import Signal
from patches.algorithms.collections import call_ops
from patches.algorithms.collections.declaration import Collections
from patches.algorithms.collections.overlay import Changed, Layer
from patches.algorithms.collections.row_edits import check_row_ops, checked_row_ops, row_edit
from patches.algorithms.collections.shown_doc import DocHost, ShownDoc
from patches.algorithms.collections.tables import Work
from patches.algorithms.collections.writes import Write, WriteBook
from patches.documents.draft import plain_ops
from patches.errors import OpsRefusedError, PatchError, QueueFullError
from patches.limits import Limits
from patches.model.change import Change
from patches.model.checks import check_ops
from patches.model.codec import json_size
from patches.model.json_values import Json, Op
from patches.rows.row_ops import parse_row_ops

MAX_PENDING: Final = 10_000


@dataclass(slots=True)
class _Transaction:
    """An open `with doc.transaction():`; writes of its task join it."""

    layer: Layer
    ops: list[Op]  # its live list
    write: Write
    task: asyncio.Task[object] | None


class WritingDoc(ShownDoc):
    """The document as far as it writes."""

    def __init__(
        self,
        doc_id: str,
        work: Work,
        *,
        declaration: Collections,
        host: DocHost,
        limits: Limits | None = None,
    ) -> None:
        self._unsaved_ids: dict[int, str] = {}  # by the identity of the live list
        super().__init__(doc_id, work, declaration=declaration, host=host, limits=limits)
        loop = asyncio.get_running_loop()
        self._book = WriteBook(self, host.confirm_timeout_s, loop.time)
        #: A write of this document was not confirmed within the confirm timeout; it stays pending.
        self.on_unconfirmed: Signal[[Write]] = self._book.on_unconfirmed
        #: A write was refused for good and is undone.
        self.on_rejected: Signal[[Write]] = self._book.on_rejected
        self._transaction: _Transaction | None = None
        self._watching = False

    @property
    def writes(self) -> tuple[Write, ...]:
        """The writes that the server has not decided about, in order."""
        return tuple(self._book)

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
        if self._is_in_transaction:
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
        if self._is_in_transaction:
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
        self._transaction = _Transaction(layer, ops, write, _current_task())
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
        if self._transaction is not None and self._transaction.write.id == write_id:
            raise PatchError("raise an error in the block to take its transaction back")
        is_stored = True
        for ops in [each for each in self.unsaved if self._unsaved_ids[id(each)] == write_id]:
            is_stored = False
            self._forget_unsaved(ops)
            ops.clear()  # whoever stores it skips it
        changed = self._overlay.step(remove=[write_id], keep=self._keep)
        self._book.discarded(write_id)
        self._changed(changed)
        if is_stored:
            self.run(self._host.forget_write(self.id, write_id))

    # ---- for the algorithm -----------------------------------------------------------------------

    @property
    def pending_count(self) -> int:
        """How many stored writes wait for the server."""
        return len(self._overlay.layers) - len(self._unsaved_ids)

    def measure_pending(self) -> int:
        """Bytes of the stored writes that wait for the server."""
        unsaved = set(self._unsaved_ids.values())
        stored = [layer for layer in self._overlay.layers if layer.id not in unsaved]
        return sum(json_size(call_ops.row_op(op)) for layer in stored for op in layer.ops)

    def write_id_of(self, ops: list[Op]) -> str | None:
        """The id of an unsaved edit, by its live list."""
        return self._unsaved_ids.get(id(ops))

    def optimistic_ops(self, write_id: str) -> list[Op]:
        """What the optimistic half of a called action writes, for the server's information."""
        layer = self._overlay.layer(write_id)
        return [] if layer is None else [call_ops.row_op(op) for op in layer.ops]

    def sent(self, changes: Sequence[Change]) -> None:
        """Writes leave for the server."""
        for change in changes:
            self._book.sent(change.id)

    def rollback_unsaved(self) -> None:
        """Forget unsaved edits and show the rest."""
        failure = PatchError("the write could not be stored")
        for ops in list(self.unsaved):
            write_id = self._unsaved_ids[id(ops)]
            self._forget_unsaved(ops)
            ops.clear()
            self._settle(self._overlay.step(remove=[write_id], keep=self._keep))
            self._book.rejected(write_id, failure)
        self._notify()

    # ---- inside ----------------------------------------------------------------------------------

    def _apply_locally(self, ops: list[Op], metadata_bytes: int) -> list[Op]:
        prepared = self.prepare_ops(ops)
        if self._is_in_transaction:
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
        self._work_bytes += json_size(ops)
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

    @property
    def _is_in_transaction(self) -> bool:
        return self._transaction is not None and self._transaction.task is _current_task()

    def _extend_transaction(self, ops: list[Op], key: str | None) -> Write:
        assert self._transaction is not None
        layer, live = self._transaction.layer, self._transaction.ops
        write = self._transaction.write
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

    def _forget_unsaved(self, ops: list[Op]) -> None:
        for index, each in enumerate(self.unsaved):
            if each is ops:  # by identity: two edits may be equal
                del self.unsaved[index]
                self._unsaved_ids.pop(id(ops), None)
                return

    def _watch(self) -> None:
        if not self._watching and self.spawn is not None and self._book.next_deadline is not None:
            self._watching = True
            self._spawned(self._watched())

    async def _watched(self) -> None:
        try:
            await self._book.watch()
        finally:
            self._watching = False


def _current_task() -> asyncio.Task[object] | None:
    return asyncio.current_task()


def _written(ops: Sequence[Op]) -> list[Op]:
    return [op for op in ops if op.get("op") not in ("test", call_ops.CALL)]


def _only_key(ops: Sequence[Op]) -> str | None:
    """The key of the row that operations are about, if they are about one."""
    keys = {(op.table, op.key) for op in parse_row_ops(_written(ops))}
    return next(iter(keys))[1] if len(keys) == 1 else None

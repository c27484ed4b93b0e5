"""The coordinator's runs for one document: sync, flush, reload, failures.

The rules: `docs/internals/sync.md` 5-9.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from patches.aio.tasks import TaskScope
from patches.algorithms.ot import break_changes_into_batches
from patches.errors import ApplyChangesError, MissingChangesError, NetworkError, StatusError
from patches.model.change import Change, Snapshot
from patches.model.ids import IdSource
from patches.model.json_values import Op
from tests.interop.original.algorithm import OriginalAlgorithm, OriginalDoc
from tests.interop.original.gate import SerialGate
from tests.interop.original.rpc import OriginalRpc
from tests.interop.original.turns import Turns

_LADDER = 10
_TERMINAL = (401, 402, 403, 404)


class Syncing:
    """What `OriginalClient` does for one document at a time."""

    turns: Turns
    second: float
    max_payload_bytes: int
    new_id: IdSource
    tracked: dict[str, str]
    docs: dict[str, OriginalDoc]
    parked: dict[str, list[Change]]
    attempts: dict[str, int]
    deleted: list[tuple[str, list[list[Op]]]]
    scope: TaskScope
    gate: SerialGate
    rpc: OriginalRpc
    on_progress: Callable[[], object]

    @property
    def can_send(self) -> bool:
        raise NotImplementedError

    def algorithm(self, doc_id: str) -> OriginalAlgorithm:
        raise NotImplementedError

    def forget(self, doc_id: str) -> None:
        raise NotImplementedError

    def report(self, error: Exception, doc_id: str | None = None) -> None:
        raise NotImplementedError

    # ---- sync ------------------------------------------------------------------------------------

    async def sync_once(self, doc_id: str) -> None:
        """One run of the serial gate (5), and what its failure leads to (7)."""
        if not self.can_send or doc_id not in self.tracked:
            return
        try:
            await self._sync(doc_id)
        except StatusError as exc:
            if exc.code == 410:
                self.deleted_by_others(doc_id)
            elif exc.code in _TERMINAL:
                self.report(exc, doc_id)
            else:
                self._retry(doc_id, exc)
        except ApplyChangesError as exc:
            self.report(exc, doc_id)
            await self._recover(doc_id)
        except Exception as exc:
            self._retry(doc_id, exc)
        else:
            self.attempts.pop(doc_id, None)

    async def _sync(self, doc_id: str) -> None:
        algorithm = self.algorithm(doc_id)
        pending = await algorithm.get_pending_to_send(doc_id)
        await self.turns.take()
        if pending:
            await self._flush(doc_id, pending)
        elif (rev := algorithm.committed_rev(doc_id)) > 0:
            changes = await self.rpc.call("getChangesSince", doc_id, rev)
            await self.turns.before_applying()
            if changes:
                await self.apply(doc_id, [Change.from_wire(change) for change in changes])
        else:
            await self._reload(doc_id, flush_pending_first=True)

    async def _recover(self, doc_id: str) -> None:
        """Ends synced, and flushes nothing (12.3)."""
        try:
            await self._reload(doc_id)
        except StatusError as exc:
            if exc.code == 410:
                self.deleted_by_others(doc_id)
            else:
                self._retry(doc_id, exc)
        except Exception as exc:
            self._retry(doc_id, exc)

    def _retry(self, doc_id: str, error: Exception) -> None:
        attempt = self.attempts.get(doc_id, 0)
        self.attempts[doc_id] = attempt + 1
        if attempt >= _LADDER:
            self.report(error, doc_id)
        else:
            wait_s = min(self.second * 2**attempt, 30 * self.second)
            self.scope.spawn(self._call_later(wait_s, doc_id), name="retry")

    async def _call_later(self, wait_s: float, doc_id: str) -> None:
        await asyncio.sleep(wait_s)
        if self.can_send and doc_id in self.tracked:
            self.gate.call(doc_id)
        else:
            self.attempts.pop(doc_id, None)
            self.on_progress()

    # ---- flush -----------------------------------------------------------------------------------

    async def _flush(self, doc_id: str, pending: list[Change]) -> None:
        algorithm = self.algorithm(doc_id)
        head_before = algorithm.peek_pending_head(doc_id)
        batches = break_changes_into_batches(
            pending, self.max_payload_bytes, new_id=self.new_id, doc_id=doc_id
        )
        pieces = [change for batch in batches for change in batch]
        if len(pieces) != len(pending) and algorithm.replace_pending(doc_id, pending, pieces):
            self._load_again(doc_id)
        reloaded = False
        for batch in batches:
            if not self.can_send:
                raise NetworkError("offline")
            if await self._commit(doc_id, batch):
                reloaded = True
                break
        moved = algorithm.peek_pending_head(doc_id) != head_before
        if doc_id in self.tracked and algorithm.has_pending(doc_id) and (reloaded or moved):
            self.gate.call(doc_id)

    async def _commit(self, doc_id: str, batch: Sequence[Change]) -> bool:
        """Send a batch and take the answer; whether the document was reloaded instead."""
        algorithm = self.algorithm(doc_id)
        try:
            result = await self.rpc.call("commitChanges", doc_id, [c.to_wire() for c in batch])
        except StatusError as exc:
            if exc.code != 409 or exc.scope != "doc":
                raise
            await self._reload(doc_id)
            return True
        await self.turns.before_applying()
        if result.get("docReloadRequired"):
            await algorithm.confirm_sent(doc_id, batch)
            algorithm.drop_pending(doc_id, {change.id for change in batch})
            await self._reload(doc_id)
            return True
        committed = [Change.from_wire(change) for change in result["changes"]]
        if await algorithm.confirm_sent(doc_id, batch):
            self._load_again(doc_id)
        await self.turns.before_applying()
        if committed:
            await self.apply(doc_id, committed)
        if algorithm.drop_resolved(doc_id, batch, committed):
            self._load_again(doc_id)
        return False

    # ---- receive ---------------------------------------------------------------------------------

    async def apply(self, doc_id: str, changes: Sequence[Change]) -> None:
        """Apply server changes, as they come."""
        if doc_id in self.tracked:
            await self.algorithm(doc_id).apply_server_changes(
                doc_id, changes, self.docs.get(doc_id)
            )

    def is_recoverable(self, error: Exception) -> bool:
        """Whether a broadcast's failure runs a sync instead of being reported."""
        return isinstance(error, MissingChangesError | ApplyChangesError)

    def deleted_by_others(self, doc_id: str) -> None:
        """A document was deleted elsewhere: everything here goes, the application gets the rest."""
        pending = self.algorithm(doc_id).pending_ops(doc_id) if doc_id in self.tracked else []
        self.forget(doc_id)
        self.deleted.append((doc_id, pending))

    def _load_again(self, doc_id: str) -> None:
        if doc_id in self.docs:
            self.docs[doc_id].load(self.algorithm(doc_id).load(doc_id))

    async def _reload(self, doc_id: str, *, flush_pending_first: bool = False) -> None:
        algorithm = self.algorithm(doc_id)
        self.parked.setdefault(doc_id, [])
        try:
            local_rev = algorithm.committed_rev(doc_id)
            snapshot = Snapshot.from_wire(await self.rpc.call("getDoc", doc_id))
            await self.turns.before_applying()
            if doc_id not in self.tracked:
                return
            pending = await algorithm.get_pending_to_send(doc_id)
            if flush_pending_first and pending and snapshot.rev > 0:
                await self._flush(doc_id, pending)
            else:
                if snapshot.head > local_rev and algorithm.has_pending(doc_id):
                    await self._reconcile(doc_id, local_rev, snapshot.head)
                algorithm.save(doc_id, snapshot)
                self._load_again(doc_id)
            await self._drain(doc_id)
        finally:
            self.parked.pop(doc_id, None)

    async def _reconcile(self, doc_id: str, local_rev: int, head: int) -> None:
        tail: Any = await self.rpc.call("getChangesSince", doc_id, local_rev)
        changes = [Change.from_wire(change) for change in tail]
        self.algorithm(doc_id).reconcile(doc_id, [c for c in changes if c.rev <= head])

    async def _drain(self, doc_id: str) -> None:
        while (waiting := self.parked[doc_id]) and doc_id in self.tracked:
            self.parked[doc_id] = []
            rev = self.algorithm(doc_id).committed_rev(doc_id)
            newer = [change for change in waiting if change.rev > rev]
            try:
                await self.apply(doc_id, newer)
            except MissingChangesError:
                tail = await self.rpc.call("getChangesSince", doc_id, rev)
                await self.apply(doc_id, [Change.from_wire(change) for change in tail])

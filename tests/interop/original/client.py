"""`OriginalClient`: `Patches` and `PatchesSync` of @dabble/patches 0.28.1 as one model.

Written from `docs/internals/sync.md`, its defects (section 12) included: `send` on a closed socket
raises an ordinary error, a recovery by reload does not flush, nothing follows up an LWW change that
was sent again, and broadcasts are applied as they arrive, also between an answer's arrival and its
application. Times are scaled: `second` is how long one of the original's lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from patches.aio.tasks import TaskScope
from patches.errors import NetworkError, PatchesError
from patches.model.change import Change
from patches.model.ids import change_ids
from patches.model.json_values import Json, Op
from patches.runtime import Runtime
from tests.interop.original.algorithm import OriginalAlgorithm, OriginalDoc
from tests.interop.original.gate import SerialGate
from tests.interop.original.lww import OriginalLWW
from tests.interop.original.ot import OriginalOT
from tests.interop.original.rpc import OriginalRpc
from tests.interop.original.socket import OriginalSocket, State
from tests.interop.original.syncing import Syncing
from tests.interop.original.turns import Turns


class OriginalClient(Syncing):
    """One client: a transport, two algorithms with memory stores, the documents that are open."""

    def __init__(
        self,
        url: str,
        *,
        seed: int = 0,
        turns: Turns | None = None,
        second: float = 0.02,
        max_payload_bytes: int = 1_000_000,
        runtime: Runtime | None = None,
    ) -> None:
        self.runtime = runtime or Runtime()
        self.turns = turns or Turns(seed)
        self.turns.on_hold = lambda: self.on_progress()
        self.second = second
        self.max_payload_bytes = max_payload_bytes
        self.new_id = change_ids(self.turns.random)
        self.algorithms: dict[str, OriginalAlgorithm] = {
            "ot": OriginalOT(self.turns, self.runtime),
            "lww": OriginalLWW(self.turns, self.runtime),
        }
        self.tracked: dict[str, str] = {}
        self.tombstones: dict[str, str] = {}
        self.docs: dict[str, OriginalDoc] = {}
        self.parked: dict[str, list[Change]] = {}
        self.attempts: dict[str, int] = {}
        #: `(error, document)` as the application is told.
        self.errors: list[tuple[Exception, str | None]] = []
        #: `(document, ops that were pending)` of documents that others deleted.
        self.deleted: list[tuple[str, list[list[Op]]]] = []
        #: Notifications that have arrived, and what they said.
        self.told: list[tuple[str, Any]] = []
        #: Called whenever something may have moved on here.
        self.on_progress: Callable[[], object] = lambda: None
        self._mints: dict[str, list[list[Op]]] = {}
        self._full_syncs = 0
        self.scope = TaskScope("original client", on_error=self._failed)
        self.gate = SerialGate(self.scope, self.sync_once, lambda: self.on_progress())
        self.rpc = OriginalRpc(self._send, self._notified)
        self.socket = OriginalSocket(
            url, on_frame=self._received, on_state=self._moved, second=second
        )

    async def __aenter__(self) -> OriginalClient:
        self.scope.start()
        self.socket.start()
        self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.scope.close()
        await self.socket.close()
        self.rpc.reject_all(NetworkError("closed"))

    # ---- what an application does ----------------------------------------------------------------

    def connect(self) -> None:
        """Go online."""
        self.socket.connect()

    def disconnect(self) -> None:
        """Go offline."""
        self.socket.disconnect()

    def drop(self) -> None:
        """Lose the socket; the transport comes back by itself."""
        self.socket.drop()

    def open(self, doc_id: str, algorithm: str = "ot") -> None:
        """Track a document and open it."""
        if doc_id not in self.tracked:
            self.tracked[doc_id] = algorithm
            self.algorithms[algorithm].track(doc_id)
            if self.can_send:
                self.scope.spawn(self._subscribe([doc_id]))
                self.gate.call(doc_id)
        if doc_id not in self.docs:
            self.docs[doc_id] = self.algorithms[algorithm].open_doc(doc_id)

    def change(self, doc_id: str, *ops: Op) -> None:
        """Edit an open document: shown at once, stored and sent by and by. Raises `PatchError`."""
        edit = [dict(op) for op in ops]
        self.docs[doc_id].change(edit)
        queue = self._mints.setdefault(doc_id, [])
        queue.append(edit)
        if len(queue) == 1:
            self.scope.spawn(self._mint(doc_id), name="mint")

    def delete(self, doc_id: str) -> None:
        """Delete a document, here and on the server when it is in reach."""
        algorithm = self.tracked[doc_id]
        self.forget(doc_id)
        self.algorithms[algorithm].mark_deleted(doc_id)
        self.tombstones[doc_id] = algorithm
        if self.can_send:
            self.scope.spawn(self._delete_on_server(doc_id))

    def state(self, doc_id: str) -> Json:
        """What the open document shows."""
        return self.docs[doc_id].state

    def committed_state(self, doc_id: str) -> Json:
        """What the store holds as the server's."""
        return self.algorithms[self.tracked[doc_id]].committed_state(doc_id)

    def has_pending(self, doc_id: str) -> bool:
        """Whether anything is not confirmed."""
        return self.algorithm(doc_id).has_pending(doc_id) or bool(self.docs[doc_id].optimistic)

    @property
    def is_quiet(self) -> bool:
        """Nothing runs here, and nothing is on its way to the store."""
        busy = self.gate.busy or self._full_syncs or self.parked or self.attempts
        return not busy and not any(self._mints.values())

    @property
    def can_send(self) -> bool:
        """Whether the transport says that it is connected."""
        return self.socket.state == "connected"

    # ---- inside ----------------------------------------------------------------------------------

    async def _mint(self, doc_id: str) -> None:
        queue = self._mints[doc_id]
        while queue and doc_id in self.tracked:
            algorithm = self.algorithm(doc_id)
            stored = await algorithm.handle_doc_change(doc_id, queue[0], self.docs.get(doc_id))
            del queue[0]
            if stored and self.can_send:
                self.gate.call(doc_id)
        queue.clear()
        self.on_progress()

    def algorithm(self, doc_id: str) -> OriginalAlgorithm:
        """The algorithm of a tracked document."""
        return self.algorithms[self.tracked[doc_id]]

    def forget(self, doc_id: str) -> None:
        """Close and untrack."""
        self.docs.pop(doc_id, None)
        algorithm = self.tracked.pop(doc_id, None)
        if algorithm is not None:
            self.algorithms[algorithm].untrack(doc_id)
            if self.can_send:
                self.scope.spawn(self._call_quietly("unsubscribe", [doc_id]))

    def report(self, error: Exception, doc_id: str | None = None) -> None:
        """Tell the application."""
        self.errors.append((error, doc_id))

    def _failed(self, error: Exception) -> None:
        self.report(error)

    def _send(self, text: str) -> None:
        self.socket.send(text)

    def _received(self, text: str) -> None:
        self.rpc.receive(text)

    def _moved(self, state: State) -> None:
        if state in ("disconnected", "error"):
            self.rpc.reject_all(NetworkError("Transport disconnected"))
        elif state == "connected":
            self.attempts.clear()
            self._full_syncs += 1
            self.scope.spawn(self._full_sync(), name="full sync")
        self.on_progress()

    async def _full_sync(self) -> None:
        try:
            await self.turns.take()
            doc_ids = list(self.tracked)
            await self._subscribe(doc_ids)
            for doc_id in doc_ids:
                if doc_id in self.tracked:
                    self.gate.call(doc_id)
            for doc_id in list(self.tombstones):
                await self._delete_on_server(doc_id)
        finally:
            self._full_syncs -= 1
            self.on_progress()

    async def _subscribe(self, doc_ids: Sequence[str]) -> None:
        if doc_ids:
            await self._call_quietly("subscribe", list(doc_ids))

    async def _delete_on_server(self, doc_id: str) -> None:
        try:
            await self.rpc.call("deleteDoc", doc_id)
        except Exception as exc:
            self.report(exc, doc_id)
        else:
            self.tombstones.pop(doc_id, None)

    async def _call_quietly(self, method: str, *params: Any) -> None:
        try:
            await self.rpc.call(method, *params)
        except Exception as exc:
            self.report(exc)

    def _notified(self, method: str, params: Any) -> None:
        self.told.append((method, params))
        self.on_progress()
        if method == "changesCommitted":
            changes = [Change.from_wire(change) for change in params["changes"]]
            self.scope.spawn(self._broadcast(params["docId"], changes), name="broadcast")
        elif method == "docDeleted":
            self.deleted_by_others(params["docId"])
            self.on_progress()

    async def _broadcast(self, doc_id: str, changes: list[Change]) -> None:
        if doc_id in self.parked:
            self.parked[doc_id] += changes
            return
        try:
            await self.apply(doc_id, changes)
        except PatchesError as exc:
            if not self.is_recoverable(exc):
                self.report(exc, doc_id)
            elif doc_id in self.tracked:
                self.gate.call(doc_id)
        self.on_progress()

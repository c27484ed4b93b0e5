"""`PatchesSync`: keeps all tracked documents of a `Patches` in sync with a server.

It owns the connection, one `DocWorker` per tracked document, and what it shows. It decides nothing
about a document: it tells the workers what happens (`folds.py`) and shows what they have become.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from patches.algorithms.base import Algorithm
from patches.change import Change, QuarantinedChange, Snapshot
from patches.client import Patches
from patches.document import Document
from patches.errors import PatchesError, StatusError
from patches.ids import change_ids
from patches.json_values import Json, Op
from patches.net.connection import PatchesConnection, WebSocketConnection
from patches.net.transport import TransportState
from patches.net.websocket import WebSocketOptions
from patches.options import DEFAULT_MAX_PAYLOAD_BYTES, DocOptions, SizeCalculator
from patches.signals import Signal
from patches.sync import folds
from patches.sync.branch_store import BranchStore
from patches.sync.branches import send_pending
from patches.sync.plan import Committed, DocSync, Notice
from patches.sync.presence import PresenceHub, Room
from patches.sync.published import Published
from patches.sync.state import ErrorContext, SyncedDoc, Syncing, SyncState
from patches.sync.subscriptions import SubscribeFilter, Subscriptions
from patches.sync.worker import DocWorker
from patches.tasks import TaskScope

_log = logging.getLogger("patches.sync")

#: How long the handlers of a remote deletion are waited for.
DELETION_HANDLERS_S: Final = 10.0


class PatchesSync:
    """Keeps a client's documents in sync with the server at a url, or behind a connection of yours.

    `async with` connects (and raises if the first attempt fails) and disconnects. The options are
    described in `docs/sync.md`.
    """

    def __init__(
        self,
        patches: Patches,
        url_or_connection: str | PatchesConnection,
        *,
        subscribe_filter: SubscribeFilter | None = None,
        websocket: WebSocketOptions | None = None,
        max_payload_bytes: int | None = None,
        max_storage_bytes: int | None = None,
        max_unsplittable_bytes: int | None = None,
        size_calculator: SizeCalculator | None = None,
        branch_store: BranchStore | None = None,
    ) -> None:
        self.branch_store: Final = branch_store
        self.patches: Final = patches
        self.connection: PatchesConnection = (
            WebSocketConnection(url_or_connection, websocket=websocket, runtime=patches.runtime)
            if isinstance(url_or_connection, str)
            else url_or_connection
        )
        self._options = (
            DocOptions(
                max_payload_bytes=max_payload_bytes,
                max_storage_bytes=max_storage_bytes,
                max_unsplittable_bytes=max_unsplittable_bytes,
                size_calculator=size_calculator,
            )
            .over(patches.doc_options)
            .over(DocOptions(max_payload_bytes=DEFAULT_MAX_PAYLOAD_BYTES))
        )
        self._scope = TaskScope("patches sync", on_error=self._task_failed)
        self._subscriptions = Subscriptions(subscribe_filter)
        self._presence = PresenceHub(self.connection)
        self._workers: dict[str, DocWorker] = {}
        self._restless: set[str] = set()
        self._unsettled: set[str] = set()
        self._deleting: set[str] = set()
        self._links = 0  # connections so far
        self._link = 0  # the one that is up, 0: none
        self._synced_link = 0  # the last one whose full sync has ended
        self._has_synced = False  # since `connect`
        self._full_sync: asyncio.Task[object] | None = None
        self._sending_branches = asyncio.Lock()  # the connection's, no document's
        self._changed = asyncio.Event()
        self._state = SyncState()
        #: The new `state`.
        self.on_state_change: Signal[[SyncState]] = Signal("on_state_change", spawn=self._spawn)
        #: The new `synced`.
        self.on_synced_change: Signal[[Mapping[str, SyncedDoc]]] = Signal(
            "on_synced_change", spawn=self._spawn
        )
        #: `(error, context)`: what went wrong, and about which document (`context.doc_id`).
        self.on_error: Signal[[Exception, ErrorContext]] = Signal("on_error", spawn=self._spawn)
        #: `(doc_id, pending)`: deleted on the server; the local work that went with it.
        self.on_remote_doc_deleted: Signal[[str, Sequence[Change]]] = Signal(
            "on_remote_doc_deleted", spawn=self._spawn
        )
        #: Branch records made or changed here were told to the server.
        self.on_branches_synced: Signal[[]] = Signal("on_branches_synced", spawn=self._spawn)
        self._published = Published(self.on_synced_change)
        self._listen()

    # ---- what it shows ---------------------------------------------------------------------------

    @property
    def url(self) -> str | None:
        """The server's address; another one is another `PatchesSync`."""
        return self.connection.url

    @property
    def state(self) -> SyncState:
        """`online`, `connected`, `syncing`."""
        return self._state

    @property
    def synced(self) -> Mapping[str, SyncedDoc]:
        """The tracked documents, by id. A value that never changes; each change makes a new one."""
        return self._published.map

    # ---- life ------------------------------------------------------------------------------------

    async def connect(self, *, background: bool = False) -> None:
        """Connect, and stay connected until `disconnect`.

        Returns when connected; the documents sync on. Raises `NetworkError` when the first attempt
        fails, and goes on trying. With `background` it returns at once and never raises.
        """
        if not self._scope.running:
            await self.patches.track_docs(())  # which documents are tracked is known from here on
        if not self._scope.running:
            self._has_synced = False
            self._scope.start()
            for worker in self._workers.values():
                self._scope.spawn(worker.run())
            self._scope.spawn(self._read_docs())
        try:
            await self.connection.connect(background=background)
        except PatchesError as exc:
            self._show(replace(self._state, syncing=exc))
            self._report(exc, None)
            raise
        if self.connection.state == "connected" and not self._link:
            self._connected()  # it was connected before we listened

    async def disconnect(self) -> None:
        """End all work and the connection. Unsent work stays in the store."""
        await self.connection.disconnect()
        self._disconnected()
        await self._scope.close()

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.disconnect()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.disconnect()

    def set_online(self, online: bool) -> None:
        """Say whether the host has a network. Offline, nothing is tried."""
        self._show(replace(self._state, online=online))
        if not online:
            self._disconnected()
        self.connection.set_online(online)
        if online and not self._link and self.connection.state == "connected":
            self._connected()

    async def settled(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # public name
        """Wait until every edit of every tracked document is confirmed by the server.

        Waits while offline or retrying. Raises the failure of a document whose work does not leave
        by itself, and `TimeoutError` after `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            while True:
                await self._save_edits()
                if self._link:
                    self._raise_what_blocks()
                    if self._is_settled():
                        return
                self._changed.clear()
                await self._changed.wait()

    async def send_branch_records(self) -> None:
        """Tell the server of branches that were made, changed or deleted here.

        The full sync does it too. Failures are reported; what failed waits for the next time.
        """
        link = self._link
        if self.branch_store is None or not link:
            return
        async with self._sending_branches:
            told, failures = await send_pending(self.branch_store, self.connection)
        if link == self._link:
            for failure in failures:
                self._report(failure, None)
        if told:
            self.on_branches_synced.emit()

    def apply_merge_changes(self, doc_id: str, changes: Sequence[Change]) -> None:
        """Fold the changes that a merge has committed into the document here.

        What is known already is left out; what does not follow on is fetched.
        """
        if changes:
            self._changes_committed(doc_id, changes)

    def presence(self, doc_id: str, state: Mapping[str, Json], *, text: str | None = None) -> Room:
        """Be seen at a document, and see who else is: `async with sync.presence(...) as room`.

        `state` is what the others see, such as a name. `text` is the path of the text that the
        `"cursor"` of each state points into, if it does.
        """
        return Room(
            self._presence,
            doc_id,
            state,
            text=text,
            open_doc=lambda: self.patches.get_open_doc(doc_id),
            spawn=self._spawn,
        )

    # ---- the connection --------------------------------------------------------------------------

    def _listen(self) -> None:
        self.connection.on_state_change(self._connection_changed)
        self.connection.on_changes_committed(self._changes_committed)
        self.connection.on_doc_deleted(self._doc_deleted)
        self.connection.on_notification(self._notified)
        self.connection.on_error(lambda error: self._report(error, None))
        self.patches.on_change(self._edited)
        self.patches.on_open_doc(self._opened)
        self.patches.on_track_docs(self._tracked)
        self.patches.on_untrack_docs(self._untracked)
        self.patches.on_delete_doc(self._deleted_locally)
        for algorithm in self.patches.algorithms.values():
            algorithm.on_error(lambda error, context: self._report(error, context.get("doc_id")))
        for doc_id in self.patches.tracked_docs:
            self._workers[doc_id] = DocWorker(doc_id, self)
            self._restless.add(doc_id)

    def _connection_changed(self, state: TransportState) -> None:
        if state == "connected":
            if self._state.online and self._scope.running:
                self._connected()
        elif self._link or state != "connecting":
            self._disconnected()

    def _connected(self) -> None:
        self._links += 1
        self._link = self._links
        self._subscriptions.reset()
        self._show(replace(self._state, connected=True))
        self._scope.spawn(self._sync_all(self._link))

    def _disconnected(self) -> None:
        self._link = 0
        self._subscriptions.reset()
        self._presence.lost()
        if self._full_sync is not None:
            self._full_sync.cancel()
        with self._published.one_change():
            for worker in list(self._workers.values()):
                worker.tell(folds.disconnected(worker.doc))
        self._show(replace(self._state, connected=False, syncing=None))

    # ---- full sync -------------------------------------------------------------------------------

    async def _sync_all(self, link: int) -> None:
        """Sync every tracked document over a new connection (`spec/sync.md` 4)."""
        if link != self._link:
            return
        self._full_sync = asyncio.current_task()
        try:
            self._show_syncing("updating" if self._has_synced else "initial")
            await self._sync_documents(link)
        except Exception as exc:  # boundary: a store that fails, a filter that raises
            if link == self._link:
                self._show_syncing(exc)
                self._report(exc, None)
        else:
            self._has_synced = True
            self._show_syncing(None)
        finally:
            if self._full_sync is asyncio.current_task():
                self._full_sync = None
            self._synced_link = link
            self._changed.set()

    async def _sync_documents(self, link: int) -> None:
        await self.send_branch_records()
        tombstones = await self._read_docs()
        doc_ids = list(self._workers)
        await self._cover(link)
        self._unsettled = {doc_id for doc_id in doc_ids if doc_id in self._workers}
        with self._published.one_change():
            for doc_id in list(self._unsettled):
                self._look(self._workers[doc_id], link)
        for doc_id, algorithm in tombstones.items():
            if doc_id not in self._deleting:
                self._deleting.add(doc_id)
                self._scope.spawn(self._delete_on_server(doc_id, algorithm))
        while self._unsettled or self._deleting:
            self._changed.clear()
            await self._changed.wait()

    async def _read_docs(self) -> dict[str, Algorithm]:
        """Learn what the stores hold. Returns the documents whose deletion is unconfirmed."""
        tombstones: dict[str, Algorithm] = {}
        found: list[str] = []
        for algorithm in self.patches.algorithms.values():
            for record in await algorithm.list_docs(include_deleted=True):
                if record.deleted:
                    tombstones[record.doc_id] = algorithm
                else:
                    found.append(record.doc_id)
        # What is tracked is asked only now: it may have changed while the lists were read.
        tracked = self.patches.tracked_docs
        for doc_id in (*found, *tracked):
            if doc_id in tracked:
                self._worker(doc_id)
        await self._learn(list(self._workers))
        return {doc_id: owner for doc_id, owner in tombstones.items() if doc_id not in tracked}

    async def _learn(self, doc_ids: Sequence[str]) -> None:
        for doc_id in doc_ids:
            worker = self._workers.get(doc_id)
            if worker is not None:
                try:
                    await worker.learn()
                except Exception as exc:  # boundary: one document's store
                    self._report(exc, doc_id)

    async def _cover(self, link: int) -> None:
        """Subscribe to what is tracked. A failure is reported; the documents sync all the same."""
        try:
            await self._subscriptions.cover(lambda: self._workers, self.connection.subscribe)
        except PatchesError as exc:
            if link == self._link:
                self._report(exc, None)
        else:
            self._presence.subscribed()

    def _look(self, worker: DocWorker, link: int) -> None:
        """Let a document use the connection, which is subscribed to it by now."""
        if link == self._link and worker.doc.link != link:
            worker.tell(folds.connected(worker.doc, link))

    # ---- what happens to documents here ----------------------------------------------------------

    def _worker(self, doc_id: str) -> DocWorker:
        worker = self._workers.get(doc_id)
        if worker is None:
            worker = self._workers[doc_id] = DocWorker(doc_id, self)
            self._restless.add(doc_id)
            if self._scope.running:
                self._scope.spawn(worker.run(), name=f"sync of {doc_id}")
        return worker

    def _edited(self, doc_id: str) -> None:
        worker = self._workers.get(doc_id)
        if worker is not None:
            worker.tell(folds.edited(worker.doc))
        self._changed.set()

    def _tracked(self, doc_ids: Sequence[str], _algorithm: str | None = None) -> Awaitable[None]:
        return self._begin([self._worker(doc_id) for doc_id in doc_ids])

    async def _begin(self, workers: Sequence[DocWorker]) -> None:
        await self._learn([worker.doc.doc_id for worker in workers])
        link = self._link
        if link:
            await self._cover(link)
            for worker in workers:
                self._look(worker, link)

    def _opened(self, doc: Document) -> Awaitable[None] | None:
        """A document is in memory: it shows its status, and what came while it was being loaded."""
        worker = self._workers.get(doc.id)
        if worker is None:
            return None
        doc.update_sync_status(worker.doc.status, worker.doc.error)
        return worker.refresh() if worker.doc.committed_rev > doc.committed_rev else None

    def _untracked(self, doc_ids: Sequence[str]) -> Awaitable[None] | None:
        for doc_id in doc_ids:
            worker = self._workers.pop(doc_id, None)
            if worker is not None:
                worker.stop()
            self._restless.discard(doc_id)
            self._unsettled.discard(doc_id)
        self._published.remove(doc_ids)
        self._changed.set()
        return self._trim() if self._link else None

    async def _trim(self) -> None:
        try:
            await self._subscriptions.trim(lambda: self._workers, self.connection.unsubscribe)
        except PatchesError as exc:
            if self._link:
                self._report(exc, None)

    async def _deleted_locally(self, doc_id: str) -> None:
        if not self._link or doc_id in self._deleting:
            return
        self._deleting.add(doc_id)
        try:
            for algorithm in self.patches.algorithms.values():
                docs = await algorithm.list_docs(include_deleted=True)
                if any(doc.deleted and doc.doc_id == doc_id for doc in docs):
                    await self._delete_on_server(doc_id, algorithm)
                    return
        finally:
            self._deleting.discard(doc_id)

    async def _delete_on_server(self, doc_id: str, algorithm: Algorithm) -> None:
        """Carry a local deletion out on the server. One that fails waits for the next full sync.

        The id is in `_deleting` already, so that it is done once.
        """
        try:
            try:
                await self.connection.delete_doc(doc_id)
            except StatusError as exc:
                if exc.code != 410:  # deleted by somebody else already
                    raise
            await algorithm.confirm_delete_doc(doc_id)
        except PatchesError as exc:
            self._report(exc, doc_id)
        finally:
            self._deleting.discard(doc_id)
            self._changed.set()

    # ---- what comes from the server --------------------------------------------------------------

    def _changes_committed(self, doc_id: str, changes: Sequence[Change]) -> None:
        worker = self._workers.get(doc_id)
        if worker is None:
            return  # not tracked, or not any more
        doc = worker.doc
        worker.tell(folds.framed(doc, Committed(changes)) if changes else folds.asked(doc))

    def _doc_deleted(self, doc_id: str) -> None:
        worker = self._workers.get(doc_id)
        if worker is not None:
            worker.tell(folds.deleted(worker.doc))

    def _notified(self, method: str, params: Any) -> None:
        if self._presence.notified(method, params):
            return
        doc_id = params.get("docId") if isinstance(params, Mapping) else None
        worker = self._workers.get(doc_id) if isinstance(doc_id, str) else None
        if worker is not None:
            worker.tell(folds.framed(worker.doc, Notice(method, params)))

    async def _let_go(self, doc_id: str) -> None:
        """A document was deleted on the server: forget it here, and hand its work to the app."""
        pending = await self._forget(doc_id)
        told = asyncio.Event()
        self._scope.spawn(self._tell_deletion(doc_id, pending, told))
        try:
            async with asyncio.timeout(DELETION_HANDLERS_S):
                await told.wait()
        except TimeoutError:
            _log.warning("a handler of the deletion of %r has not come to an end", doc_id)

    async def _forget(self, doc_id: str) -> list[Change]:
        """Drop a document's local data; the work that was not confirmed."""
        algorithm = self.patches.algorithm_of(doc_id)
        doc = self.patches.get_open_doc(doc_id)
        unsaved: list[Change] = []
        if doc is not None and doc.unsaved:
            try:
                await doc.flush()
            except Exception:  # whatever it is, it was told: the edits go as they are
                unsaved = [self._as_change(doc, ops) for ops in doc.unsaved if ops]
        snapshot = await algorithm.load_doc(doc_id)
        await self.patches.close_doc(doc_id, force=True)
        await self.patches.untrack_docs([doc_id])
        return [*(snapshot.changes if snapshot is not None else ()), *unsaved]

    def _as_change(self, doc: Document, ops: list[Op]) -> Change:
        runtime = self.patches.runtime
        rev = doc.committed_rev + 1
        return Change(
            id=change_ids(runtime.random)(rev),
            ops=list(ops),
            base_rev=doc.committed_rev,
            rev=rev,
            created_at=runtime.wall_ms(),
        )

    def show_snapshot(self, doc_id: str, snapshot: Snapshot) -> None:
        self.patches.apply_snapshot(doc_id, snapshot)

    async def _tell_deletion(
        self, doc_id: str, pending: Sequence[Change], told: asyncio.Event
    ) -> None:
        try:
            await self.on_remote_doc_deleted.emit_and_wait(doc_id, pending)
        finally:
            told.set()

    # ---- for the workers -------------------------------------------------------------------------

    def algorithm_of(self, doc_id: str) -> Algorithm:
        return self.patches.algorithm_of(doc_id)

    def open_doc(self, doc_id: str) -> Document | None:
        return self.patches.get_open_doc(doc_id)

    def options_of(self, doc: DocSync) -> DocOptions:
        options = self._options
        if doc.storage_budget is not None:
            options = replace(options, max_storage_bytes=doc.storage_budget)
        if doc.payload_budget is not None:
            options = replace(options, max_payload_bytes=doc.payload_budget)
        return options

    def chance(self) -> float:
        return self.patches.runtime.random.random()

    def doc_changed(self, worker: DocWorker, before: DocSync) -> None:
        doc = worker.doc
        if self._workers.get(doc.doc_id) is not worker:
            return  # a late write does not bring an entry back
        if doc.restless:
            self._restless.add(doc.doc_id)
        else:
            self._restless.discard(doc.doc_id)
        if doc.settled_link == self._link:
            self._unsettled.discard(doc.doc_id)
        self._changed.set()
        self._publish(doc)

    def report(self, error: Exception, doc_id: str) -> None:
        self._report(error, doc_id)

    def server_committed(self, doc_id: str, changes: Sequence[Change]) -> None:
        self.patches.on_server_commit.emit(doc_id, changes)

    def quarantined(self, doc_id: str, entry: QuarantinedChange) -> None:
        self.patches.on_change_quarantined.emit(doc_id, entry)

    def deleted_remotely(self, doc_id: str) -> None:
        self._scope.spawn(self._let_go(doc_id))

    # ---- inside ----------------------------------------------------------------------------------

    def _publish(self, doc: DocSync) -> None:
        if not doc.known and not doc.committed_rev and not doc.has_pending:
            return
        status, error = doc.status, doc.error
        entry = SyncedDoc(doc.committed_rev, doc.has_pending, status, error)
        if self._published.put(doc.doc_id, entry):
            open_doc = self.patches.get_open_doc(doc.doc_id)
            if open_doc is not None:
                open_doc.update_sync_status(status, error)

    def _show_syncing(self, syncing: Syncing) -> None:
        self._show(replace(self._state, syncing=syncing))

    def _show(self, state: SyncState) -> None:
        if state != self._state:
            self._state = state
            self._changed.set()
            self.on_state_change.emit(state)

    def _report(self, error: Exception, doc_id: str | None) -> None:
        if self.on_error:
            self.on_error.emit(error, ErrorContext(doc_id=doc_id))
        else:
            _log.warning("sync: %s", error, extra={"doc_id": doc_id})

    def _task_failed(self, error: Exception) -> None:
        _log.error("a task of the sync failed", exc_info=error)
        self._report(error, None)

    def _spawn(self, coroutine: Any) -> None:
        self._scope.spawn(coroutine)

    async def _save_edits(self) -> None:
        for doc_id in list(self._workers):
            doc = self.patches.get_open_doc(doc_id)
            if doc is not None and doc.unsaved:
                await doc.flush()

    def _is_settled(self) -> bool:
        return self._state.connected and self._state.syncing is None and not self._restless

    def _raise_what_blocks(self) -> None:
        if isinstance(self._state.syncing, Exception):
            raise self._state.syncing
        for doc_id in self._restless:
            doc = self._workers[doc_id].doc
            if doc.busy:
                continue
            if doc.trouble is not None and doc.trouble.terminal and doc.trouble.error is not None:
                raise doc.trouble.error
            if doc.known and doc.has_pending and not doc.sendable and doc.trouble is None:
                raise PatchesError(f"document {doc_id!r} has work that cannot be sent")

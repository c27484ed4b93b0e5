"""`PatchesSync`: keeps all tracked documents of a `Patches` in sync with a server.

It owns the connection and, in `Documents`, one worker per tracked document. It decides nothing
about a document: it tells the workers what happens, and shows what they have become.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

from patches.aio.signals import Unsubscribe
from patches.aio.tasks import TaskScope
from patches.client.patches import Patches
from patches.errors import InvalidRequestError, PatchesError
from patches.model.change import Change
from patches.model.json_values import Json
from patches.net.backoff import reconnect_wait
from patches.net.connection import PatchesConnection, WebSocketConnection
from patches.net.transport import TransportState
from patches.net.websocket import WebSocketOptions
from patches.options import DEFAULT_MAX_PAYLOAD_BYTES, DocOptions, SizeCalculator
from patches.sync.deletions import Deletions
from patches.sync.document.plan import Committed, Notice
from patches.sync.documents import Documents
from patches.sync.full_sync import FullSync
from patches.sync.history.branch_store import BranchStore
from patches.sync.history.branches import send_pending
from patches.sync.presence.presence import PresenceHub, Room
from patches.sync.published import Published
from patches.sync.signals import SyncSignals
from patches.sync.state import ErrorContext, SyncedDoc, Syncing, SyncState
from patches.sync.subscriptions import SubscribeFilter, Subscriptions

_log = logging.getLogger("patches.sync")


class PatchesSync(SyncSignals):
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
        if not isinstance(url_or_connection, str) and not hasattr(url_or_connection, "call"):
            raise InvalidRequestError(
                f"a url or a PatchesConnection is needed, not {url_or_connection!r}"
            )
        self.branch_store: Final = branch_store
        self.patches: Final = patches
        self.connection: PatchesConnection = (
            WebSocketConnection(url_or_connection, websocket=websocket, runtime=patches.runtime)
            if isinstance(url_or_connection, str)
            else url_or_connection
        )
        self._scope = TaskScope("patches sync", on_error=self._task_failed)
        self._subscriptions = Subscriptions(
            subscribe_filter, max_ids=patches.limits.max_ids_per_call
        )
        self._presence = PresenceHub(self.connection)
        self._disconnects = 0  # so far
        self._links = 0  # connections so far
        self._link = 0  # the one that is up, 0: none
        self._listening: list[Unsubscribe] = []  # empty: not
        self._superseded = False  # another one has connected since
        self._sending_branches = asyncio.Lock()  # the connection's, no document's
        self._changed = asyncio.Event()
        self._state = SyncState()
        super().__init__(self._spawn)
        options = (
            DocOptions(
                max_payload_bytes=max_payload_bytes,
                max_storage_bytes=max_storage_bytes,
                max_unsplittable_bytes=max_unsplittable_bytes,
                size_calculator=size_calculator,
            )
            .over(patches.doc_options)
            .over(DocOptions(max_payload_bytes=DEFAULT_MAX_PAYLOAD_BYTES))
            .up_to(patches.limits.largest_change_bytes)
        )
        self._published = Published(self.on_synced_change)
        self._docs = Documents(
            patches,
            self.connection,
            options,
            scope=self._scope,
            published=self._published,
            report=self._report,
            changed=self._changed.set,
            deleted=lambda doc_id: self._scope.spawn(self._deleted_remotely(doc_id)),
        )
        self._deletions = Deletions(
            patches,
            self.connection,
            scope=self._scope,
            on_remote=self.on_remote_doc_deleted,
            report=self._report,
            changed=self._changed.set,
        )
        self._full_sync = FullSync(
            patches,
            self._docs,
            self._deletions,
            scope=self._scope,
            send_branch_records=self.send_branch_records,
            cover=self._cover,
            show=self._show_syncing,
            report=self._report,
            changed=self._changed,
        )
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
            if not self._listening:
                self._listen()
            self._scope.start()
            self.patches.on_taken_over.emit(self)
            self._deletions.start()
            self._docs.start()
            self._full_sync.start()
        disconnects = self._disconnects
        try:
            await self.connection.connect(background=background)
        except PatchesError as exc:
            if disconnects == self._disconnects:  # else it was called off, which is no failure
                self._show(replace(self._state, syncing=exc))
                self._report(exc, None)
            raise
        if self.connection.state == "connected" and not self._link:
            self._connected()  # it was connected before we listened

    async def disconnect(self) -> None:
        """End all work and the connection. Unsent work stays in the store."""
        self._disconnects += 1
        await self.connection.disconnect()
        self._disconnected()
        await self._deletions.finish()
        await self._scope.close()
        if self._superseded:
            self._let_go()

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
        if online:
            self._show(replace(self._state, online=True))
        else:
            self._disconnected(online=False)
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
                await self._docs.save_edits()
                if self._link:
                    if isinstance(self._state.syncing, Exception):
                        raise self._state.syncing
                    self._docs.raise_what_blocks()
                    if self._full_sync.has_ended and self._docs.at_rest:
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
        self._listening = [
            self.connection.on_state_change(self._connection_changed),
            self.connection.on_changes_committed(self._changes_committed),
            self.connection.on_doc_deleted(self._docs.deleted),
            self.connection.on_notification(self._notified),
            self.connection.on_error(lambda error: self._report(error, None)),
            self.patches.on_change(self._edited),
            self.patches.on_open_doc(self._docs.opened),
            self.patches.on_track_docs(self._tracked),
            self.patches.on_untrack_docs(self._untracked),
            self.patches.on_delete_doc(self._deleted_locally),
            self.patches.on_taken_over(self._taken_over),
            *(
                algorithm.on_error(self._algorithm_failed)
                for algorithm in self.patches.algorithms.values()
            ),
        ]
        for algorithm in self.patches.algorithms.values():
            algorithm.attach(self._docs)
        for doc_id in sorted(self.patches.tracked_docs):  # a set has another order in each process
            self._docs.add(doc_id)

    def _taken_over(self, by: object) -> None:
        self._superseded = by is not self
        if self._superseded and not self._scope.running:
            self._let_go()

    def _let_go(self) -> None:
        """Another one keeps the documents in sync, and nothing is heard of it: what is known here
        would grow stale, and be shown in documents that are the other's.
        """
        for unsubscribe in self._listening:
            unsubscribe()
        self._listening = []
        self._docs.forget()

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
        self._full_sync.connected(self._link)

    def _disconnected(self, *, online: bool | None = None) -> None:
        self._link = 0
        self._subscriptions.reset()
        self._presence.lost()
        self._full_sync.disconnected()
        self._docs.disconnected()
        online = self._state.online if online is None else online
        self._show(SyncState(online=online, connected=False, syncing=None))

    # ---- what a full sync needs ------------------------------------------------------------------

    async def _cover(self, link: int) -> None:
        """Subscribe to what is tracked. A failure is reported; the documents sync all the same."""
        try:
            await self._subscriptions.cover(lambda: self._docs, self.connection.subscribe)
        except Exception as exc:  # boundary: the application's filter
            if link == self._link:
                self._report(exc, None)
        else:
            self._presence.subscribed()

    def _show_syncing(self, syncing: Syncing) -> None:
        self._show(replace(self._state, syncing=syncing))

    # ---- what happens to documents here ----------------------------------------------------------

    def _edited(self, doc_id: str) -> None:
        self._docs.edited(doc_id)
        self._changed.set()

    def _tracked(self, doc_ids: Sequence[str], _algorithm: str) -> Awaitable[None]:
        for doc_id in doc_ids:
            self._docs.add(doc_id)
        return self._begin(doc_ids)

    async def _begin(self, doc_ids: Sequence[str]) -> None:
        """Documents are new here: read what there is of them, then subscribe, then sync."""
        await self._docs.learn(doc_ids)
        link = self._link
        if link:
            await self._cover(link)
            if link == self._link:
                self._docs.connected(doc_ids, link)

    def _untracked(self, doc_ids: Sequence[str]) -> Awaitable[None]:
        self._docs.remove(doc_ids)
        return self._trim()

    async def _trim(self) -> None:
        link = self._link
        if not link:
            return
        try:
            await self._subscriptions.trim(lambda: self._docs, self.connection.unsubscribe)
        except Exception as exc:  # boundary: the application's filter
            if link == self._link:
                self._report(exc, None)

    async def _deleted_locally(self, doc_id: str) -> None:
        if self._link:
            await self._deletions.tell_one(doc_id)

    # ---- what comes from the server --------------------------------------------------------------

    def _changes_committed(self, doc_id: str, changes: Sequence[Change]) -> None:
        if changes:
            self._docs.framed(doc_id, Committed(changes))
        else:
            self._docs.asked(doc_id)

    def _notified(self, method: str, params: Any) -> None:
        if self._presence.notified(method, params):
            return
        doc_id = params.get("docId") if isinstance(params, Mapping) else None
        if isinstance(doc_id, str):
            self._docs.framed(doc_id, Notice(method, params))

    async def _deleted_remotely(self, doc_id: str, attempt: int = 0) -> None:
        try:
            await self._deletions.let_go(doc_id)
        except Exception as exc:  # boundary: a store
            self._report(exc, doc_id)
            await asyncio.sleep(reconnect_wait(attempt, self.patches.runtime.random.random()))
            if doc_id in self.patches.tracked_docs:
                await self._deleted_remotely(doc_id, attempt + 1)

    # ---- inside ----------------------------------------------------------------------------------

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

    def _algorithm_failed(self, error: Exception, context: Mapping[str, Any]) -> None:
        self._report(error, context.get("doc_id"))

    def _task_failed(self, error: Exception) -> None:
        _log.error("a task of the sync failed", exc_info=error)
        self._report(error, None)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._scope.spawn(coroutine)

"""`PatchesSync`: keeps all tracked documents of a `Patches` in sync with a server.

It owns the connection and, in `Documents`, one worker per tracked document. It decides nothing
about a document: it hands on what happens, and shows what the documents have become.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Literal, Self

from patches.aio.signals import Unsubscribe
from patches.client.patches import Patches
from patches.errors import (
    ChangeRefusedError,
    DocNotTrackedError,
    ErrorContext,
    InvalidRequestError,
    NetworkError,
    PatchesError,
)
from patches.model.change import Change
from patches.model.json_values import Json
from patches.model.settings import check_instance
from patches.net.backoff import reconnect_wait
from patches.net.connection import PatchesConnection, WebSocketConnection
from patches.net.websocket import WebSocketOptions
from patches.options import DEFAULT_MAX_PAYLOAD_BYTES, DocOptions, SizeCalculator
from patches.sync.deletions import Deletions
from patches.sync.document.plan import Notice
from patches.sync.documents import Documents
from patches.sync.full_sync import FullSync
from patches.sync.history.branch_store import BranchStore
from patches.sync.history.branches import send_pending
from patches.sync.link import Link
from patches.sync.linking import Linking
from patches.sync.live_docs import LiveDocs
from patches.sync.presence.hub import PresenceHub
from patches.sync.presence.presence import Room
from patches.sync.published import Published
from patches.sync.state import SyncedDoc, Syncing
from patches.sync.subscriptions import SubscribeFilter, Subscriptions

_log = logging.getLogger("patches.sync")

#: The notification of a server that it sends no more broadcasts of `docId` to this connection.
SUBSCRIPTION_ENDED: Final = "subscriptionEnded"
#: The notification that the rights to `docId` have changed.
ACCESS_CHANGED: Final = "accessChanged"


class PatchesSync(Linking):
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
        check_instance("patches", patches, Patches)
        if not isinstance(url_or_connection, str) and not hasattr(url_or_connection, "call"):
            raise InvalidRequestError(
                f"a url or a PatchesConnection is needed, not {url_or_connection!r}"
            )
        super().__init__(
            WebSocketConnection(url_or_connection, websocket=websocket, runtime=patches.runtime)
            if isinstance(url_or_connection, str)
            else url_or_connection
        )
        self.branch_store: Final = branch_store
        self.patches: Final = patches
        self._presence = PresenceHub(self.connection)
        self._disconnects = 0  # so far
        self._listening: list[Unsubscribe] = []  # empty: not
        self._superseded = False  # another one has connected since
        self._sending_branches = asyncio.Lock()  # the connection's, no document's
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
            passed=lambda doc_id, link: self._live_docs.passed(doc_id, link),
        )
        self._live_docs = LiveDocs(
            self._docs,
            Subscriptions(subscribe_filter, max_ids=patches.limits.max_ids_per_call),
            self.connection,
            link=lambda: self._link,
            scope=self._scope,
            report=self._report,
            subscribed=self._presence.subscribed,
            random=patches.runtime.random,
            client=patches,
            settled=self.settled,
        )
        self._deletions = Deletions(
            patches,
            self.connection,
            scope=self._scope,
            spawn=self._spawn,
            on_remote=self.on_remote_doc_deleted,
            report=self._report,
            changed=self._changed.set,
            is_linked=lambda: self._link is not None,
        )
        self._full_sync = FullSync(
            patches,
            self._docs,
            self._deletions,
            scope=self._scope,
            send_branch_records=self.send_branch_records,
            subscribe=self._live_docs.subscribe,
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
            self._handlers.start()
            self.patches.on_taken_over.emit(self)
            self._deletions.start()
            self._docs.start()
            self._full_sync.start()
        self._failure_reported = False
        disconnects = self._disconnects
        try:
            await self.connection.connect(background=background)
        except PatchesError as exc:
            if disconnects == self._disconnects:  # else it was called off, which is no failure
                self._cannot_connect(exc)
            raise
        if self.connection.state == "connected" and self._link is None:
            self._connected()  # it was connected before we listened

    async def disconnect(self) -> None:
        """End all work and the connection. Unsent work stays in the store.

        An async handler of a signal may call it: that handler goes on, the others end.
        """
        self._disconnects += 1
        await self.connection.disconnect()
        self._failure = None
        self._disconnected()
        await self._deletions.finish()
        await self._scope.close()
        await self._end_handlers()
        if self._superseded:
            self._stop_listening()

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

    async def settled(
        self,
        timeout: float | None = None,  # noqa: ASYNC109  # public name
        *,
        docs: Iterable[str] | None = None,
        offline: Literal["wait", "raise"] = "wait",
    ) -> None:
        """Wait until every edit of every tracked document, or of `docs`, is confirmed.

        Raises why work does not leave by itself, and once the refusal of each change that the
        server refused for good; `TimeoutError` after `timeout` seconds. Without a connection it
        waits, or with `offline="raise"` raises `NetworkError`.
        """
        doc_ids = None if docs is None else self._tracked_ids(docs)
        raised = self._docs.refusals_raised
        async with asyncio.timeout(timeout):
            while True:
                await self._docs.save_edits(doc_ids)
                self._docs.raise_refusals(doc_ids, raised)
                link = self._link
                if link is not None:
                    if isinstance(self._state.syncing, Exception):
                        raise self._state.syncing
                    self._docs.raise_failures(doc_ids, link)
                    if self._docs.are_at_rest(doc_ids, link) and self._deletions.all_handed_over:
                        return
                elif offline == "raise":
                    raise NetworkError(f"not connected: {self._failure or 'offline'}")
                self._changed.clear()
                await self._changed.wait()

    def _tracked_ids(self, docs: Iterable[str]) -> frozenset[str]:
        if isinstance(docs, str):
            raise InvalidRequestError(f"expected a list of document ids, got the string {docs!r}")
        doc_ids = frozenset(docs)
        for doc_id in doc_ids - self.patches.tracked_docs:
            raise DocNotTrackedError(doc_id)
        return doc_ids

    async def send_branch_records(self) -> None:
        """Send the branch records that were made, changed or deleted here.

        The full sync does it too. Failures are reported; what failed waits for the next time.
        """
        link = self._link
        if self.branch_store is None or link is None:
            return
        async with self._sending_branches:
            was_sent, failures = await send_pending(self.branch_store, self.connection)
        if link.is_current:
            for failure in failures:
                self._report(failure, None)
        if was_sent:
            self.on_branches_synced.emit()

    def apply_merge_changes(self, doc_id: str, changes: Sequence[Change]) -> None:
        """Fold the changes that a merge has committed into the document here.

        What is known already is left out; what does not follow on is fetched.
        """
        if changes:
            self._docs.committed(doc_id, changes)

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
            self.connection.on_changes_committed(self._docs.committed),
            self.connection.on_doc_deleted(self._docs.deleted),
            self.connection.on_notification(self._notified),
            self.connection.on_error(lambda error: self._report(error, None)),
            self.patches.on_change(self._docs.edited),
            self.patches.on_open_doc(self._docs.opened),
            self.patches.on_track_docs(self._tracked),
            self.patches.on_untrack_docs(self._untracked),
            self.patches.on_delete_doc(self._deleted_locally),
            self.patches.on_quarantine_changed(self._docs.work_set_aside),
            self.patches.on_taken_over(self._taken_over),
            *(
                algorithm.on_error(self._algorithm_failed)
                for algorithm in self.patches.algorithms.values()
            ),
        ]
        for algorithm in self.patches.algorithms.values():
            algorithm.attach(self._docs)
        self.patches.coordinator = self._live_docs
        tracked = sorted(self.patches.tracked_docs)  # a set has another order in each process
        for doc_id in tracked:
            self._docs.add(doc_id)
        if tracked:
            self.patches.run_task(self._docs.learn(tracked))

    def _algorithm_failed(self, error: Exception, context: ErrorContext) -> None:
        super()._algorithm_failed(error, context)
        if isinstance(error, ChangeRefusedError) and context.doc_id is not None:
            self._docs.refused(context.doc_id, error)

    def _taken_over(self, by: object) -> None:
        self._superseded = by is not self
        if self._superseded and not self._scope.running:
            self._stop_listening()

    def _stop_listening(self) -> None:
        """Another object keeps the documents in sync and does not notify this one: what is known
        here would become stale, and would be shown in documents of the other one.
        """
        for unsubscribe in self._listening:
            unsubscribe()
        self._listening = []
        if self.patches.coordinator is self._live_docs:
            self.patches.coordinator = None
        self._docs.forget()

    def _link_up(self, link: Link) -> None:
        self._full_sync.connected(link)

    def _link_down(self) -> None:
        self._presence.lost()
        self._full_sync.disconnected()
        self._docs.disconnected()

    def _show_syncing(self, syncing: Syncing) -> None:
        self._show(replace(self._state, syncing=syncing))

    # ---- what happens to documents here ----------------------------------------------------------

    def _tracked(self, doc_ids: Sequence[str], _algorithm: str) -> None:
        for doc_id in doc_ids:
            self._docs.add(doc_id)
        if self._link is not None:
            self._scope.spawn(self._live_docs.begin(doc_ids, self._link))

    def _untracked(self, doc_ids: Sequence[str]) -> None:
        self._docs.remove(doc_ids)
        if self._link is not None:
            self._scope.spawn(self._live_docs.unsubscribe(self._link))

    async def _deleted_locally(self, doc_id: str) -> None:
        if self._link is not None:
            await self._deletions.delete_one(doc_id)

    # ---- what comes from the server --------------------------------------------------------------

    def _notified(self, method: str, params: Any) -> None:
        if self._presence.notified(method, params):
            return
        doc_id = params.get("docId") if isinstance(params, Mapping) else None
        if not isinstance(doc_id, str):
            return
        if method == ACCESS_CHANGED:
            self._live_docs.access_changed(params)
        elif method == SUBSCRIPTION_ENDED:
            if self._link is not None:
                self._live_docs.subscription_ended(doc_id, params.get("code"), self._link)
        else:
            self._docs.framed(doc_id, Notice(method, params))

    async def _deleted_remotely(self, doc_id: str, attempt: int = 0) -> None:
        try:
            await self._deletions.forget(doc_id)
        except Exception as exc:  # boundary: a store
            self._report(exc, doc_id)
            await asyncio.sleep(reconnect_wait(attempt, self.patches.runtime.random.random()))
            if doc_id in self.patches.tracked_docs:
                await self._deleted_remotely(doc_id, attempt + 1)

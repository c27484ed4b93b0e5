"""`Documents`: one worker per tracked document, and what is shown of them.

It is the host of the workers. Connections, the full sync and deletions are `PatchesSync`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from patches.aio.tasks import TaskScope
from patches.client.patches import Patches
from patches.documents.document import Document
from patches.errors import PatchesError
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.json_values import Json
from patches.net.connection import PatchesConnection
from patches.options import DocOptions
from patches.sync.document import transitions
from patches.sync.document.plan import Committed, DocSync, Frame
from patches.sync.document.steps import DocSteps, Found
from patches.sync.document.worker import DocWorker
from patches.sync.link import Link
from patches.sync.published import Published
from patches.sync.state import SyncedDoc


class Report(Protocol):
    """Reports a failure on `on_error`, and which document and change it is about."""

    def __call__(
        self, error: Exception, doc_id: str | None, change_id: str | None = None
    ) -> None: ...


class Documents:
    """The tracked documents of a `PatchesSync`. Their tasks run while `scope` does.

    `passed` is called for each document whose pass has ended well over a connection.
    """

    def __init__(
        self,
        patches: Patches,
        connection: PatchesConnection,
        options: DocOptions,
        *,
        scope: TaskScope,
        published: Published,
        report: Report,
        changed: Callable[[], None],
        deleted: Callable[[str], None],
        passed: Callable[[str, Link], None],
    ) -> None:
        self.connection = connection
        self.report: Final = report
        self.algorithm_of: Final = patches.algorithm_of
        self.open_doc: Final = patches.get_open_doc
        self._patches = patches
        self._options = options
        self._scope = scope
        self._published = published
        self._changed = changed
        self._deleted, self._passed = deleted, passed
        self._workers: dict[str, DocWorker] = {}
        self._with_work: set[str] = set()
        self._awaited: set[str] = set()
        self._opened: dict[str, Document] = {}  # perhaps closed since
        self._link: Link | None = None
        self._max_commit: int | None = None  # bytes, as the server has shown
        #: The last refusal of each document, numbered, and the number that `settled` raised last.
        self._refusals: dict[str, tuple[int, Exception]] = {}
        self._refusals_raised: dict[str, int] = {}

    # ---- which there are -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._workers))

    def add(self, doc_id: str) -> None:
        """A document is tracked."""
        if doc_id not in self._workers:
            worker = self._workers[doc_id] = DocWorker(doc_id, self)
            self._with_work.add(doc_id)
            doc = self.open_doc(doc_id)
            if doc is not None:
                self._opened[doc_id] = doc
                worker.learn(Found(doc.committed_rev, doc.has_pending, worker.doc.edits))
            if self._scope.running:
                self._scope.spawn(worker.run(), name=f"sync of {doc_id}")

    def remove(self, doc_ids: Iterable[str]) -> None:
        """Documents are not tracked any more: what is under way for them ends."""
        doc_ids = list(doc_ids)
        for doc_id in doc_ids:
            worker = self._workers.pop(doc_id, None)
            if worker is not None:
                worker.stop()
            self._with_work.discard(doc_id)
            self._awaited.discard(doc_id)
        self._published.remove(doc_ids)
        self._changed()

    def forget(self) -> None:
        """Nothing is known of any document from now on."""
        self.remove(self)
        self._opened.clear()

    def start(self) -> None:
        """The scope has started: so do the workers."""
        for doc_id, worker in self._workers.items():
            self._scope.spawn(worker.run(), name=f"sync of {doc_id}")

    async def learn(self, doc_ids: Iterable[str]) -> None:
        """Read from the stores what is not known yet, and show it in one change.

        One document's failure is reported; its worker tries again once there is a connection.
        """
        found: list[tuple[DocWorker, Found]] = []
        for doc_id in list(doc_ids):
            worker = self._workers.get(doc_id)
            if worker is not None and not worker.doc.known:
                try:
                    found.append((worker, await worker.find()))
                except Exception as exc:  # boundary: one document's store
                    self.report(exc, doc_id)
        with self._published.one_change():
            for worker, what in found:
                worker.learn(what)

    # ---- what happens ----------------------------------------------------------------------------

    def connected(self, doc_ids: Iterable[str], link: Link, *, awaited: bool = False) -> None:
        """Documents may use a connection, which is subscribed to them by now.

        With `awaited`, `all_passes_ended` says when each of them has ended a pass on it.
        """
        self._link = link
        workers = [self._workers[doc_id] for doc_id in doc_ids if doc_id in self._workers]
        if awaited:
            # One that came with the connection may have begun, and ended, its pass already.
            self._awaited = {
                worker.doc.doc_id
                for worker in workers
                if worker.doc.known and worker.doc.passed_link is not link
            }
        with self._published.one_change():
            for worker in workers:
                if worker.doc.link is not link:
                    worker.set_state(transitions.connected(worker.doc, link))

    def disconnected(self) -> None:
        """There is no connection."""
        self._link = None
        self._awaited.clear()
        with self._published.one_change():
            for worker in list(self._workers.values()):
                worker.set_state(transitions.disconnected(worker.doc))
                self._connection_lost(worker.id)

    def change(self, doc_id: str, transition: Callable[[DocSync], DocSync]) -> None:
        """Something happened to a document. One that is not tracked is left out."""
        worker = self._workers.get(doc_id)
        if worker is not None:
            worker.set_state(transition(worker.doc))

    def edited(self, doc_id: str) -> None:
        """A local edit was stored."""
        worker = self._workers.get(doc_id)
        if worker is not None:
            worker.set_state(transitions.edited(worker.doc))
        else:
            self._changed()

    def framed(self, doc_id: str, frame: Frame) -> None:
        """A frame came."""
        worker = self._workers.get(doc_id)
        if worker is not None:
            worker.set_state(transitions.framed(worker.doc, frame))

    def committed(self, doc_id: str, changes: Sequence[Change]) -> None:
        """The server has committed changes of others. None: there is something to fetch."""
        if not changes:
            self.change(doc_id, transitions.pull_requested)
            return
        worker = self._workers.get(doc_id)
        if worker is not None:
            worker.set_state(transitions.framed(worker.doc, Committed(changes)))

    def deleted(self, doc_id: str) -> None:
        """The server has deleted a document."""
        self.change(doc_id, transitions.deleted)

    def work_set_aside(self, doc_id: str) -> None:
        """A pending change was moved into quarantine, or out of it, by the application."""
        self.change(doc_id, transitions.work_set_aside)

    def reload(self, doc_id: str) -> None:
        """What is here of a document cannot be built on, as its algorithm finds."""
        self.change(doc_id, lambda doc: transitions.must_reload(doc, ()))

    def work_changed(self, doc_id: str) -> None:
        """Unsent work was taken back, or is to be sent now, for an algorithm."""
        self.work_set_aside(doc_id)

    def replaced(self, doc_id: str, rev: int) -> None:
        """Another process that shares the store has replaced the copy of a document."""
        self.change(doc_id, lambda doc: transitions.replaced(doc, rev))

    async def call(self, method: str, *params: Any) -> Json:
        """Call a method of the server, for an algorithm."""
        return await self.connection.call(method, *params)

    def opened(self, doc: Document) -> Awaitable[None] | None:
        """A document is in memory: it shows its status, and what came while it was loaded."""
        self._opened[doc.id] = doc
        worker = self._workers.get(doc.id)
        if worker is None:
            return None
        if not worker.doc.known:
            worker.learn(Found(doc.committed_rev, doc.has_pending, worker.doc.edits))
        doc.update_sync_status(*worker.doc.shown)
        return worker.refresh()

    # ---- how they are ----------------------------------------------------------------------------

    @property
    def all_passes_ended(self) -> bool:
        """Whether every awaited document has ended its pass, well or not."""
        return not self._awaited

    def are_at_rest(self, doc_ids: Collection[str] | None, link: Link) -> bool:
        """Whether nothing is left to do over a connection for any document, or for these."""
        if doc_ids is None:
            return link.full_sync_ended and not self._with_work
        workers = [self._workers[doc_id] for doc_id in doc_ids if doc_id in self._workers]
        return all(worker.doc.link is link and not worker.doc.has_work for worker in workers)

    @property
    def refusals_raised(self) -> Mapping[str, int]:
        """Which refusal of each document was raised last, for `raise_refusals`."""
        return dict(self._refusals_raised)

    def raise_refusals(self, doc_ids: Collection[str] | None, raised: Mapping[str, int]) -> None:
        """Raise why unsent work of any document, or of these, has left the queue for good, if that
        was not raised before.
        """
        for doc_id, (number, refusal) in self._refusals.items():
            if number > raised.get(doc_id, 0) and (doc_ids is None or doc_id in doc_ids):
                self._refusals_raised[doc_id] = number
                raise refusal

    def raise_failures(self, doc_ids: Collection[str] | None, link: Link) -> None:
        """Raise why work of any document, or of these, does not leave over this connection."""
        for doc_id in self._with_work:
            doc = self._workers[doc_id].doc
            if doc.busy or doc.link is not link or (doc_ids is not None and doc_id not in doc_ids):
                continue
            failure = doc.failure
            if failure is not None and failure.error is not None and failure.lasts:
                raise failure.error
            if doc.known and doc.has_pending and not doc.sendable and failure is None:
                raise PatchesError(f"document {doc_id!r} has work that cannot be sent")

    async def save_edits(self, doc_ids: Collection[str] | None = None) -> None:
        """Wait until the edits of open documents are stored. Raises why they cannot be."""
        for doc_id, doc in list(self._opened.items()):
            if doc.is_closed or doc_id not in self._workers:
                self._opened.pop(doc_id, None)
            elif doc.unsaved and (doc_ids is None or doc_id in doc_ids):
                await doc.flush()

    # ---- for the workers -------------------------------------------------------------------------

    def show_snapshot(self, doc_id: str, snapshot: Snapshot) -> None:
        self._patches.apply_snapshot(doc_id, snapshot)

    def options_of(self, doc: DocSync) -> DocOptions:
        options = self._options
        if doc.storage_budget is not None:
            options = replace(options, max_storage_bytes=doc.storage_budget)
        if self._max_commit is not None:
            options = replace(options, max_payload_bytes=self._max_commit)
        return options

    async def take_algorithm(self, doc_id: str, name: str) -> bool:
        return await self._patches.change_algorithm(doc_id, name)

    def learn_max_commit(self, size: int) -> None:
        """Kept from now on, for all documents: it is the server's limit."""
        configured = self._options.max_payload_bytes
        self._max_commit = min(size, self._max_commit or size, configured or size)

    def jitter(self) -> float:
        return self._patches.runtime.random.random()

    def doc_changed(self, steps: DocSteps, before: DocSync) -> None:
        doc = steps.doc
        doc_id = doc.doc_id
        if self._workers.get(doc_id) is not steps:
            return  # a late write does not bring an entry back
        if doc.has_work:
            self._with_work.add(doc_id)
        else:
            self._with_work.discard(doc_id)
        if self._awaited and doc.passed_link is self._link:
            self._awaited.discard(doc_id)
        self._changed()
        # What nobody sees is compared field by field: four times for each keystroke.
        if (
            doc.committed_rev != before.committed_rev
            or doc.has_pending is not before.has_pending
            or doc.busy is not before.busy
            or doc.failure is not before.failure
            or doc.idle_status != before.idle_status
            or doc.known is not before.known
            or doc.passed_link is not before.passed_link
        ):
            self._publish(doc)

    def refused(self, doc_id: str, error: Exception) -> None:
        number, _ = self._refusals.get(doc_id, (0, None))
        self._refusals[doc_id] = number + 1, error
        self._changed()

    def server_committed(self, doc_id: str, changes: Sequence[Change]) -> None:
        self._patches.on_server_commit.emit(doc_id, changes)

    def quarantined(self, doc_id: str, entry: QuarantinedChange) -> None:
        self._patches.on_change_quarantined.emit(doc_id, entry)

    def deleted_remotely(self, doc_id: str) -> None:
        self._deleted(doc_id)

    # ---- inside ----------------------------------------------------------------------------------

    def _connection_lost(self, doc_id: str) -> None:
        if doc_id in self._patches.tracked_docs:
            self.algorithm_of(doc_id).connection_lost(doc_id, self.open_doc(doc_id))

    def _publish(self, doc: DocSync) -> None:
        if not (doc.known or doc.committed_rev or doc.has_pending or doc.failure):
            return
        status, error = doc.shown
        doc_id, link = doc.doc_id, self._link
        entry = SyncedDoc(doc.committed_rev, doc.has_pending, status, error)
        if self._published.put(doc_id, entry):
            open_doc = self.open_doc(doc_id)
            if open_doc is not None:
                open_doc.update_sync_status(status, error)
            has_passed = status == "synced" and link is not None and doc.passed_link is link
            if has_passed and link is not None and doc_id not in link.granted:
                self._passed(doc_id, link)

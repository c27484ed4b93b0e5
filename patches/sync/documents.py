"""`Documents`: one worker per tracked document, and what is shown of them.

It is the host of the workers. Connections, the full sync and deletions are `PatchesSync`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from patches.aio.tasks import TaskScope
from patches.algorithms.base import Algorithm
from patches.client.patches import Patches
from patches.documents.document import Document
from patches.errors import PatchesError
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.json_values import Json
from patches.net.connection import PatchesConnection
from patches.options import DocOptions
from patches.sync.document import transitions as folds
from patches.sync.document.keeper import DocKeeper, Found
from patches.sync.document.plan import DocSync, Frame
from patches.sync.document.worker import DocWorker
from patches.sync.published import Published
from patches.sync.state import SyncedDoc


class Report(Protocol):
    """Tells whoever listens about a failure, and about which document it is."""

    def __call__(self, error: Exception, doc_id: str | None, /) -> None: ...


class Documents:
    """The tracked documents of a `PatchesSync`. Their tasks run while `scope` does."""

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
    ) -> None:
        self.connection = connection
        self.report: Final = report
        self._patches = patches
        self._options = options
        self._scope = scope
        self._published = published
        self._changed = changed
        self._deleted = deleted
        self._workers: dict[str, DocWorker] = {}
        self._restless: set[str] = set()
        self._awaited: set[str] = set()
        self._opened: dict[str, Document] = {}  # perhaps closed since
        self._link = 0

    # ---- which there are -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._workers))

    def add(self, doc_id: str) -> None:
        """A document is tracked."""
        if doc_id not in self._workers:
            worker = self._workers[doc_id] = DocWorker(doc_id, self)
            self._restless.add(doc_id)
            doc = self.open_doc(doc_id)
            if doc is not None:
                self._opened[doc_id] = doc
            if self._scope.running:
                self._scope.spawn(worker.run(), name=f"sync of {doc_id}")

    def remove(self, doc_ids: Iterable[str]) -> None:
        """Documents are not tracked any more: what is under way for them ends."""
        doc_ids = list(doc_ids)
        for doc_id in doc_ids:
            worker = self._workers.pop(doc_id, None)
            if worker is not None:
                worker.stop()
            self._restless.discard(doc_id)
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
        found: list[tuple[DocKeeper, Found]] = []
        for doc_id in list(doc_ids):
            worker = self._workers.get(doc_id)
            if worker is not None and not worker.doc.known:
                try:
                    found.append((worker.keeper, await worker.keeper.find()))
                except Exception as exc:  # boundary: one document's store
                    self.report(exc, doc_id)
        with self._published.one_change():
            for keeper, what in found:
                keeper.learn(what)

    # ---- what happens ----------------------------------------------------------------------------

    def connected(self, doc_ids: Iterable[str], link: int, *, awaited: bool = False) -> None:
        """Documents may use a connection, which is subscribed to them by now.

        With `awaited`, `all_settled` says when each of them has ended a pass on it.
        """
        self._link = link
        workers = [self._workers[doc_id] for doc_id in doc_ids if doc_id in self._workers]
        if awaited:
            # One that came with the connection may have begun, and ended, its pass already.
            self._awaited = {
                worker.doc.doc_id
                for worker in workers
                if worker.doc.known and worker.doc.settled_link != link
            }
        with self._published.one_change():
            for worker in workers:
                if worker.doc.link != link:
                    worker.tell(folds.connected(worker.doc, link))

    def disconnected(self) -> None:
        """There is no connection."""
        self._link = 0
        self._awaited.clear()
        with self._published.one_change():
            for worker in list(self._workers.values()):
                worker.tell(folds.disconnected(worker.doc))

    def edited(self, doc_id: str) -> None:
        """A local edit was stored."""
        self._tell(doc_id, folds.edited)

    def asked(self, doc_id: str) -> None:
        """There may be something new on the server."""
        self._tell(doc_id, folds.asked)

    def reload(self, doc_id: str) -> None:
        """What is here of a document cannot be built on, as its algorithm finds."""
        self._tell(doc_id, lambda doc: folds.must_reload(doc, ()))

    async def call(self, method: str, *params: Any) -> Json:
        """Call a method of the server, for an algorithm."""
        return await self.connection.call(method, *params)

    def framed(self, doc_id: str, frame: Frame) -> None:
        """A frame came. One for a document that is not tracked is dropped."""
        self._tell(doc_id, lambda doc: folds.framed(doc, frame))

    def deleted(self, doc_id: str) -> None:
        """The server has deleted a document."""
        self._tell(doc_id, folds.deleted)

    def opened(self, doc: Document) -> Awaitable[None] | None:
        """A document is in memory: it shows its status, and what came while it was loaded."""
        self._opened[doc.id] = doc
        worker = self._workers.get(doc.id)
        if worker is None:
            return None
        doc.update_sync_status(worker.doc.status, worker.doc.error)
        return worker.keeper.refresh()

    # ---- how they are ----------------------------------------------------------------------------

    @property
    def all_settled(self) -> bool:
        """Whether every awaited document has ended its pass, well or not."""
        return not self._awaited

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to do for any document."""
        return not self._restless

    def raise_what_blocks(self) -> None:
        """Raise the failure of a document whose work does not leave by itself, if there is one."""
        for doc_id in self._restless:
            doc = self._workers[doc_id].doc
            if doc.busy:
                continue
            trouble = doc.trouble
            if trouble is not None and trouble.error is not None and trouble.lasts:
                raise trouble.error
            if doc.known and doc.has_pending and not doc.sendable and doc.trouble is None:
                raise PatchesError(f"document {doc_id!r} has work that cannot be sent")

    async def save_edits(self) -> None:
        """Wait until the edits of open documents are stored. Raises why they cannot be."""
        for doc_id, doc in list(self._opened.items()):
            if doc.is_closed or doc_id not in self._workers:
                self._opened.pop(doc_id, None)
            elif doc.unsaved:
                await doc.flush()

    # ---- for the workers -------------------------------------------------------------------------

    def algorithm_of(self, doc_id: str) -> Algorithm:
        return self._patches.algorithm_of(doc_id)

    def open_doc(self, doc_id: str) -> Document | None:
        return self._patches.get_open_doc(doc_id)

    def show_snapshot(self, doc_id: str, snapshot: Snapshot) -> None:
        self._patches.apply_snapshot(doc_id, snapshot)

    def options_of(self, doc: DocSync) -> DocOptions:
        options = self._options
        if doc.storage_budget is not None:
            options = replace(options, max_storage_bytes=doc.storage_budget)
        if doc.payload_budget is not None:
            options = replace(options, max_payload_bytes=doc.payload_budget)
        return options

    def chance(self) -> float:
        return self._patches.runtime.random.random()

    def doc_changed(self, keeper: DocKeeper) -> None:
        worker = self._workers.get(keeper.id)
        if worker is None or worker.keeper is not keeper:
            return  # a late write does not bring an entry back
        doc = keeper.doc
        if doc.restless:
            self._restless.add(doc.doc_id)
        else:
            self._restless.discard(doc.doc_id)
        if doc.settled_link == self._link:
            self._awaited.discard(doc.doc_id)
        self._changed()
        self._publish(doc)

    def server_committed(self, doc_id: str, changes: Sequence[Change]) -> None:
        self._patches.on_server_commit.emit(doc_id, changes)

    def quarantined(self, doc_id: str, entry: QuarantinedChange) -> None:
        self._patches.on_change_quarantined.emit(doc_id, entry)

    def deleted_remotely(self, doc_id: str) -> None:
        self._deleted(doc_id)

    # ---- inside ----------------------------------------------------------------------------------

    def _tell(self, doc_id: str, fold: Callable[[DocSync], DocSync]) -> None:
        worker = self._workers.get(doc_id)
        if worker is not None:
            worker.tell(fold(worker.doc))

    def _publish(self, doc: DocSync) -> None:
        if not (doc.known or doc.committed_rev or doc.has_pending or doc.trouble):
            return
        status, error = doc.status, doc.error
        entry = SyncedDoc(doc.committed_rev, doc.has_pending, status, error)
        if self._published.put(doc.doc_id, entry):
            open_doc = self.open_doc(doc.doc_id)
            if open_doc is not None:
                open_doc.update_sync_status(status, error)

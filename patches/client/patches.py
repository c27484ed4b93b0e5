"""`Patches`: the documents of one client. It opens them, stores their edits, and tracks them.

It knows no server. `PatchesSync` listens to its signals and talks to the algorithms it
holds.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from patches.aio.keyed_locks import KeyedLocks
from patches.aio.tasks import TaskScope
from patches.algorithms.base import Algorithm
from patches.client.backends import default_algorithms, open_backend
from patches.client.change_queue import ChangeQueue
from patches.client.coordinator import Coordinator
from patches.client.needs_closing import NeedsClosing
from patches.client.open_docs import OpenDoc, OpenDocs
from patches.client.opening import OpensTyped
from patches.client.quarantine import Quarantine
from patches.client.saving import Saving
from patches.client.signals import ClientSignals
from patches.client.tracking import Tracking
from patches.documents.document import Document
from patches.documents.guard import is_debugging
from patches.documents.owner import Owner
from patches.errors import (
    AlgorithmMismatchError,
    ErrorContext,
    NetworkError,
    PatchError,
    PatchesError,
)
from patches.limits import Limits
from patches.model.change import QuarantinedChange, Snapshot
from patches.model.checks import kind_of
from patches.model.codec import json_size
from patches.model.json_values import Json
from patches.model.request_checks import check_doc_id, checked_metadata
from patches.model.settings import instance_or
from patches.options import DocOptions
from patches.runtime import Runtime

if TYPE_CHECKING:
    from patches.typed.converter import Codec

_log = logging.getLogger("patches.client.patches")


class Patches(OpensTyped, Saving, Quarantine, NeedsClosing, ClientSignals):
    """The documents of one client: `async with Patches(store="notes.db") as patches:`.

    `store`: `None` keeps documents in memory, a path in an SQLite file; a backend object stays its
    owner's to close. `algorithms` are added to OT and LWW, by their `name`. `metadata` goes onto
    every change made here. Nothing is opened before the first use. One event loop owns it.
    `debug` guards `doc.state` against writes; by default in Python's development mode and in
    interactive sessions. `codecs`: how values of further classes are written in typed documents.
    `encode_values`: documents without a type take such values too, and read as what was written.
    """

    def __init__(
        self,
        store: Any = None,
        *,
        algorithms: Iterable[Algorithm] | None = None,
        default_algorithm: str = "ot",
        metadata: Mapping[str, Json] | None = None,
        doc_options: DocOptions | None = None,
        limits: Limits | None = None,
        runtime: Runtime | None = None,
        debug: bool | None = None,
        codecs: Mapping[type, Codec] | None = None,
        encode_values: bool = False,
    ) -> None:
        self.limits: Limits = instance_or(Limits, "limits", limits, Limits)
        self.doc_options: Final = instance_or(DocOptions, "doc_options", doc_options, DocOptions)
        self.runtime: Runtime = instance_or(Runtime, "runtime", runtime, Runtime)
        self.metadata: Final[Mapping[str, Json]] = checked_metadata(metadata, self.limits)
        known = default_algorithms(
            options=self.doc_options, limits=self.limits, runtime=self.runtime
        )
        self.algorithms: Mapping[str, Algorithm] = MappingProxyType(
            {algorithm.name: algorithm for algorithm in (*known, *(algorithms or ()))}
        )
        self._algorithm_named(default_algorithm)
        self.default_algorithm: Final = default_algorithm

        self._codecs = MappingProxyType(dict(codecs or {}))
        self._encode_values = encode_values
        self._debug = is_debugging() if debug is None else debug
        self._owner: Owner | None = None  # where it was used first
        self.coordinator: Coordinator | None = None

        self._tasks = TaskScope("patches", on_error=self._task_failed)
        super().__init__(self._tasks.spawn)

        self._tracking = Tracking(
            self.algorithms,
            added=self.on_track_docs,
            removed=self.on_untrack_docs,
            shown=self._show_docs,
        )
        self._docs = OpenDocs(self._tasks, self._left_memory)
        self._queues: dict[str, ChangeQueue] = {}
        self._life = KeyedLocks()  # opening, untracking and deleting exclude each other
        self._start = asyncio.Lock()
        self._started = False
        self._closed = False
        self._store_name = repr(str(store)) if isinstance(store, (str, os.PathLike)) else ""
        self._backend, self._owns_backend = open_backend(store, self.runtime)
        for algorithm in self.algorithms.values():
            algorithm.open_store(self._backend)
            algorithm.on_error(self._report)
            algorithm.on_quarantined(self._quarantined)

    # ---- life ------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._ready()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Store what is unsaved, close all documents and the store. Nothing is taken back."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._docs.wait_idle()
            for opened in self._docs:
                opened.doc.mark_closed()
            await self._close_queues()
            self._docs.clear()
        finally:
            try:
                await self._tasks.close()  # cancels us, if a subscriber closes its own client
            finally:
                await self._close_stores()

    async def _close_stores(self) -> None:
        self.clear_signals()
        for algorithm in self.algorithms.values():
            await algorithm.close()
        if self._owns_backend:
            await self._backend.close()

    # ---- documents -------------------------------------------------------------------------------

    async def _open(
        self, doc_id: str, algorithm: str | None, metadata: Mapping[str, Json] | None
    ) -> Document:
        check_doc_id(doc_id, self.limits)
        if algorithm is not None:
            self._algorithm_named(algorithm)
        all_metadata = self._with_own(metadata)
        await self._ready()
        preferred = algorithm or await self._preferred_algorithm(doc_id)
        return await self._docs.open(
            doc_id, algorithm, partial(self._load, doc_id, algorithm, preferred, all_metadata)
        )

    def _is_open(self, doc_id: str) -> bool:
        return self._docs.get(doc_id) is not None or self._docs.is_opening(doc_id)

    async def close_doc(self, doc_id: str, *, untrack: bool = False, force: bool = False) -> None:
        """Give back one reference; the last (or `force`) takes the document out of memory.

        Waits until its edits are stored. With `untrack`, its local data is then forgotten. A
        document that is not open is no error.
        """
        await self._docs.release(doc_id, force=force)
        if untrack and self._docs.get(doc_id) is None:
            await self.untrack_docs([doc_id])

    def get_open_doc(self, doc_id: str) -> Document | None:
        """The document if it is in memory. Takes no reference."""
        opened = self._docs.get(doc_id)
        return opened.doc if opened is not None else None

    async def track_docs(self, doc_ids: Iterable[str], algorithm: str | None = None) -> None:
        """Keep these documents in sync from now on, open or not. Tracked ones stay as they are."""
        name = algorithm or self.default_algorithm
        self._algorithm_named(name)
        doc_ids = _listed(doc_ids)
        for doc_id in doc_ids:
            check_doc_id(doc_id, self.limits)
        await self._ready()
        self._check_not_deleted(doc_ids)
        await self._tracking.add(doc_ids, name)

    async def untrack_docs(self, doc_ids: Iterable[str]) -> None:
        """Forget these documents' local data, and close those that are open. Quarantine stays."""
        await self._ready()
        tracked = sorted(self._tracking.docs.intersection(_listed(doc_ids)))
        async with AsyncExitStack() as held:
            for doc_id in tracked:
                await held.enter_async_context(self._life(doc_id))
            known = self._tracking.remove(tracked)
            for doc_id in known:
                await self.close_doc(doc_id, force=True)
                await self._wait_idle(doc_id)
            await self._tracking.forget(known)

    async def delete_doc(self, doc_id: str) -> None:
        """Delete a document here, and with the next connection on the server.

        Until the server has deleted it, a document that is synced cannot be opened or tracked
        again: `DeletionPendingError`.
        """
        check_doc_id(doc_id, self.limits)
        await self._ready()
        await self._docs.wait_idle(doc_id)
        async with self._life(doc_id):
            algorithm = await self._tracking.owner_of(doc_id, default=self.default_algorithm)
            await self.close_doc(doc_id, force=True)
            await self._wait_idle(doc_id)
            self._tracking.remove([doc_id])
            await algorithm.delete_doc(doc_id)
            self._tracking.deleted(doc_id)
        await self.on_delete_doc.emit_and_wait(doc_id)

    @property
    def tracked_docs(self) -> frozenset[str]:
        """The ids of the tracked documents. Complete once anything here was awaited."""
        return self._tracking.docs

    def algorithm_of(self, doc_id: str) -> Algorithm:
        """The algorithm of a tracked document. Raises `DocNotTrackedError`."""
        return self._tracking.algorithm_of(doc_id)

    def apply_snapshot(self, doc_id: str, snapshot: Snapshot) -> None:
        """Show a newer snapshot of the store in the document, if it is open or being opened."""
        self._docs.show(doc_id, snapshot)

    # ---- for the coordinator ---------------------------------------------------------------------

    async def change_algorithm(self, doc_id: str, name: str) -> bool:
        """Keep a tracked document with another algorithm, if it is not open and nothing of it is
        here yet. Whether it is.
        """
        if name not in self.algorithms or self._docs.is_opening(doc_id):
            return False
        async with self._life(doc_id):
            if self._docs.get(doc_id) is not None or doc_id not in self._tracking.docs:
                return False
            return await self._tracking.change_algorithm(doc_id, name)

    async def confirm_deletion(self, doc_id: str, algorithm: Algorithm) -> None:
        """The server has deleted a document that was deleted here: drop its tombstone."""
        await algorithm.confirm_delete_doc(doc_id)
        self.deletion_confirmed(doc_id)

    def deletion_confirmed(self, doc_id: str) -> None:
        """The tombstone of a document is gone: it can be opened again."""
        self._tracking.deletion_confirmed(doc_id)

    def run_task(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run this until it has ended, or the client is closed."""
        self._tasks.spawn(coroutine)

    # ---- opening ---------------------------------------------------------------------------------

    async def _ready(self) -> None:
        """Start on first use: read which documents are tracked."""
        self._check_open()
        if self._owner is None:
            self._owner = Owner()
        self._owner.check("this Patches")
        if not self._started:
            async with self._start:
                await self._start_once()

    async def _start_once(self) -> None:
        if not self._started:
            self._tasks.start()
            await self._tracking.load()
            self._started = True

    async def _preferred_algorithm(self, doc_id: str) -> str:
        """The algorithm of a document that nobody has chosen one for: the server's, if it says."""
        found = None
        if self.coordinator is not None and self._tracking.name_of(doc_id) is None:
            found = await self.coordinator.find_algorithm(doc_id)
        return self.default_algorithm if found not in self.algorithms else str(found)

    def _ask_access(self, doc_id: str) -> None:
        if self.coordinator is not None:
            self.coordinator.ask_access([doc_id])

    def set_access(self, doc_id: str, can_write: bool | None) -> None:
        """Set by the coordinator: whether edits of a document would be accepted."""
        doc = self.get_open_doc(doc_id)
        if doc is not None:
            doc.set_access(can_write)

    async def _call_server(self, method: str, *params: Any) -> Json:
        if self.coordinator is None:
            raise NetworkError(f"{method}: there is no connection")
        return await self.coordinator.call_server(method, *params)

    async def _wait_settled(
        self, doc_id: str, timeout_s: float | None, offline: Literal["wait", "raise"]
    ) -> None:
        if self.coordinator is None:
            raise NetworkError(f"document {doc_id!r} is not synced with a server")
        await self.coordinator.settled(timeout_s, docs=[doc_id], offline=offline)

    async def _show_docs(self, doc_ids: Sequence[str]) -> None:
        if self.coordinator is not None:
            await self.coordinator.show_docs(doc_ids)

    async def _load(
        self, doc_id: str, requested: str | None, preferred: str, metadata: Mapping[str, Json]
    ) -> OpenDoc:
        async with self._life(doc_id):
            recorded = self._tracking.name_of(doc_id)
            name = recorded or preferred
            if requested is not None and requested != name:
                raise AlgorithmMismatchError(doc_id, expected=name, got=requested)
            self._check_not_deleted([doc_id])
            algorithm = self.algorithms[name]
            await self._tracking.add([doc_id], name)
            try:
                queue = self._queue_of(doc_id)
                await queue.wait_idle()  # an instance that was just closed may still be writing
                doc = algorithm.create_doc(doc_id, await algorithm.load_doc(doc_id))
            except BaseException:
                if recorded is None:
                    await self._tracking.forget(self._tracking.remove([doc_id]))
                raise
            if doc.dropped_pending_changes:
                self.on_pending_dropped.emit(doc_id, doc.dropped_pending_changes)
            opened = OpenDoc(doc, algorithm, metadata)
            doc.adopt(
                spawn=self._tasks.spawn,
                flusher=queue.flush,
                metadata_bytes=json_size(metadata),
                debug=self._debug,
                runtime=self.runtime,
                fetcher=partial(self._fetch_changes, doc_id),
            )
            doc.call_server = self._call_server
            doc.wait_settled = self._wait_settled
            doc.ask_access = self._ask_access
            doc.on_change(partial(self._edited, queue, opened))
            self.on_open_doc.emit(doc)
            return opened

    async def _left_memory(self, doc_id: str, opened: OpenDoc) -> None:
        """The last reference is gone: refuse edits, wait for those being stored."""
        opened.doc.mark_closed()
        opened.doc.on_change.clear()
        await self._wait_idle(doc_id)

    # ---- inside ----------------------------------------------------------------------------------

    def _with_own(self, metadata: Mapping[str, Json] | None) -> dict[str, Json]:
        """The metadata of every change made here, and on top what a call gives."""
        return checked_metadata(
            {**self.metadata, **checked_metadata(metadata, self.limits)}, self.limits
        )

    def _algorithm_named(self, name: str) -> Algorithm:
        algorithm = self.algorithms.get(name)
        if algorithm is None:
            raise PatchesError(
                f"there is no algorithm {name!r} here, only {', '.join(self.algorithms)}"
            )
        return algorithm

    def _unsaved_work(self) -> Iterator[str]:
        for opened in self._docs:
            if count := len(opened.doc.unsaved):
                yield f"{count} edit{'s' if count > 1 else ''} of {opened.doc.id!r}"

    def __repr__(self) -> str:
        return f"Patches({self._store_name})"

    def _check_not_deleted(self, doc_ids: Sequence[str]) -> None:
        if self.coordinator is not None:  # else there is no server to carry a deletion out on
            self._tracking.check_not_deleted(doc_ids)

    def _check_open(self) -> None:
        if self._closed:
            raise PatchesError("this Patches is closed")

    def _report(self, error: Exception, context: ErrorContext) -> None:
        if not self.on_error:
            _log.error("document %r: %s", context.doc_id, error, exc_info=error)
        self.on_error.emit(error, context)

    def _quarantined(self, entry: QuarantinedChange) -> None:
        self.on_change_quarantined.emit(entry.doc_id, entry)

    def _task_failed(self, error: Exception) -> None:
        self._report(error, ErrorContext())


def _listed(doc_ids: Iterable[str]) -> list[str]:
    if isinstance(doc_ids, str) or not isinstance(doc_ids, Iterable):
        raise PatchError(f"expected a list of document ids, got {kind_of(doc_ids)}: {doc_ids!r}")
    return list(doc_ids)

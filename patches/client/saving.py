"""`Saving`: the part of a client that brings edits to the store, in their order."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from typing import Final

from patches.aio.keyed_locks import KeyedLocks
from patches.aio.tasks import TaskScope
from patches.algorithms.base import Algorithm
from patches.client.change_queue import ChangeQueue, Edit
from patches.client.open_docs import OpenDoc, OpenDocs
from patches.client.signals import ClientSignals
from patches.documents.document import Document
from patches.errors import ErrorContext
from patches.limits import Limits
from patches.model.change import Change
from patches.model.codec import json_size
from patches.model.ids import random_id
from patches.model.json_values import Json, Op
from patches.model.request_checks import check_doc_id
from patches.runtime import Runtime

_EDIT_ID_LENGTH: Final = 12


class Saving(ClientSignals):
    """Each document has a queue; an edit of a closed document goes through it as well."""

    limits: Limits
    runtime: Runtime
    _docs: OpenDocs
    #: The queues of the documents that are open or have edits to store.
    _queues: dict[str, ChangeQueue]
    _life: KeyedLocks
    _tasks: TaskScope

    @abstractmethod
    async def _ready(self) -> None:
        """Start on first use."""

    @abstractmethod
    def _check_open(self) -> None:
        """Raise if the client is closed."""

    @abstractmethod
    def _with_own(self, metadata: Mapping[str, Json] | None) -> dict[str, Json]:
        """The metadata of every change made here, and on top what a call gives."""

    @abstractmethod
    def algorithm_of(self, doc_id: str) -> Algorithm:
        """The algorithm of a tracked document. Raises `DocNotTrackedError`."""

    async def submit_doc_change(
        self, doc_id: str, ops: list[Op], metadata: Mapping[str, Json] | None = None
    ) -> list[Change]:
        """Store operations for a tracked document, open or not, in the order of its edits.

        Returns the changes stored; while the store fails it waits for `retry_saving_changes`.
        Raises `PatchError`, `DocNotTrackedError`, and what can never be stored.
        """
        check_doc_id(doc_id, self.limits)
        all_metadata = self._with_own(metadata)
        await self._ready()
        self._check_open()
        self.algorithm_of(doc_id)
        await self._docs.wait_idle(doc_id)
        opened = self._docs.get(doc_id)
        if opened is not None:
            edit = self._taken(doc_id, opened.doc, ops, all_metadata)
        else:
            async with self._life(doc_id):  # so that nobody opens it meanwhile
                edit = await self._taken_closed(doc_id, ops, all_metadata)
        return [] if edit is None else await edit.stored_changes()

    def is_write_latched(self, doc_id: str) -> bool:
        """Whether storing its edits failed three times, and is not tried any more."""
        return doc_id in self.write_latched_docs

    @property
    def write_latched_docs(self) -> list[str]:
        """The documents whose edits are not being stored."""
        return [doc_id for doc_id, queue in self._queues.items() if queue.is_latched]

    async def retry_saving_changes(self, doc_id: str | None = None) -> None:
        """Try again to store latched edits, of one document or all; see `is_write_latched`."""
        for each in self.write_latched_docs if doc_id is None else [doc_id]:
            queue = self._queues.get(each)
            if queue is not None:
                await queue.retry()

    # ---- inside ----------------------------------------------------------------------------------

    @abstractmethod
    def _report(self, error: Exception, context: ErrorContext) -> None:
        """Tell of a failure."""

    def _queue_of(self, doc_id: str) -> ChangeQueue:
        queue = self._queues.get(doc_id)
        if queue is None:
            queue = ChangeQueue(doc_id, self._tasks.spawn, self._report, self.on_change.emit)
            self._queues[doc_id] = queue
        return queue

    async def _wait_idle(self, doc_id: str) -> None:
        """Wait for a document's edits, and drop its queue if nothing needs it any more."""
        queue = self._queues.get(doc_id)
        if queue is None:
            return
        await queue.wait_idle()
        if self._docs.get(doc_id) is None and not self._docs.is_opening(doc_id):
            queue.unlatch()
            self._queues.pop(doc_id, None)

    async def _close_queues(self) -> None:
        """Store what can be stored now, without the waits, and give up the rest."""
        for queue in list(self._queues.values()):
            queue.hurry()
            await queue.wait_idle()
            queue.unlatch()

    def _edited(self, queue: ChangeQueue, opened: OpenDoc, ops: list[Op]) -> None:
        edit_id = random_id(self.runtime.random, _EDIT_ID_LENGTH)
        metadata, extra = opened.metadata, opened.doc.edit_metadata
        if extra is not None:
            metadata = {**metadata, **extra}
        queue.put(Edit(ops, edit_id, opened.algorithm, opened.doc, metadata))

    async def _taken_closed(
        self, doc_id: str, ops: list[Op], metadata: Mapping[str, Json]
    ) -> Edit | None:
        """Queue an edit of a document that is not in memory, made as in one that is."""
        opened = self._docs.get(doc_id)
        if opened is not None:  # while this waited
            return self._taken(doc_id, opened.doc, ops, metadata)
        await self._queue_of(doc_id).wait_idle()
        algorithm = self.algorithm_of(doc_id)
        doc = algorithm.create_doc(doc_id, await algorithm.load_doc(doc_id))
        return self._taken(doc_id, doc, ops, metadata)

    def _taken(
        self, doc_id: str, doc: Document, ops: list[Op], metadata: Mapping[str, Json]
    ) -> Edit | None:
        live = doc.take_ops(ops, metadata_bytes=json_size(metadata))
        if not live:
            return None
        edit_id = random_id(self.runtime.random, _EDIT_ID_LENGTH)
        edit = Edit(live, edit_id, self.algorithm_of(doc_id), doc, metadata)
        edit.stored = asyncio.get_running_loop().create_future()
        self._queue_of(doc_id).put(edit)
        return edit

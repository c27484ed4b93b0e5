"""`OpenDocs`: the documents in memory, each shared by all who open it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

from patches.aio.tasks import TaskScope
from patches.algorithms.base import Algorithm
from patches.documents.document import Document
from patches.errors import AlgorithmMismatchError, PatchesError
from patches.model.change import Snapshot
from patches.model.json_values import Json


@dataclass(slots=True, eq=False)
class OpenDoc:
    """A document in memory, and how many callers want it to be."""

    doc: Document
    algorithm: Algorithm
    metadata: Mapping[str, Json]
    references: int = 0


@dataclass(slots=True, eq=False)
class _Opening:
    """A load under way, shared by all who want the document meanwhile."""

    loaded: asyncio.Future[OpenDoc]
    callers: int = 0
    snapshot: Snapshot | None = None  # the newest that arrived while it was loading


class OpenDocs:
    """Counts references. The owner loads documents, and is called when one leaves memory."""

    def __init__(
        self, tasks: TaskScope, left_memory: Callable[[str, OpenDoc], Awaitable[None]]
    ) -> None:
        self._tasks = tasks
        self._left_memory = left_memory
        self._open: dict[str, OpenDoc] = {}
        #: The document of an id, if it is in memory: the dict's own method, since all ask often.
        self.get: Callable[[str], OpenDoc | None] = self._open.get
        self._opening: dict[str, _Opening] = {}

    def __iter__(self) -> Iterator[OpenDoc]:
        return iter(list(self._open.values()))

    def is_opening(self, doc_id: str) -> bool:
        """Whether the document is being loaded."""
        return doc_id in self._opening

    async def open(
        self, doc_id: str, algorithm: str | None, load: Callable[[], Awaitable[OpenDoc]]
    ) -> Document:
        """The document, with one more reference. `load` makes it if nobody has.

        Raises what `load` raises, and `AlgorithmMismatchError` if it is kept by another algorithm.
        """
        opened = self._open.get(doc_id)
        if opened is None:
            opened = await self._shared_load(doc_id, load)  # counts the reference
        else:
            opened.references += 1
        if algorithm is not None and algorithm != opened.algorithm.name:
            await self.release(doc_id)
            raise AlgorithmMismatchError(doc_id, expected=opened.algorithm.name, got=algorithm)
        return opened.doc

    async def release(self, doc_id: str, *, force: bool = False) -> None:
        """Give one reference back; with the last, or `force`, the document leaves memory."""
        opened = self._open.get(doc_id)
        if opened is None:
            return
        opened.references -= 1
        if opened.references <= 0 or force:
            del self._open[doc_id]
            await self._left_memory(doc_id, opened)

    async def wait_idle(self, doc_id: str | None = None) -> None:
        """Wait until the document, or all, are not being opened any more."""
        for key, opening in list(self._opening.items()):
            if doc_id in (None, key):
                await asyncio.wait([opening.loaded])

    def show(self, doc_id: str, snapshot: Snapshot) -> None:
        """Show a snapshot, if it is newer, in a document that is open or being opened."""
        opened, opening = self._open.get(doc_id), self._opening.get(doc_id)
        if opened is not None:
            if snapshot.rev > opened.doc.committed_rev:
                opened.doc.import_snapshot(snapshot)
        elif opening is not None:
            if opening.snapshot is None or snapshot.rev > opening.snapshot.rev:
                opening.snapshot = snapshot

    def clear(self) -> None:
        """Forget them all."""
        self._open.clear()

    async def _shared_load(self, doc_id: str, load: Callable[[], Awaitable[OpenDoc]]) -> OpenDoc:
        """Wait for the one load of a document, which goes on when a caller is cancelled."""
        opening = self._opening.get(doc_id)
        if opening is None:
            opening = self._opening[doc_id] = _Opening(asyncio.get_running_loop().create_future())
            self._tasks.spawn(self._load(doc_id, opening, load), name=f"open {doc_id}")
        opening.callers += 1
        try:
            return await asyncio.shield(opening.loaded)
        except asyncio.CancelledError:
            if not opening.loaded.done():
                opening.callers -= 1
            elif not opening.loaded.cancelled() and opening.loaded.exception() is None:
                self._tasks.spawn(self.release(doc_id))
            raise

    async def _load(
        self, doc_id: str, opening: _Opening, load: Callable[[], Awaitable[OpenDoc]]
    ) -> None:
        try:
            opened = await load()
        except BaseException as exc:
            del self._opening[doc_id]
            closed = PatchesError(f"document {doc_id!r} was not opened: the client was closed")
            opening.loaded.set_exception(exc if isinstance(exc, Exception) else closed)
            opening.loaded.exception()  # all who waited may be gone
            if not isinstance(exc, Exception):
                raise
            return
        del self._opening[doc_id]
        opened.references = opening.callers
        self._open[doc_id] = opened
        if opening.snapshot is not None:
            self.show(doc_id, opening.snapshot)
        opening.loaded.set_result(opened)
        if not opened.references:
            opened.references = 1
            await self.release(doc_id)

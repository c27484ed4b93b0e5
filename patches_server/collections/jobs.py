"""`Jobs`: runs jobs on documents, and polls for what other programs have written to them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from patches.algorithms.collections.declaration import Collections
from patches.errors import DocDeletedError, PatchesError, UnavailableError
from patches.runtime import Runtime
from patches_server.collections.engines.engine import Engine, Transaction
from patches_server.collections.live import Delivery, Job, LiveDocument, Step

T = TypeVar("T")
_log = logging.getLogger("patches_server.collections")


@dataclass(frozen=True, slots=True)
class _Done:
    """What a job gave, when it is on disk."""

    result: Any
    error: Exception | None
    deliveries: Sequence[Delivery]
    steps: Sequence[Step]


class Jobs:
    """The documents of one server that are used. `notify` is called when a job is on disk."""

    def __init__(
        self,
        engine: Engine,
        declared: Collections,
        runtime: Runtime,
        *,
        max_eager_rows: int,
        notify: Callable[[str, Sequence[Delivery], Sequence[Step]], object],
    ) -> None:
        self._engine, self._declared, self._runtime = engine, declared, runtime
        self._max_eager_rows, self._notify = max_eager_rows, notify
        self._live: dict[str, LiveDocument] = {}
        self._deleting: set[str] = set()

    @property
    def doc_ids(self) -> list[str]:
        """The documents that are used."""
        return list(self._live)

    def connection_ended(self, connection_id: str) -> None:
        """What a connection held is forgotten."""
        for live in self._live.values():
            live.left.append(connection_id)

    @asynccontextmanager
    async def ended(self, doc_id: str) -> AsyncIterator[None]:
        """No job on a document begins while the body deletes it."""
        self._deleting.add(doc_id)
        try:
            self._live.pop(doc_id, None)
            yield
        finally:
            self._deleting.discard(doc_id)

    async def run(self, doc_id: str, work: Callable[[Job], T]) -> T:
        """Run a job on a document; its result when it is on disk and was broadcast."""
        live = await self._live_document(doc_id)
        now = self._runtime.wall_ms()

        def run(tx: Transaction) -> _Done:
            job = Job(tx, live, now)
            job.begin()
            result, error = None, None
            try:
                result = work(job)
            except Exception as exc:  # what others have written is numbered all the same
                if tx.is_broken():
                    raise
                error = exc
            return _Done(result, error, job.deliveries, job.steps)

        live.jobs += 1
        future = self._engine.begin(doc_id, run)
        # A callback, not what follows an await: broadcasts stay in order, whoever is cancelled.
        future.add_done_callback(partial(self._finished, live))
        done = await asyncio.shield(future)
        if done.error is not None:
            raise done.error
        result: T = done.result
        return result

    async def read(self, doc_id: str, work: Callable[[Transaction], T]) -> T:
        """Run a function that writes nothing, beside the jobs. Raises `DocDeletedError`."""
        await self._live_document(doc_id)
        return await self._engine.read(doc_id, work)

    async def look_around(self, is_used: Callable[[str], bool]) -> None:
        """Take in what other programs wrote to documents that are followed; forget idle ones."""
        followed = [doc_id for doc_id, live in self._live.items() if len(live.interests)]
        try:
            for doc_id in await self._engine.has_unnumbered(followed):
                await self.run(doc_id, no_work)
        except PatchesError as exc:
            _log.warning("reading the writes of other programs failed: %s", exc)
        for doc_id, live in list(self._live.items()):
            if not live.jobs and not len(live.interests) and not is_used(doc_id):
                del self._live[doc_id]

    def _finished(self, live: LiveDocument, future: asyncio.Future[_Done]) -> None:
        live.jobs -= 1
        if future.cancelled() or future.exception() is not None:
            return
        done = future.result()
        self._notify(live.doc_id, done.deliveries, done.steps)

    async def _live_document(self, doc_id: str) -> LiveDocument:
        live = self._live.get(doc_id)
        if live is None:
            if doc_id in self._deleting:
                raise UnavailableError(f"document {doc_id} is being deleted")
            deleted = await self._engine.deleted(doc_id)
            if deleted is not None:
                raise DocDeletedError(
                    doc_id, deleted_at=deleted.deleted_at, last_rev=deleted.last_rev
                )
            live = self._live.setdefault(
                doc_id,
                LiveDocument(doc_id, self._declared, max_eager_rows=self._max_eager_rows),
            )
        return live


def no_work(_job: Job) -> None:
    """What others have written is numbered before each job."""

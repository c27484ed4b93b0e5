"""`ChangeQueues`: the queues of a client's documents, one for each that has edits or is open."""

from __future__ import annotations

from collections.abc import Callable

from patches.aio.signals import Spawn
from patches.client.change_queue import ChangeQueue, Report


class ChangeQueues:
    """Queues by document id. Owned by a `Patches`; their workers are run by `spawn`."""

    def __init__(self, spawn: Spawn, report: Report, saved: Callable[[str], None]) -> None:
        self._spawn = spawn
        self._report = report
        self._saved = saved
        self._queues: dict[str, ChangeQueue] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._queues)

    def of(self, doc_id: str) -> ChangeQueue:
        """The queue of a document, made if there is none."""
        queue = self._queues.get(doc_id)
        if queue is None:
            queue = self._queues[doc_id] = ChangeQueue(
                doc_id, self._spawn, self._report, self._saved
            )
        return queue

    async def wait_idle(self, doc_id: str) -> None:
        """Wait until nothing of a document is being stored or waits for it."""
        queue = self._queues.get(doc_id)
        if queue is not None:
            await queue.wait_idle()

    def drop(self, doc_id: str) -> None:
        """Nobody needs a settled queue any more. What is latched in it is given up."""
        queue = self._queues.pop(doc_id, None)
        if queue is not None:
            queue.unlatch()

    async def close(self) -> None:
        """Store what can be stored now, without the waits, and give up the rest."""
        for queue in list(self._queues.values()):
            queue.hurry()
            await queue.wait_idle()
            queue.unlatch()

    @property
    def latched(self) -> list[str]:
        """The documents whose edits are not being stored."""
        return [doc_id for doc_id, queue in self._queues.items() if queue.is_latched]

    async def retry(self, doc_ids: list[str]) -> None:
        """Try again to store what is latched of these documents, one after the other."""
        for doc_id in doc_ids:
            queue = self._queues.get(doc_id)
            if queue is not None:
                await queue.retry()

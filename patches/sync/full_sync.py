"""`FullSync`: what a new connection begins with, all tracked documents (`docs/sync.md`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from patches.aio.tasks import TaskScope
from patches.algorithms.base import Algorithm
from patches.client.patches import Patches
from patches.net.backoff import reconnect_wait
from patches.sync.deletions import Deletions
from patches.sync.documents import Documents, Report
from patches.sync.link import Link
from patches.sync.state import Syncing


class FullSync:
    """The full syncs of one `PatchesSync`: one at a time, from connection to connection.

    `send_branch_records` and `subscribe` report what fails, and raise nothing. `show` shows how the
    full sync is.
    """

    def __init__(
        self,
        patches: Patches,
        docs: Documents,
        deletions: Deletions,
        *,
        scope: TaskScope,
        send_branch_records: Callable[[], Awaitable[None]],
        subscribe: Callable[[Link], Awaitable[None]],
        show: Callable[[Syncing], None],
        report: Report,
        changed: asyncio.Event,
    ) -> None:
        self._patches = patches
        self._docs = docs
        self._deletions = deletions
        self._scope = scope
        self._send_branch_records = send_branch_records
        self._subscribe = subscribe
        self._show = show
        self._report = report
        self._changed = changed
        self._is_first = True  # since `start`
        self._task: asyncio.Task[object] | None = None

    def start(self) -> None:
        """The scope has started: the next one is the first, and what the stores hold is read."""
        self._is_first = True
        self._scope.spawn(self._read_docs())

    def connected(self, link: Link) -> None:
        """Sync all over a new connection."""
        self._scope.spawn(self._run(link))

    def disconnected(self) -> None:
        """The connection is gone: what is under way ends."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, link: Link, attempt: int = 0) -> None:
        """One that fails as a whole, because a store does, is tried again while the connection
        lasts: what is not known of could stay behind for as long as nothing else happens to it.
        """
        if not link.is_current:
            return
        self._task = asyncio.current_task()
        try:
            self._show("initial" if self._is_first else "updating")
            await self._sync_documents(link)
        except Exception as exc:  # boundary: a store that fails
            if link.is_current:
                self._show(exc)
                self._report(exc, None)
                self._scope.spawn(self._run_again(link, attempt), name="full sync again")
        else:
            self._is_first = False
            self._show(None)
        finally:
            if self._task is asyncio.current_task():
                self._task = None
            link.full_sync_ended = True
            self._changed.set()

    async def _run_again(self, link: Link, attempt: int) -> None:
        await asyncio.sleep(reconnect_wait(attempt, self._patches.runtime.random.random()))
        await self._run(link, attempt + 1)

    async def _sync_documents(self, link: Link) -> None:
        await self._send_branch_records()
        tombstones = await self._read_docs()
        doc_ids = list(self._docs)
        await self._subscribe(link)
        if not link.is_current:
            return
        self._docs.connected(doc_ids, link, awaited=True)
        self._deletions.delete_all(tombstones)
        while not (self._docs.all_passes_ended and self._deletions.all_done):
            self._changed.clear()
            await self._changed.wait()

    async def _read_docs(self) -> dict[str, Algorithm]:
        """Learn what the stores hold. Returns the documents whose deletion is unconfirmed."""
        tombstones: dict[str, Algorithm] = {}
        found: list[str] = []
        for algorithm in self._patches.algorithms.values():
            for record in await algorithm.list_docs(include_deleted=True):
                if record.deleted:
                    tombstones[record.doc_id] = algorithm
                else:
                    found.append(record.doc_id)
        # What is tracked is read only now: it may have changed while the lists were read.
        tracked = self._patches.tracked_docs
        for doc_id in (*found, *sorted(tracked)):
            if doc_id in tracked:
                self._docs.add(doc_id)
        await self._docs.learn(self._docs)
        return {doc_id: owner for doc_id, owner in tombstones.items() if doc_id not in tracked}

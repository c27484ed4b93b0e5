"""`Cluster`: this process among the others that serve the same store.

It lets the hub have what other processes commit and delete, revokes rights everywhere, and closes
all connections when the store turns out to hold another history. The store is the only truth: what
the bus loses is found by polling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from patches.aio.tasks import TaskScope
from patches.errors import PatchesError
from patches.model.change import Change
from patches.model.ids import random_id
from patches.runtime import Runtime
from patches_server.bus.bus import HintBus
from patches_server.bus.hints import Hint
from patches_server.documents.backend import SharedBackend
from patches_server.documents.document_server import DocumentServer
from patches_server.documents.records import CommitOptions
from patches_server.service.fanout.cluster_relay import ClusterRelay
from patches_server.service.fanout.follower import BLIND_POLL_S, POLL_S, Follower
from patches_server.service.fanout.hub import Hub
from patches_server.service.router import Router
from patches_server.service.stats import ServerStats

#: How far back revocations are read: a row may be committed late.
_REVOKED_WITHIN_S: Final = 60.0
_CLEAN_UP_S: Final = 30.0
_ANNOUNCE_S: Final = 5.0
_MAX_CLEAN_UPS: Final = 200
#: Length of a process's id, with which the ids of its connections begin.
PROCESS_ID: Final = 4


class Cluster:
    """Owned by a `PatchesServer`, which starts and closes it.

    `revoke(principal, doc_id)` and `close_all()` act on the connections of this process.
    """

    def __init__(
        self,
        bus: HintBus,
        backend: SharedBackend,
        *,
        hub: Hub,
        router: Router,
        tasks: TaskScope,
        stats: ServerStats,
        runtime: Runtime,
        revoke: Callable[[str | int | None, str | None], None],
        close_all: Callable[[], None],
        poll_s: float = POLL_S,
        blind_poll_s: float = BLIND_POLL_S,
    ) -> None:
        self.process: str = random_id(runtime.random, PROCESS_ID)
        self.bus = bus
        self._backend, self._hub, self._router = backend, hub, router
        self._tasks, self._stats, self._runtime = tasks, stats, runtime
        self._revoke, self._close_all = revoke, close_all
        self._revoked: set[int] = set()
        self.follower: Follower = Follower(
            self,
            bus,
            backend,
            process=self.process,
            tasks=tasks,
            stats=stats,
            runtime=runtime,
            poll_s=poll_s,
            blind_poll_s=blind_poll_s,
        )
        self.relay: ClusterRelay | None = None
        self.follower.on_other = self._received
        self.follower.on_poll.append(self._check_revocations)
        hub.follow, hub.unfollow = self.follower.follow, self.follower.unfollow
        hub.answers_first.holds_calls = True

    def attach(self, documents: DocumentServer) -> None:
        """Let the follower have what a document server commits and deletes."""
        documents.on_changes_committed(self.follower.committed)
        documents.on_doc_deleted(self.follower.deleted)

    async def start(self) -> None:
        """Begin to listen and to poll."""
        await self.follower.start()
        self._tasks.spawn(self._clean_up_forever(), name="removal of what is deleted")
        if self.relay is not None:
            self._tasks.spawn(self._announce_forever(self.relay), name="connections here")

    async def close(self) -> None:
        """Send what is to be sent, and end."""
        await self.follower.close()

    async def revoke_everywhere(self, principal: str | int | None, doc_id: str | None) -> None:
        """Revoke rights in every process; returns when that cannot be forgotten."""
        self._revoke(principal, doc_id)
        await self._backend.add_revocation(principal, doc_id)
        data = {"principal": principal}
        self.follower.publish(Hint(kind="r", process=self.process, doc_id=doc_id, data=data))

    def send(self, kind: str, data: dict[str, Any]) -> None:
        """Publish a hint that is not about a document."""
        self.follower.publish(Hint(kind=kind, process=self.process, data=data))

    # What the follower needs.

    def deliver(
        self,
        doc_id: str,
        changes: Sequence[Change],
        options: CommitOptions | None,
        origin: str | None,
    ) -> None:
        self._hub.publish(doc_id, changes, options, origin)

    def deliver_deletion(self, doc_id: str, origin: str | None) -> None:
        self._hub.publish_deletion(doc_id, origin)
        self._forget(doc_id)

    async def documents_of(self, doc_id: str) -> DocumentServer:
        return (await self._router.find(doc_id)).documents

    def is_elsewhere(self, doc_id: str) -> None:
        known = self._router.known(doc_id)
        if known is not None:
            known.documents.forget(doc_id)

    def history_replaced(self, epoch: str) -> None:
        self._stats.epoch_changes += 1
        self._close_all()

    def _forget(self, doc_id: str) -> None:
        self.is_elsewhere(doc_id)
        self._router.forget(doc_id)

    # The others.

    def _received(self, hint: Hint) -> None:
        if hint.kind == "r":
            principal = hint.data.get("principal")
            self._revoke(principal if isinstance(principal, (str, int)) else None, hint.doc_id)
        elif self.relay is not None:
            self.relay.received(hint)

    async def _announce_forever(self, relay: ClusterRelay) -> None:
        relay.announce(asks=True)
        while True:
            await asyncio.sleep(_ANNOUNCE_S * self._runtime.random.uniform(0.8, 1.2))
            relay.announce()
            relay.drop_silent()

    def _check_revocations(self) -> None:
        self._tasks.spawn(self._read_revocations(), name="revocations of other processes")

    async def _read_revocations(self) -> None:
        try:
            found = await self._backend.revocations(_REVOKED_WITHIN_S)
        except PatchesError:
            return  # the next poll asks again
        for number, principal, doc_id in found:
            if number not in self._revoked:
                self._revoke(principal, doc_id)
        self._revoked = {number for number, _, _ in found}

    async def _clean_up_forever(self) -> None:
        while True:
            await asyncio.sleep(_CLEAN_UP_S * self._runtime.random.uniform(0.8, 1.2))
            try:
                for _ in range(_MAX_CLEAN_UPS):
                    if not await self._backend.clean_up(self._runtime.wall_ms()):
                        break
            except PatchesError:
                continue  # the next time will do

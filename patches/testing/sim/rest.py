"""`Rest`: after the last action all faults end, all reconnect, and everybody comes to rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from patches.errors import ForbiddenError
from patches.testing.sim.agreement import Agreement
from patches.testing.sim.checker import Checker
from patches.testing.sim.config import Config
from patches.testing.sim.disk import docs_of
from patches.testing.sim.families.family import DocumentFamily
from patches.testing.sim.net import SimNet
from patches.testing.sim.nodes import SimClient
from patches.testing.sim.processes import Processes
from patches.testing.sim.rights import Rights
from patches.testing.sim.servers import SimServer
from patches.testing.sim.users import Users

#: How long everything may take to come to rest at the end, in virtual seconds.
PATIENCE_S: Final = 3_600.0
#: A client hears nothing of what another server than its own commits: then it connects again.
_RECONNECT_S: Final = 60.0


class Rest:
    """Waits for a run to come to rest. Calls `fail(invariant, message)` when it does not."""

    def __init__(
        self,
        config: Config,
        net: SimNet,
        servers: list[SimServer],
        clients: list[SimClient],
        processes: Processes,
        users: Users,
        checker: Checker,
        agreement: Agreement,
        rights: Rights,
        family: DocumentFamily,
        fail: Callable[[str, str], None],
    ) -> None:
        self._config, self._net, self._fail = config, net, fail
        self._servers, self._clients = servers, clients
        self._processes, self._users, self._checker = processes, users, checker
        self._agreement, self._rights, self._family = agreement, rights, family

    def heal(self) -> None:
        """All faults end, and whoever was kept out may come back."""
        self._servers[0].node.disk.heal()
        for client in self._clients:
            client.node.disk.heal()
            client.thaw()
        self._net.heal()
        self._rights.give_all()

    async def come_to_rest(self, look: Callable[[], None]) -> None:
        """Wait until nobody has anything left to say. `look` is called every now and then."""
        while self._processes.restarting:
            await asyncio.sleep(1.0)
            look()
        for client in self._clients:
            client.set_online(True)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        reconnect_at = loop.time()
        while loop.time() < deadline:
            if self._must_reconnect and loop.time() >= reconnect_at:
                reconnect_at = loop.time() + _RECONNECT_S
                for link in list(self._net.links):
                    link.cut()
            await asyncio.sleep(5.0)
            for client in self._clients:
                if client.patches is not None:
                    await self._settle(client)
            look()
            if not self._restless():
                for difference in self._agreement.at_rest(self._clients, self._config.core_ids):
                    self._fail("I13", f"at rest: {difference}")
                return
        self._fail("I9", f"nothing comes to rest: {self._restless()}")

    @property
    def _must_reconnect(self) -> bool:
        """Whether there is what a client learns, or does again, only with a new connection."""
        if "servers" in self._config.faults:
            return True
        # What the server has refused, to delete or to read, is asked again with a new connection.
        return "rights" in self._config.faults and any(
            self._is_deleted_here(client, doc_id) or self._is_refused(client, doc_id)
            for client in self._clients
            for doc_id in self._config.doc_ids
        )

    @staticmethod
    def _is_refused(client: SimClient, doc_id: str) -> bool:
        shown = client.sync.synced.get(doc_id) if client.sync is not None else None
        return shown is not None and isinstance(shown.error, ForbiddenError)

    async def _settle(self, client: SimClient) -> None:
        assert client.patches is not None
        assert client.life is not None
        if client.patches.write_latched_docs:
            await client.life.spawn(client.patches.retry_saving_changes(), name="retry")
        for doc_id in self._config.family_ids:
            if client.doc(doc_id) is None:
                await client.life.spawn(self._users.open(client, doc_id), name="open")
        for doc_id in self._config.core_ids:
            deleted = self._checker.log(doc_id).deleted
            if not deleted and client.doc(doc_id) is None:
                await client.life.spawn(self._users.open(client, doc_id), name="open")

    def _restless(self) -> str:
        if self._users.at_work:
            return "a user is at work"
        for client in self._clients:
            if client.sync is None or not client.sync.state.connected:
                return f"{client.name} is not connected"
            for doc_id in self._config.core_ids:
                if self._is_deleted_here(client, doc_id):
                    return f"{client.name} has not told that {doc_id} was deleted"
                log, doc = self._checker.log(doc_id), client.doc(doc_id)
                if log.deleted:
                    continue
                shown = client.sync.synced.get(doc_id)
                if doc is None or shown is None:
                    return f"{client.name} has not opened {doc_id}"
                # In a shared file, a document may have what its coordinator was not told of.
                is_shared = "shared_file" in self._config.faults
                known = shown.committed_rev if is_shared else doc.committed_rev
                if doc.has_pending or shown.has_pending or min(known, doc.committed_rev) != log.rev:
                    return (
                        f"{client.name}, {doc_id} at {doc.committed_rev} of {log.rev}: {shown}, "
                        f"document pending: {doc.has_pending}"
                    )
        return self._family.restless()

    @staticmethod
    def _is_deleted_here(client: SimClient, doc_id: str) -> bool:
        """Whether a deletion waits on the client's disk to be told to the server."""
        disk = client.node.disk.backend
        if doc_id.startswith("lww/"):
            tables = docs_of(disk, "lww").get(doc_id)
            head = tables.head() if tables is not None else None
            return head is not None and head.deleted
        stored = docs_of(disk, "ot").get(doc_id)
        return stored is not None and stored.deleted

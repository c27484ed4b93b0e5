"""`Processes`: ends processes at bad moments, and starts them again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from patches.errors import PatchesError, StorageError
from patches.testing.sim.config import Config
from patches.testing.sim.loop import CURRENT_LIFE, Life
from patches.testing.sim.nodes import SimClient
from patches.testing.sim.servers import SimServer
from patches.testing.sim.users import Users

#: How long a cancelled process may take to let go of its tasks.
LAST_BREATH_S: Final = 60.0


class Processes:
    """The processes of a run, by the names of their nodes. Calls `fail(invariant, message)`."""

    def __init__(
        self,
        config: Config,
        servers: list[SimServer],
        clients: list[SimClient],
        users: Users,
        fail: Callable[[str, str], None],
    ) -> None:
        self._config, self._users, self._fail = config, users, fail
        nodes: list[SimServer | SimClient] = [*servers, *clients]
        self._nodes = {node.name: node for node in nodes}
        self._restarting: dict[str, None] = {}
        self._background: dict[asyncio.Task[Any], None] = {}
        self.crashes: int = 0

    @property
    def restarting(self) -> bool:
        """Whether anything is down."""
        return bool(self._restarting)

    @property
    def lives(self) -> list[Life]:
        """The present life of every process that has one."""
        return [node.life for node in self._nodes.values() if node.life is not None]

    def crash(self, name: str, weight: float, *, gracefully: bool = False) -> None:
        """End a process, and start it again after up to a minute, unless it is down already."""
        node = self._nodes[name]
        is_down = node.core is None if isinstance(node, SimServer) else not node.running
        if is_down or name in self._restarting:
            return
        self._restarting[name] = None
        if not gracefully:
            self.crashes += 1
            node.crash()
        self._spawn(self._restart(node, weight, stop=gracefully), "restart")

    async def open_all(self, client: SimClient) -> None:
        """Open all documents at a client."""
        assert client.life is not None
        for doc_id in self._config.doc_ids:
            await client.life.spawn(self._users.open(client, doc_id), name="open")

    async def _restart(self, node: SimServer | SimClient, weight: float, *, stop: bool) -> None:
        life = node.life
        assert life is not None
        if stop:
            await node.stop()
        await asyncio.sleep(60 * weight * weight)
        self._spawn(self._check_gone(life), "undertaker")
        await node.start()
        del self._restarting[node.name]
        if isinstance(node, SimClient):
            while True:
                try:
                    await self.open_all(node)
                    return
                except StorageError:
                    await asyncio.sleep(1.0)
                except (PatchesError, asyncio.CancelledError):
                    return  # crashed again, meanwhile

    async def _check_gone(self, life: Life) -> None:
        await asyncio.sleep(LAST_BREATH_S)
        if life.tasks:
            names = sorted(task.get_name() for task in life.tasks)
            self._fail("I4", f"{life} has left tasks behind: {names}")

    def _spawn(self, work: Any, name: str) -> None:
        # outside of any process: whoever crashes a process may be a task of it
        token = CURRENT_LIFE.set(None)
        try:
            task = asyncio.get_running_loop().create_task(work, name=name)
        finally:
            CURRENT_LIFE.reset(token)
        self._background[task] = None
        task.add_done_callback(lambda task: self._background.pop(task, None))

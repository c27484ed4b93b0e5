"""Scenario 45, the client's half: it dies before or after any transaction of its store.

What was stored is acknowledged: after the next start each such write has happened once on the
server, or is in quarantine, and the copy equals the tables.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Literal, TypeVar

import pytest

from patches.algorithms.collections import CollectionsAlgorithm, CollectionsDoc
from patches.algorithms.collections.stores.memory import CollectionsMemoryStore
from patches.algorithms.collections.tables import DocTables
from patches.client.patches import Patches
from patches.errors import RejectedError, StatusError
from patches.model.change import QuarantinedChange, TrackedDoc
from patches.runtime import Runtime
from patches.sync import PatchesSync
from patches.testing.virtual_time import idle, virtual_time
from tests.support.board import Task, board, clear_done, server_of, task
from tests.support.sync_scene import NoJitter
from tests.support.table_server import TableServer, refusal

T = TypeVar("T")
STEPS = 30


class DeadError(Exception):
    """The process is gone."""


class DyingStore:
    """A store whose process dies at a transaction: before it is on disk, or after."""

    def __init__(self, disk: CollectionsMemoryStore, at: int, when: str) -> None:
        self.disk, self.left, self.when = disk, at, when

    @property
    def is_dead(self) -> bool:
        return self.left <= 0

    async def read(self, doc_id: str, fn: Callable[[DocTables], T]) -> T:
        self._check()
        return await self.disk.read(doc_id, fn)

    async def change(self, doc_id: str, fn: Callable[[DocTables], T]) -> T:
        self._check()
        self.left -= 1
        if self.is_dead and self.when == "before":
            raise DeadError
        result = await self.disk.change(doc_id, fn)
        self._check()
        return result

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        self._check()
        return await self.disk.list_docs(include_deleted)

    async def list_quarantined(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        self._check()
        return await self.disk.list_quarantined(doc_id)

    def _check(self) -> None:
        if self.is_dead:
            raise DeadError


async def live(server: TableServer, store: DyingStore, stored: list[str]) -> None:
    """A client's life: writes, a transaction, an action, a refusal, commits of others."""
    runtime = Runtime(random=NoJitter(1), wall_ms=lambda: 1_000_000)
    algorithm = CollectionsAlgorithm(board, store, runtime=runtime)
    async with Patches(algorithms=[algorithm], runtime=runtime) as patches:
        sync = PatchesSync(patches, server.connection())
        try:
            doc = await patches.open_doc("d", algorithm="collections")
            assert isinstance(doc, CollectionsDoc)
            tasks = doc.collection(Task)
            await sync.connect()
            await idle()
            for number in range(4):
                write = tasks.insert(id=f"t{number}", title="t", done=number == 2)
                await doc.flush()
                stored.append(write.id)
                server.write({"op": "replace", "path": "/tasks/a/votes", "value": number})
                await idle()
            with doc.transaction() as both:
                tasks.update("t0", votes=5)
                tasks.delete("t1")
            action = doc.call(clear_done)
            bad = tasks.insert(id="bad", title="bad")
            await doc.flush()
            stored += [both.id, action.id, bad.id]
            await idle()
            with contextlib.suppress(RejectedError):
                await bad
        finally:
            await sync.disconnect()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", range(1, STEPS))
def test_scenario_45_a_client_that_dies_anywhere(at: int, when: Literal["before", "after"]) -> None:
    @virtual_time
    async def scene() -> None:
        server = server_of({"tasks": {"a": task("a")}})
        server.refuse = lambda change: (
            refusal(403, "no", change.id) if "/tasks/bad" in str(change.ops) else None
        )
        disk, stored = CollectionsMemoryStore(), list[str]()
        store = DyingStore(disk, at, when)
        with contextlib.suppress(DeadError, StatusError, TimeoutError):
            async with asyncio.timeout(100):  # the dead wait for ever
                await live(server, store, stored)
        assert store.is_dead or at > 12, "the life is long enough to die in"
        runtime = Runtime(random=NoJitter(2), wall_ms=lambda: 2_000_000)
        algorithm = CollectionsAlgorithm(board, disk, runtime=runtime)
        async with Patches(algorithms=[algorithm], runtime=runtime) as patches:
            async with PatchesSync(patches, server.connection()) as sync:
                doc = await patches.open_doc("d", algorithm="collections")
                for _ in range(3):
                    with contextlib.suppress(StatusError):
                        await sync.settled(60)
                assert doc.state["tasks"] == server.rows["tasks"]
                assert doc.committed_rev == server.rev
                assert not doc.has_pending
                quarantined = {
                    entry.change_id for entry in await patches.list_quarantined_changes()
                }
        assert len(server.executed) == len(set(server.executed)), "nothing was done twice"
        for change_id in stored:
            assert (change_id in server.ids) != (change_id in quarantined)

    scene()

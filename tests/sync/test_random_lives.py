"""Clients that open, close, untrack, delete, go offline and are cut off, in any order: no hang, no
residue, and in the end all who have a document agree with the server.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from patches.client.patches import Patches
from patches.errors import DeletionPendingError
from patches.runtime import Runtime
from patches.stores.sqlite.backend import SqliteBackend
from patches.sync import PatchesSync
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import idle, virtual_time

DOCS = ("ot/a", "ot/b", "lww/a", "lww/b")

T = TypeVar("T")
U = TypeVar("U")


@dataclass
class Life:
    """One client, and what it does next."""

    patches: Patches
    sync: PatchesSync
    chance: random.Random
    online: bool = True
    mark: int = 0

    async def act(self, deletes: bool) -> None:
        """Do one thing."""
        doc_id = self.chance.choice(DOCS)
        kind = self.chance.randrange(14 if deletes else 13)
        doc = self.patches.get_open_doc(doc_id)
        if doc is None:
            if kind < 6:
                with suppress(DeletionPendingError):
                    await self.patches.open_doc(doc_id, algorithm=doc_id.partition("/")[0])
        elif kind < 7:
            self.mark += 1
            key = self.chance.choice("abc")
            doc.apply([{"op": "replace", "path": f"/{key}", "value": self.mark}])
        elif kind == 7:
            await self.patches.close_doc(doc_id)
        elif kind == 8 and not doc.unsaved and not doc.has_pending:
            await self.patches.untrack_docs([doc_id])
        elif kind == 9:
            self.online = not self.online
            self.sync.set_online(self.online)
        elif kind == 10 and self.online:
            await self.sync.settled(300)
        elif kind == 11:
            await self.sync.disconnect()
            await self.sync.connect(background=True)
        elif kind == 13:
            await self.patches.delete_doc(doc_id)


class SlowDisk:
    """What a thread does, in the loop: it takes turns, and no cancellation stops it."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def __call__(self, fn: Callable[[], T], /) -> T:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._later(self._chance.randrange(6), partial(self._work, fn, done))
        return await done

    def _work(self, fn: Callable[[], T], done: asyncio.Future[T]) -> None:
        try:
            result = fn()
        except Exception as exc:
            self._later(self._chance.randrange(5), partial(_settle, done, done.set_exception, exc))
        else:
            self._later(self._chance.randrange(5), partial(_settle, done, done.set_result, result))

    def _later(self, turns: int, then: Callable[[], object]) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._later, turns - 1, then)
        else:
            then()


def _settle(done: asyncio.Future[T], settle: Callable[[U], None], outcome: U) -> None:
    if not done.done():
        settle(outcome)


async def play(seed: int, *, deletes: bool, folder: Path | None = None) -> None:
    """With a `folder`, the clients keep their documents there, on a disk that takes its time."""
    chance = random.Random(seed)
    disk = SlowDisk(random.Random(seed + 1))

    def wall_ms() -> int:
        return 1_000_000 + int(asyncio.get_running_loop().time() * 1000)

    def runtime() -> Runtime:
        return Runtime(random=random.Random(chance.random()), wall_ms=wall_ms)

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            LocalServer(routes={"lww/*": "lww"}, runtime=runtime())
        )
        lives = []
        for number in range(3):
            store = None
            if folder is not None:
                store = SqliteBackend(
                    folder / f"{number}.db",
                    durability="relaxed",
                    runtime=Runtime(wall_ms=wall_ms, run_blocking=disk),
                )
                stack.push_async_callback(store.close)
            patches = await stack.enter_async_context(Patches(store=store, runtime=runtime()))
            sync = await stack.enter_async_context(PatchesSync(patches, server.connection()))
            lives.append(Life(patches, sync, random.Random(chance.random())))
        for _ in range(120):
            await chance.choice(lives).act(deletes)
            happening = chance.random()
            if happening < 0.05:
                server.network.cut(lose=True)
            elif happening < 0.2:
                await asyncio.sleep(chance.random())
            else:
                await idle(chance.randrange(12 if folder is None else 30))
        for life in lives:
            life.sync.set_online(True)
        for _ in range(2):
            for life in lives:
                await life.sync.settled(600)
            await asyncio.sleep(1)  # the server may hold a broadcast back for a moment
            await idle(100)
        for doc_id in DOCS:
            held = [
                (await life.patches.open_doc(doc_id)).state
                for life in lives
                if doc_id in life.patches.tracked_docs
            ]
            assert all(state == held[0] for state in held), doc_id
        for life in lives:
            assert set(life.sync.synced) == life.patches.tracked_docs
            assert {entry.status for entry in life.sync.synced.values()} <= {"synced"}
            assert not any(entry.has_pending for entry in life.sync.synced.values())


@pytest.mark.parametrize("deletes", [False, True], ids=["no deletes", "deletes"])
@pytest.mark.parametrize("seed", range(15))
def test_any_order_of_things_comes_to_rest_in_agreement(seed: int, deletes: bool) -> None:
    @virtual_time
    async def run() -> None:
        await play(seed, deletes=deletes)

    run()


@pytest.mark.parametrize("deletes", [False, True], ids=["no deletes", "deletes"])
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 23, 36])
def test_any_order_of_things_comes_to_rest_over_a_slow_disk(
    seed: int, deletes: bool, tmp_path: Path
) -> None:
    @virtual_time
    async def run() -> None:
        await play(seed, deletes=deletes, folder=tmp_path)

    run()

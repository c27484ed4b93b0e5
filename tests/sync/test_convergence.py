"""Several clients, random edits, sockets cut at random, on a clock that jumps: all end equal."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest

from patches.client.patches import Patches
from patches.documents.document import Document
from patches.net.connection import RpcConnection
from patches.runtime import Runtime
from patches.sync import PatchesSync
from patches.testing.local_server import LocalServer
from patches.testing.streams import memory_transport
from patches.testing.virtual_time import idle, virtual_time

CLIENTS = 4
STEPS = 60


def edit(doc: Document, chance: random.Random, mark: str) -> int:
    """One random edit of a kind that the document's algorithm has. By how much it counts up."""
    before = doc.state.get("count", 0)

    def change(draft: Any) -> None:
        kind = chance.randrange(7)
        key = chance.choice("abcd")
        if kind == 0:
            draft[key] = mark
        elif kind == 1 and key in draft:
            del draft[key]
        elif kind == 2:
            draft.increment("count", 1)
        elif kind == 3:
            draft.setdefault("box", {})
            draft["box"][key] = mark
        elif doc.algorithm == "lww":
            draft.set_max("most", chance.randrange(1000))
        elif kind == 4:
            draft.setdefault("items", [])
            draft["items"].insert(chance.randint(0, len(draft["items"])), mark)
        elif kind == 5 and draft.get("items"):
            del draft["items"][chance.randrange(len(draft["items"]))]
        else:
            draft.text("body").insert(0, mark)

    doc.change(change)
    counted: int = doc.state.get("count", 0) - before
    return counted


class LossyConnection(RpcConnection):
    """Loses, repeats, holds back and joins broadcasts; answers come as they are."""

    def __init__(self, server: LocalServer, chance: random.Random) -> None:
        super().__init__(memory_transport(server.network, runtime=server.runtime))
        self._chance = chance
        self._held: list[tuple[str, Any]] = []

    def _notified(self, method: str, params: Any) -> None:
        kind = self._chance.random() if method == "changesCommitted" else 1.0
        if kind < 0.2:
            return
        if kind < 0.35:
            self._held.append((method, params))
            return
        if 0.5 <= kind < 0.7 and self._held:
            _, before = self._held.pop()
            params = {**params, "changes": [*before["changes"], *params["changes"]]}
        for _ in range(2 if kind < 0.5 else 1):
            super()._notified(method, params)
        while self._held:
            super()._notified(*self._held.pop())


async def play(seed: int, algorithm: str, *, lossy: bool = False) -> None:
    chance = random.Random(seed)

    def wall_ms() -> int:
        return 1_000_000 + int(asyncio.get_running_loop().time() * 1000)

    def runtime() -> Runtime:
        return Runtime(random=random.Random(chance.random()), wall_ms=wall_ms)

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            LocalServer(routes={"*": algorithm}, runtime=runtime())
        )
        syncs: list[PatchesSync] = []
        docs: list[Document] = []
        problems: list[Exception] = []
        for _ in range(CLIENTS):
            patches = await stack.enter_async_context(Patches(runtime=runtime()))
            connection = LossyConnection(server, chance) if lossy else server.connection()
            sync = await stack.enter_async_context(PatchesSync(patches, connection))
            sync.on_error(lambda error, _context: problems.append(error))
            docs.append(await patches.open_doc("d", algorithm=algorithm))
            syncs.append(sync)
        counted = 0
        for step in range(STEPS):
            doc = chance.choice(docs)
            counted += edit(doc, chance, f"s{step}")
            happening = chance.random()
            if happening < 0.15:
                server.network.cut(lose=chance.random() < 0.7)
            elif happening < 0.3:
                await asyncio.sleep(chance.random() * 3)
            else:
                await idle(chance.randrange(40))
        for sync in syncs:
            await sync.settled(300)
        if lossy:
            server.network.cut()  # nothing tells of the last broadcast that was lost
            await idle()
        for sync in syncs:  # what the last ones committed reaches the others
            await sync.settled(300)
        await asyncio.sleep(1)  # the server may hold a broadcast back for a moment
        await idle(200)
        fresh = await stack.enter_async_context(Patches(runtime=runtime()))
        fresh_sync = await stack.enter_async_context(PatchesSync(fresh, server.connection()))
        late = await fresh.open_doc("d", algorithm=algorithm)
        await fresh_sync.settled(60)
        for doc in docs:
            assert doc.state == late.state
        assert late.state.get("count", 0) == counted  # nothing lost, nothing applied twice
        assert problems == []


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
@pytest.mark.parametrize("seed", range(12))
def test_clients_converge_over_sockets_that_are_cut(seed: int, algorithm: str) -> None:
    @virtual_time
    async def run() -> None:
        await play(seed, algorithm)

    run()


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
@pytest.mark.parametrize("seed", range(8))
def test_clients_converge_when_broadcasts_are_lost_repeated_and_late(
    seed: int, algorithm: str
) -> None:
    @virtual_time
    async def run() -> None:
        await play(seed, algorithm, lossy=True)

    run()

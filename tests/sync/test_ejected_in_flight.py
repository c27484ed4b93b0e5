"""A change that the app sets aside while it is under way may be committed all the same.

Then it is not in quarantine any more; and one that was put back meanwhile, under its own id, counts
once.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from patches.client.patches import Patches
from patches.documents.document import Document
from patches.errors import PendingChangeError
from patches.runtime import Runtime
from patches.sync import PatchesSync
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import idle, virtual_time


async def sent_ids(patches: Patches, doc_id: str = "d") -> list[str]:
    """The changes that wait for the server and have an id there."""
    snapshot = await patches.algorithm_of(doc_id).load_doc(doc_id)
    return [] if snapshot is None else [change.id for change in snapshot.changes]


@pytest.mark.parametrize("loses_answer", [False, True], ids=["answered", "answer lost"])
@pytest.mark.parametrize("algorithm", ["ot", "lww"])
def test_what_was_committed_leaves_quarantine_or_counts_once(
    algorithm: str, loses_answer: bool
) -> None:
    @virtual_time
    async def run() -> None:
        async with (
            LocalServer(routes={"*": algorithm}) as server,
            Patches() as patches,
            PatchesSync(patches, server.connection()) as sync,
        ):
            doc = await patches.open_doc("d", algorithm=algorithm)
            await sync.settled(60)
            committed = asyncio.Event()
            server.services[algorithm].documents.on_changes_committed(lambda *_: committed.set())
            doc.change(lambda draft: draft.increment("n", 3))
            async with asyncio.timeout(10):
                await committed.wait()  # the answer is still on the way
            (change_id,) = await sent_ids(patches)
            if loses_answer:
                server.network.cut()
            assert await patches.eject_pending_change("d", change_id) is not None
            assert doc.state == {}
            await sync.settled(60)
            try:
                await patches.retry_quarantined_change("d", change_id)
            except PendingChangeError:
                assert await patches.list_quarantined_changes() == []
            await sync.settled(60)
            assert doc.state == {"n": 3}
            assert await patches.list_quarantined_changes() == []
            assert (await server.services[algorithm].documents.get_doc("d")).head == 1

    run()


async def set_some_aside(patches: Patches, jitter: random.Random) -> None:
    """Eject one change, or put one back; both may be under way."""
    quarantined = await patches.list_quarantined_changes("d")
    pending = await sent_ids(patches)
    if quarantined and jitter.random() < 0.6:
        entry = jitter.choice(quarantined)
        try:
            await patches.retry_quarantined_change("d", entry.change_id)
        except PendingChangeError:  # it was committed meanwhile, or rests on what is not there
            pass
    elif pending:
        try:
            await patches.eject_pending_change("d", jitter.choice(pending))
        except PendingChangeError:
            pass


async def play(seed: int, algorithm: str) -> None:
    """Clients count up, set changes aside and put them back, over sockets that are cut."""
    jitter = random.Random(seed)

    def wall_ms() -> int:
        return 1_000_000 + int(asyncio.get_running_loop().time() * 1000)

    def runtime() -> Runtime:
        return Runtime(random=random.Random(jitter.random()), wall_ms=wall_ms)

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            LocalServer(routes={"*": algorithm}, runtime=runtime())
        )
        everybody: list[tuple[Patches, PatchesSync, Document]] = []
        for _ in range(3):
            patches = await stack.enter_async_context(Patches(runtime=runtime()))
            sync = await stack.enter_async_context(PatchesSync(patches, server.connection()))
            doc = await patches.open_doc("d", algorithm=algorithm)
            await sync.settled(60)
            everybody.append((patches, sync, doc))
        counted = 0
        for _ in range(60):
            patches, _, doc = jitter.choice(everybody)
            doc.change(lambda draft: draft.increment("n"))
            counted += 1
            await idle(jitter.randrange(30))
            await set_some_aside(patches, jitter)
            happening = jitter.random()
            if happening < 0.2:
                server.network.cut(lose=jitter.random() < 0.7)
            elif happening < 0.4:
                await asyncio.sleep(jitter.random() * 3)
        for patches, sync, _ in everybody:
            while entries := await patches.list_quarantined_changes("d"):
                await patches.retry_quarantined_change("d", entries[0].change_id)
            await sync.settled(300)
        for _, sync, _ in everybody:
            await sync.settled(300)
        await asyncio.sleep(1)
        assert [doc.state for _, _, doc in everybody] == [{"n": counted}] * 3


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
@pytest.mark.parametrize("seed", range(10))
def test_every_increment_counts_once_whenever_it_is_set_aside_and_put_back(
    seed: int, algorithm: str
) -> None:
    @virtual_time
    async def run() -> None:
        await play(seed, algorithm)

    run()

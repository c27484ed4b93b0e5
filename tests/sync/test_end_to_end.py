"""Two clients and the real server, through memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from patches.client.patches import Patches
from patches.sync.patches_sync import PatchesSync
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import idle, virtual_time


@asynccontextmanager
async def client(server: LocalServer) -> AsyncIterator[tuple[Patches, PatchesSync]]:
    async with Patches() as patches, PatchesSync(patches, server.connection()) as sync:
        yield patches, sync


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
def test_what_one_client_writes_the_other_sees(algorithm: str) -> None:
    @virtual_time
    async def run() -> None:
        async with (
            LocalServer(routes={"*": algorithm}) as server,
            client(server) as (anns, anns_sync),
            client(server) as (bobs, bobs_sync),
        ):
            ann = await anns.open_doc("d", algorithm=algorithm)
            bob = await bobs.open_doc("d", algorithm=algorithm)
            ann.change(lambda draft: draft.update(title="Hello"))
            await anns_sync.settled(5)
            bob.change(lambda draft: draft.update(count=1))
            ann.change(lambda draft: draft.update(mood="good"))
            await bobs_sync.settled(5)
            await anns_sync.settled(5)
            await idle()
            assert ann.state == bob.state == {"title": "Hello", "count": 1, "mood": "good"}
            assert anns_sync.synced["d"].status == "synced"
            assert not anns_sync.synced["d"].has_pending

    run()

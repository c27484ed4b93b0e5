"""`doc.settled`: one document and the server, whatever becomes of the others."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from patches import Patches, PatchesSync
from patches.errors import ChangeRefusedError, NetworkError
from patches_server import allow_all, create_app


def refuse(_principal: Any, doc_id: str, changes: Any) -> None:
    if doc_id == "refused":
        raise ChangeRefusedError(changes[0].id, "not here")


async def test_s50_it_returns_while_another_document_is_refused() -> None:
    async with (
        TestServer(create_app(auth=allow_all, validate=refuse)) as server,
        Patches() as patches,
    ):
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with PatchesSync(patches, url) as sync:
            good, bad = await patches.open_doc("good"), await patches.open_doc("refused")
            good.change(lambda draft: draft.update(n=1))
            bad.change(lambda draft: draft.update(n=1))
            await good.settled(10)
            assert (good.committed_rev, good.has_pending) == (1, False)
            with pytest.raises(ChangeRefusedError, match="not here"):
                await bad.settled(10)
            sync.set_online(False)
            good.change(lambda draft: draft.update(n=2))
            with pytest.raises(NetworkError):
                await good.settled(offline="raise")
            with pytest.raises(TimeoutError):
                await good.settled(0.01)


async def test_without_a_sync_it_says_so() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("alone")
        with pytest.raises(NetworkError, match="'alone' is not synced with a server"):
            await doc.settled()

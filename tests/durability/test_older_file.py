"""A server that goes on with an older file: restored from a backup, or after it lost its newest
commits to a power failure with `durability="relaxed"` (`docs/internals/reliability.md` 5).

OT alone: an LWW server takes a revision ahead of its own, as the original does
(`docs/internals/lww.md` 7.3).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestServer

from patches import Patches, PatchesSync
from patches_server.auth.access import allow_all
from patches_server.http.app import create_app
from patches_server.stores.sqlite.backup import backup


@asynccontextmanager
async def serving(path: Path, port: int) -> AsyncIterator[str]:
    async with TestServer(create_app(path, auth=allow_all, drain_s=0.1), port=port) as server:
        yield str(server.make_url("/ws")).replace("http", "ws", 1)


def put(doc: Any, key: str) -> None:
    doc.apply([{"op": "replace", "path": f"/{key}", "value": key}])


async def test_a_client_that_is_ahead_loads_again_and_sends_what_it_still_holds(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    port, doc_id = unused_tcp_port, "plan"
    async with Patches() as patches:
        async with serving(tmp_path / "first.db", port) as url:
            sync = PatchesSync(patches, url)
            await sync.connect()
            doc = await patches.open_doc(doc_id)
            put(doc, "saved")
            await sync.settled(10)
            await asyncio.to_thread(
                backup, tmp_path / "first.db", tmp_path / "older.db", epoch="older"
            )
            for number in range(3):
                put(doc, f"lost{number}")
                await sync.settled(10)
            assert doc.committed_rev == 4
        put(doc, "held")
        async with serving(tmp_path / "older.db", port) as url:
            await sync.settled(30)
            async with Patches() as others, PatchesSync(others, url) as fresh:
                other = await others.open_doc(doc_id)
                await fresh.settled(10)
                assert {"saved", "held"} <= set(other.state)
                assert doc.state == other.state
                assert doc.committed_rev == other.committed_rev
                put(other, "later")
                await fresh.settled(10)
                async with asyncio.timeout(10):
                    async for state in doc:
                        if "later" in state:
                            break
                assert doc.state == other.state
            await sync.disconnect()

"""Kill -9 of a client: what it had flushed is there again, and is committed once."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from patches import Patches, PatchesSync
from patches_server.auth.access import allow_all
from patches_server.http.app import create_app

PROGRAM = """
import asyncio, sys
from patches import Patches, PatchesSync

async def main(path, url, doc_id, algorithm, start):
    async with Patches(store=path) as patches, PatchesSync(patches, url):
        doc = await patches.open_doc(doc_id, algorithm=algorithm)
        for number in range(int(start), 100_000):
            doc.apply([
                {"op": "replace", "path": f"/m{number}", "value": number},
                {"op": "@inc", "path": "/count", "value": 1},
            ])
            await doc.flush()
            print(number, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""
KILLED_AFTER = (1, 4, 30)


async def edit_until_killed(*arguments: str, lines: int) -> int:
    """Run the program and kill it when it has said so often that an edit was stored; the last."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, *arguments), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    last = b""
    async with asyncio.timeout(30):
        for _ in range(lines):
            last = await process.stdout.readline()
            assert last, "it ended by itself"
        process.kill()
        rest, _ = await process.communicate()
    whole_lines = rest[: rest.rfind(b"\n") + 1].split()
    return int(whole_lines[-1] if whole_lines else last)


@pytest.fixture
def servers(tmp_path: Path) -> Callable[[], Any]:
    return lambda: TestServer(create_app(tmp_path / "server.db", auth=allow_all))


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_flushed_edits_survive_kill_9_and_are_committed_once(
    tmp_path: Path, servers: Callable[[], Any], algorithm: str
) -> None:
    store, doc_id, flushed = str(tmp_path / "client.db"), f"{algorithm}/notes", -1
    async with servers() as server:
        url = str(server.make_url("/ws")).replace("http", "ws", 1)
        for lines in KILLED_AFTER:
            flushed = await edit_until_killed(
                store, url, doc_id, algorithm, str(flushed + 2), lines=lines
            )
        async with Patches(store=store) as patches:
            doc = await patches.open_doc(doc_id)
            marks = {key for key in doc.state if key.startswith("m")}
            assert f"m{flushed}" in marks
            assert len(marks) == doc.state["count"]
            async with PatchesSync(patches, url) as sync:
                await sync.settled(20)
        async with Patches() as patches, PatchesSync(patches, url) as sync:
            fresh = await patches.open_doc(doc_id, algorithm=algorithm)
            await sync.settled(20)
            assert fresh.state == doc.state
            assert {key for key in fresh.state if key.startswith("m")} >= marks
            assert fresh.state["count"] == len(fresh.state) - 1, "each edit once"

"""SIGTERM: what is under way is finished, queues are drained, sockets end with 1001, status 0."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from patches import Patches, PatchesSync
from patches.testing.local_server import LocalServer
from patches.testing.server_process import ServerProcess

COMMITS = 300


def commit(number: int) -> dict[str, Any]:
    ops = [{"op": "replace", "path": "/a", "value": number}]
    params = [f"plan-{number}", [{"id": f"c{number}", "ops": ops}]]
    return {"jsonrpc": "2.0", "id": number, "method": "commitChanges", "params": params}


async def test_every_call_is_answered_and_every_answer_is_kept(tmp_path: Path) -> None:
    async with ServerProcess(f"sqlite:///{tmp_path / 'server.db'}") as server:
        async with aiohttp.ClientSession() as session, session.ws_connect(server.url) as ws:
            for number in range(COMMITS):
                await ws.send_json(commit(number))
            answers = [await answer_of(ws)]
            ending = asyncio.create_task(server.end())
            while (answer := await answer_of(ws)) is not None:
                answers.append(answer)
            assert ws.close_code == 1001
        assert await ending == 0
    acked = {answer["id"] for answer in answers if answer is not None and "result" in answer}
    refused = [answer["error"] for answer in answers if answer is not None and "error" in answer]
    assert acked
    assert all(error["code"] == 503 for error in refused)
    assert all(error["data"] == {"reason": "CLOSING"} for error in refused)
    with closing(sqlite3.connect(tmp_path / "server.db")) as conn:
        stored = {int(row[0][1:]) for row in conn.execute("SELECT change_id FROM ot_changes")}
    assert stored == acked, "what was refused or not read was not committed either"
    assert not (tmp_path / "server.db-wal").exists(), "the file was closed"


async def answer_of(ws: aiohttp.ClientWebSocketResponse[bool]) -> dict[str, Any] | None:
    """The next answer, `None` at the end."""
    while True:
        message = await ws.receive(timeout=20)
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        answer: dict[str, Any] = message.json()
        if "id" in answer:
            return answer


async def test_a_client_goes_on_after_the_server_was_stopped_and_started(tmp_path: Path) -> None:
    options = ("--durability", "relaxed", "--metrics", "--log-format", "json")
    log = tmp_path / "server.log"
    async with ServerProcess(
        f"sqlite:///{tmp_path / 'server.db'}", options=options, log=log
    ) as server:
        async with Patches() as patches, PatchesSync(patches, server.url) as sync:
            doc = await patches.open_doc("plan")
            doc.apply([{"op": "replace", "path": "/before", "value": 1}])
            await sync.settled(20)
            assert await server.end() == 0
            doc.apply([{"op": "replace", "path": "/between", "value": 2}])
            await server.start()
            await sync.settled(30)
            assert doc.committed_rev == 2
        async with Patches() as patches, PatchesSync(patches, server.url) as sync:
            again = await patches.open_doc("plan")
            await sync.settled(20)
            assert again.state == {"before": 1, "between": 2}
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{server.port}/metrics"
            async with session.get(url) as answer:
                assert 'patches_commit_seconds_count{algorithm="ot"} 1.0' in await answer.text()
    lines = log.read_text().splitlines()
    assert any('"event":"connected"' in line for line in lines)
    assert not any("between" in line for line in lines), "no content"


@pytest.mark.parametrize("under_way", [False, True], ids=["idle", "with a call under way"])
async def test_a_server_that_ends_takes_no_more_calls(under_way: bool) -> None:
    async with LocalServer(relay=False) as local:
        session = local.server.connect()
        if under_way:
            blocked = asyncio.Event()
            local.server.begin(blocked.wait)  # type: ignore[arg-type]  # any coroutine function
        ending = asyncio.create_task(local.server.close())
        await asyncio.sleep(0)
        if under_way:
            await session.receive(b'{"jsonrpc":"2.0","id":1,"method":"getDoc","params":["d"]}')
            assert b'"reason":"CLOSING"' in (await session.outbox.get() or b"")
            blocked.set()
        assert await session.outbox.get() is None
        assert session.outbox.closing is not None
        assert session.outbox.closing.code == 1001
        session.end()
        await ending

"""A backup of a file that a server process is writing to."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import aiohttp

from patches.testing.server_process import ServerProcess
from patches_server.algorithms import CHECKUPS
from patches_server.stores.sqlite.backup import backup
from patches_server.stores.sqlite.doctor import problems_of

COMMITS = 400


async def test_a_copy_made_under_load_is_whole_and_has_all_that_was_acknowledged_before(
    tmp_path: Path,
) -> None:
    path = tmp_path / "server.db"
    async with ServerProcess(f"sqlite:///{path}") as server:
        async with aiohttp.ClientSession() as session, session.ws_connect(server.url) as ws:
            acked: list[int] = []
            before: list[list[int]] = []
            for number in range(COMMITS):
                ops = [{"op": "add", "path": f"/m{number}", "value": "x" * 200}]
                change = {"id": f"c{number}", "ops": ops, "baseRev": number}
                await ws.send_json(
                    {"jsonrpc": "2.0", "id": number, "method": "commitChanges",
                     "params": ["plan", [change]]}
                )  # fmt: skip
            while len(acked) < COMMITS:
                answer = await ws.receive_json(timeout=20)
                if "id" not in answer:
                    continue
                assert "result" in answer, answer
                acked.append(answer["id"])
                if len(acked) in (1, 100, 250):
                    before.append(list(acked))
                    copy = tmp_path / f"copy-{len(acked)}.db"
                    await asyncio.to_thread(backup, path, copy, epoch=str(len(acked)))
    for ids in before:
        with closing(sqlite3.connect(tmp_path / f"copy-{len(ids)}.db")) as conn:
            assert list(problems_of(conn, CHECKUPS, replay=True)) == []
            stored = {row[0] for row in conn.execute("SELECT change_id FROM ot_changes")}
            assert stored >= {f"c{number}" for number in ids}
            assert conn.execute("SELECT epoch FROM server_file").fetchone() == (str(len(ids)),)
    assert len(before) == 3
    if os.name == "posix":
        files = tmp_path.glob("*.db")  # noqa: ASYNC240  # nothing else runs
        assert {each.stat().st_mode & 0o777 for each in files} == {0o600}

"""A server of collections that is killed again and again while a client writes all the time."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from patches import Patches, PatchesSync
from patches.algorithms.collections import Collections, CollectionsAlgorithm, CollectionsDoc
from patches.testing.server_process import ServerProcess

DOC = "board/1"
MODULE = """
from pathlib import Path

from patches.algorithms.collections import Collections
from patches_server.collections import CollectionsServer, SQLiteEngine

board = Collections("board")

@board.table("tasks")
class Task:
    id: str
    title: str

@board.table("seen")
class Seen:
    id: str

server = CollectionsServer(board, engine=SQLiteEngine(Path(__file__).parent / "boards"))
server.authorize("tasks", "insert", server.ANYONE)

@server.on("tasks", "create", durable="seen")
async def seen(event):
    await server.write(
        event.doc_id, lambda sql: sql("INSERT OR IGNORE INTO seen VALUES (?)", event.key)
    )
"""


async def test_scenarios_17_and_45_nothing_confirmed_is_lost_and_nothing_done_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "killed_board.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    rng = random.Random(7)
    board = Collections("board")

    @board.table("tasks")
    class Task:
        id: str
        title: str

    @board.table("seen")
    class Seen:
        id: str

    file = tmp_path / "boards" / "board%2f1.sqlite"
    options = ["--route", "board/*=collections", "--collections", "killed_board:server"]
    server = ServerProcess("memory:", options=options)
    written: list[str] = []
    async with server, Patches(algorithms=[CollectionsAlgorithm(board)]) as patches:
        async with PatchesSync(patches, server.url) as sync:
            doc = await patches.open_doc(DOC, algorithm="collections")
            assert isinstance(doc, CollectionsDoc)
            confirmed: set[str] = set()

            async def write() -> None:
                for number in range(60):
                    insert = doc.collection("tasks").insert(title=f"task {number}")
                    assert insert.key is not None
                    written.append(insert.key)
                    if number % 3 == 0:
                        await insert
                        confirmed.add(insert.key)

            writing = asyncio.create_task(write())
            for _ in range(4):
                await asyncio.sleep(rng.uniform(0.05, 0.4))
                before = set(confirmed)
                await server.kill()
                with closing(sqlite3.connect(file)) as conn:
                    kept = {key for (key,) in conn.execute("SELECT id FROM tasks")}
                assert before <= kept
                await server.start()
            async with asyncio.timeout(60):
                await writing
                await sync.settled()
                while len(doc.collection("seen")) < len(written):  # noqa: ASYNC110  # of any cause
                    await asyncio.sleep(0.05)
        await server.end()
    with closing(sqlite3.connect(file)) as conn:
        assert {key for (key,) in conn.execute("SELECT id FROM tasks")} == set(written)
        query = "SELECT count(*) FROM _patches_commits WHERE author IS NULL"
        assert conn.execute(query).fetchone()[0] >= len(written)
        assert {key for (key,) in conn.execute("SELECT id FROM seen")} == set(written)
        assert conn.execute("PRAGMA quick_check").fetchone() == ("ok",)

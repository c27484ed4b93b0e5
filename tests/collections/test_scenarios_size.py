"""Scenarios at their full size, and those that need a process of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from patches import Patches, PatchesSync
from patches.algorithms.collections import Collections, CollectionsAlgorithm, CollectionsDoc
from patches.limits import Limits
from patches.model import codec
from patches.testing.fixtures import ServerFixture
from patches.testing.server_process import ServerProcess
from patches_server import allow_all
from patches_server.collections import CollectionsServer, SQLiteEngine, collections

DOC = "board/1"
DAY_MS = 86_400_000
APPEND = "UPDATE labels SET name = name || 'x' WHERE id = ?"
SET = "UPDATE labels SET name = ? WHERE id = ?"


def run(query: str, *rest: Any) -> None:
    """SQL with its parameters; the last argument runs it."""
    *params, sql = rest
    sql(query, *params)


def declared(*, due: bool = False) -> Collections:
    board = Collections("board", version=1)

    class Label:
        id: str
        name: str

    class DatedLabel:
        id: str
        name: str
        due: int = 5

    board.table("labels")(DatedLabel if due else Label)
    return board


async def until(condition: Any, within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # of anything that shows, on any client
            await asyncio.sleep(0.005)


async def test_scenario_22_a_thousand_changes_to_ten_keys_are_ten_operations(
    tmp_path: Path,
) -> None:
    """Three days later too, as long as no deletion was swept; else the copy is fetched anew."""
    folder = tmp_path / "boards"
    async with CollectionsServer(declared(), engine=SQLiteEngine(folder)) as server:
        for number in range(10):
            await server.push(DOC, "labels", id=f"l{number}", name="")
        before = (await server.get_doc(DOC)).rev

        for number in range(1_000):
            await server.write(DOC, partial(run, APPEND, f"l{number % 10}"))
        (difference,) = await server.get_changes_since(DOC, before)
        assert (len(difference.ops), difference.rev) == (10, before + 1_000)
        await server.write(DOC, lambda sql: sql("DELETE FROM labels WHERE id = 'l3'"))

    with closing(sqlite3.connect(folder / "board%2f1.sqlite")) as conn:  # three days pass
        conn.execute("UPDATE _patches_log SET gone_at = gone_at - ?", (3 * DAY_MS,))
        conn.commit()
    async with CollectionsServer(declared(), engine=SQLiteEngine(folder)) as server:
        (difference,) = await server.get_changes_since(DOC, before)  # not swept yet
        assert {op["op"] for op in difference.ops} == {"add", "remove"}
        assert await server.compact(DOC) == 1
        assert len(await server.get_changes_since(DOC, before + 1_001)) == 0
        with pytest.raises(Exception, match="Reload it"):
            await server.get_changes_since(DOC, before)


async def test_scenario_25_clients_get_a_new_column_without_opening_again(tmp_path: Path) -> None:
    engine_folder = tmp_path / "boards"
    options: dict[str, Any] = {"auth": allow_all, "routes": {"board/*": "collections"}}

    def serving(*, due: bool) -> CollectionsServer:
        documents = CollectionsServer(declared(due=due), engine=SQLiteEngine(engine_folder))
        options["algorithms"] = [collections(documents)]
        return documents

    documents = serving(due=False)
    async with ServerFixture(options) as server:
        client = await server.client(algorithms=[CollectionsAlgorithm(declared())], websocket=True)
        doc = await client.open_doc(DOC, algorithm="collections")
        assert isinstance(doc, CollectionsDoc)
        await client.sync.settled(10)
        await documents.push(DOC, "labels", id="l", name="n")
        await until(lambda: "l" in doc.collection("labels"))
        for _ in range(2):  # registering twice changes nothing
            await server.stop()
            documents = serving(due=True)
            server._options["algorithms"] = options["algorithms"]
            await server.start()
        await documents.push(DOC, "labels", id="m", name="n")
        await until(lambda: doc.collection("labels").get("m"))
        assert doc.collection("labels")["m"]["due"] == 5
        assert "due" not in doc.collection("labels")["l"]
        await documents.touch(DOC, "labels")
        await until(lambda: "due" in doc.collection("labels")["l"])
        triggers = "SELECT count(*) AS n FROM sqlite_master WHERE type = 'trigger'"
        assert await documents.write(DOC, lambda sql: sql(triggers)) == [{"n": 4}]


STREAMING = """
import asyncio
from pathlib import Path

from patches.algorithms.collections import Collections
from patches_server.collections import CollectionsServer, SQLiteEngine

board = Collections("board", version=1)

@board.table("labels")
class Label:
    id: str
    name: str

server = CollectionsServer(board, engine=SQLiteEngine(Path(__file__).parent / "boards"))
server.authorize("labels", "insert", server.ANYONE)

@server.on("labels", "create")
async def answer(event):
    if event.row["name"] != "question":
        return
    async with server.stream(event.doc_id, "labels", id="answer", name="") as row:
        for number in range(1_000):
            await row.update(name=f"word {number}")
            await asyncio.sleep(0.05)
"""


async def test_scenario_40_a_server_that_is_killed_takes_its_partials_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "streaming_board.py").write_text(STREAMING)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    options = ["--route", "board/*=collections", "--collections", "streaming_board:server"]
    async with ServerProcess("memory:", options=options) as server, AsyncExitStack() as stack:
        docs: list[CollectionsDoc] = []
        for _ in range(2):
            algorithm = CollectionsAlgorithm(declared())
            patches = await stack.enter_async_context(Patches(algorithms=[algorithm]))
            await stack.enter_async_context(PatchesSync(patches, server.url))
            doc = await patches.open_doc(DOC, algorithm="collections")
            assert isinstance(doc, CollectionsDoc)
            docs.append(doc)
        await docs[0].collection("labels").insert(name="question")
        await until(lambda: all(doc.is_partial("labels", "answer") for doc in docs))
        await until(lambda: "word" in str(docs[1].collection("labels")["answer"]["name"]))
        await server.kill()
        await until(lambda: not any("answer" in doc.collection("labels") for doc in docs))
        await server.start()
        await docs[0].collection("labels").insert(name="after")
        await until(lambda: all(len(doc.collection("labels")) == 2 for doc in docs))
        await server.end()
    with closing(sqlite3.connect(tmp_path / "boards" / "board%2f1.sqlite")) as conn:
        names = {name for (name,) in conn.execute("SELECT name FROM labels")}
    assert names == {"question", "after"}


SUBSCRIBERS, ROWS, COMMITS, PER_S = 200, 10_000, 150, 50


@pytest.mark.long
async def test_scenario_46_two_hundred_subscribers_and_fifty_commits_a_second(
    tmp_path: Path,
) -> None:
    """What the server holds for its connections stays bounded, and all are at the newest revision
    soon after. The slow reader is in `test_server.py`."""
    documents = CollectionsServer(
        declared(), engine=SQLiteEngine(tmp_path / "boards", durability="relaxed")
    )
    limits = Limits(max_response_buffer_bytes=200_000)
    options: dict[str, Any] = {
        "auth": allow_all,
        "routes": {"board/*": "collections"},
        "algorithms": [collections(documents)],
        "limits": limits,
        "relay": False,
    }

    def fill(sql: Any) -> None:
        for number in range(ROWS):
            sql("INSERT INTO labels VALUES (?, ?)", f"l{number:05}", "n")

    async with (
        ServerFixture(options) as server,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        await documents.write(DOC, fill)
        url = await server.url()
        heads = [0] * SUBSCRIBERS

        async def follow(place: int) -> None:
            async with http.ws_connect(url, max_msg_size=0) as ws:
                await ws.send_json(
                    {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": [DOC]}
                )
                await ws.send_json(
                    {
                        "jsonrpc": "2.0",
                        "id": 2,
                        "method": "getChangesSince",
                        "params": [DOC, 1],
                    }
                )
                async for message in ws:
                    frame = codec.decode(message.data)
                    if frame.get("method") == "changesCommitted":
                        heads[place] = frame["params"]["changes"][-1]["rev"]
                    elif frame.get("id") == 2:
                        heads[place] = 1

        followers = [asyncio.ensure_future(follow(place)) for place in range(SUBSCRIBERS)]
        await until(lambda: all(heads) or any(each.done() for each in followers), 60)
        assert [each.exception() for each in followers if each.done()] == []
        core = server.app
        most = 0
        started = asyncio.get_running_loop().time()
        for number in range(COMMITS):
            await documents.write(DOC, partial(run, SET, "x" * 2_000, f"l{number:05}"))
            held = [each.outbox.broadcast_bytes for each in core.sessions.values()]
            most = max(most, *held)
            due = started + (number + 1) / PER_S
            await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        await until(lambda: all(head == COMMITS + 1 for head in heads), 60)
        assert most <= 200_000
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)

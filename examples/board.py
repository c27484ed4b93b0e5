"""A board of 5,000 tasks: one user plans it, the other may only vote; both see the live top 20.

python examples/board.py           two clients, in this terminal
python examples/board.py --page    the board as a page, while somebody votes
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from patches import Patches, PatchesSync
from patches.algorithms.collections import (
    Collections,
    CollectionsAlgorithm,
    CollectionsDoc,
    Query,
    Write,
)
from patches.errors import DeniedError, RejectedError
from patches_server import Principal, create_app
from patches_server.collections import CollectionsServer, RowWrite, SQLiteEngine, collections
from patches_server.collections.calls import Caller
from patches_server.http.page import add_page

TASKS = 5_000
VOTES = 200
DOC = "board/plans"
PAGE = Path(__file__).with_name("web") / "board"
VERBS = ("Share", "Search", "Export", "Pin", "Sort", "Translate", "Archive", "Preview", "Print")
THINGS = (
    "boards",
    "comments",
    "charts",
    "files",
    "drafts",
    "photos",
    "reminders",
    "forms",
    "votes",
)
PLACES = (
    "on the phone",
    "offline",
    "by keyboard",
    "in one step",
    "with guests",
    "by mail",
    "at once",
)

board = Collections("board", version=1)


@board.table("tasks", sync="on_demand")
class Task:
    """One task. Too many to send them all: a client loads what it shows."""

    id: str
    title: str
    votes: int = 0


def new_server(folder: str) -> CollectionsServer:
    """The rules: only `ann` plans, everybody votes by one."""
    server = CollectionsServer(board, engine=SQLiteEngine(folder))

    @server.authorize("tasks", "insert")
    @server.authorize("tasks", "delete")
    def only_the_planner(ctx: Caller, op: RowWrite) -> None:
        if ctx.user_id != "ann":
            raise DeniedError("only ann plans this board")

    @server.authorize("tasks", "update")
    def one_vote(ctx: Caller, op: RowWrite) -> None:
        before = 0 if op.old is None else int(op.old["votes"])
        if ctx.user_id != "ann" and (
            list(op.columns) != ["votes"] or op.row["votes"] != before + 1
        ):
            raise DeniedError("a guest may vote, one at a time")

    return server


class SignIn:
    """Whoever comes is taken for who they say they are. Do not copy this part."""

    async def authenticate(self, request: web.Request) -> Principal:
        return Principal(id=request.query["user"])

    async def can_access(self, *_: object) -> bool:
        return True


@asynccontextmanager
async def serving(
    server: CollectionsServer, *, page: Path | None = None, port: int = 0
) -> AsyncIterator[Callable[[str], str]]:
    """Run the server, with a page if one is given; gives a user's websocket address."""
    app = create_app(
        auth=SignIn(), algorithms=[collections(server)], routes={"board/*": "collections"}
    )
    if page is not None:
        add_page(app, page)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        port = runner.addresses[0][1]
        yield lambda user: f"ws://127.0.0.1:{port}/ws?user={user}"
    finally:
        await runner.cleanup()


def fill(sql: Any) -> None:
    """Tasks for the first start, in one transaction: one revision."""
    chance = random.Random(1)
    for number in range(TASKS):
        title = f"{chance.choice(VERBS)} {chance.choice(THINGS)} {chance.choice(PLACES)}"
        row = (f"task-{number:04}", title, int(40 * chance.paretovariate(3)))
        sql("INSERT INTO tasks (id, title, votes) VALUES (?, ?, ?)", *row)


async def vote(doc: CollectionsDoc, top: Query) -> None:
    """Vote for what is shown, until the server has confirmed all votes."""
    tasks, chance = doc.collection(Task), random.Random(2)
    writes: list[Write] = []
    for _ in range(VOTES):
        row = chance.choice(top.rows)
        writes.append(tasks.update(str(row["id"]), votes=int(row["votes"]) + 1))
        await asyncio.sleep(0)
    for write in writes:
        await write


async def show_page() -> int:
    """Serve the page until the program is stopped. Somebody votes all the time."""
    chance = random.Random()

    def one_vote(sql: Any) -> None:
        first = sql("SELECT id FROM tasks ORDER BY votes DESC, id LIMIT 20")
        added, key = chance.randint(5, 60), chance.choice(first)["id"]
        sql("UPDATE tasks SET votes = votes + ? WHERE id = ?", added, key)

    with tempfile.TemporaryDirectory() as folder:
        server = new_server(folder)
        async with serving(server, page=PAGE) as url:
            await server.write(DOC, fill)
            address = url("").replace("ws:", "http:").partition("/ws")[0]
            print(f"{address}/?user=ann and {address}/?user=guest (Ctrl-C ends it)", flush=True)
            while True:
                await server.write(DOC, one_vote)
                await asyncio.sleep(chance.uniform(0.6, 2.4))


async def main() -> int:
    """Run the example; the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        server = new_server(folder)
        async with serving(server) as url, AsyncExitStack() as stack:
            await server.write(DOC, fill)
            docs: dict[str, CollectionsDoc] = {}
            tops: dict[str, Query] = {}
            updates = {"ann": 0, "guest": 0}
            for user in ("ann", "guest"):
                patches = await stack.enter_async_context(
                    Patches(algorithms=[CollectionsAlgorithm(board)])
                )
                sync = await stack.enter_async_context(PatchesSync(patches, url(user)))
                sync.on_error(lambda _error, _context: None)  # the refusal below, told there
                doc = await patches.open_doc(DOC, algorithm="collections")
                assert isinstance(doc, CollectionsDoc)
                top = doc.collection(Task).order_by("votes", desc=True).limit(20)
                await top.load()
                docs[user], tops[user] = doc, top

            def count(user: str) -> Callable[[object], None]:
                def told(_rows: object) -> None:
                    updates[user] += 1

                return told

            for user, top in tops.items():
                top.subscribe(count(user))
            print(f"{TASKS} tasks on the board, {len(docs['guest'].collection(Task))} on a client")

            urgent = docs["ann"].collection(Task).insert(title="Urgent", votes=3_000)
            print(
                f"ann sees her task first, before the server does: {tops['ann'].rows[0]['title']}"
            )
            await urgent

            refused = docs["guest"].collection(Task).delete(str(tops["guest"].rows[1]["id"]))
            try:
                await refused
            except RejectedError as error:
                print(f"the guest deletes a task: {error}")

            await vote(docs["guest"], tops["guest"])
            async with asyncio.timeout(30):
                head = docs["guest"].committed_rev
                async for _ in docs["ann"]:
                    if docs["ann"].committed_rev >= head:
                        break
            equal = tops["ann"].rows == tops["guest"].rows
            print(f"{VOTES} votes; the two top 20 are {'equal' if equal else 'DIFFERENT'}")
            return 0 if equal and updates["ann"] > 1 else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(show_page() if "--page" in sys.argv[1:] else main()))
    except KeyboardInterrupt:
        pass

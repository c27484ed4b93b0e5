"""Todo lists that are changed by actions, and a server that does not know them.

    python examples/todo_actions.py

The server is `patches-server --route 'lists/*=replay'`, without any code of the application: it
keeps the order and the log. Whoever commits an action has run it. With
`--actions examples.todo_actions:actions` the same server would run them itself.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from aiohttp import web

from patches import Patches, PatchesSync
from patches.algorithms.replay import Actions, ReplayAlgorithm, ReplayDoc, Tx
from patches.rows import Schema
from patches_server import allow_all, create_app
from patches_server.replay.algorithm import replay

MOST = 5
DOC = "lists/home"

schema = Schema("todos")
actions = Actions(schema)


@schema.table("todos", identity=("slot",))
class Todo:
    """One thing to do."""

    id: str
    slot: str
    title: str
    done: bool = False


class ListFullError(Exception):
    """A list holds so many and no more."""


@actions.define("add_todo")
def add_todo(tx: Tx, *, slot: str, title: str) -> str:
    """Add one, if the list has room."""
    if tx.todos.count(done=False) >= MOST:
        raise ListFullError(f"finish something first: there are {MOST}")
    return tx.todos.insert(slot=slot, title=title)


@actions.define("finish")
def finish(tx: Tx, *, title: str) -> int:
    """Finish all with this title."""
    found = tx.todos.where(title=title, done=False)
    for todo in found:
        tx.todos.update(todo["id"], done=True)
    return len(found)


async def opened(patches: Patches) -> ReplayDoc:
    """The list."""
    doc = await patches.open_doc(DOC, algorithm="replay")
    assert isinstance(doc, ReplayDoc)
    return doc


async def reached(doc: ReplayDoc, rev: int) -> None:
    """Wait until all that was committed up to a revision is here."""
    async with asyncio.timeout(30):
        async for _ in doc:
            if doc.committed_rev >= rev:
                return


def shown(doc: ReplayDoc) -> list[str]:
    """What is still to do, read with SQL."""
    rows = doc.sql("SELECT title FROM todos WHERE done = ? ORDER BY title", False)
    return [row["title"] for row in rows]


async def main(folder: Path) -> int:
    """Run the example; the exit status."""
    app = create_app(
        folder / "server.db",
        auth=allow_all,
        algorithms=[replay()],
        routes={"lists/*": "replay"},
    )
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    async with (
        Patches(folder / "ann.db", algorithms=[ReplayAlgorithm(actions)]) as ann,
        Patches(folder / "bob.db", algorithms=[ReplayAlgorithm(actions)]) as bob,
    ):
        hers, his = await opened(ann), await opened(bob)
        for number, title in enumerate(("Milk", "Bread", "Tea", "Soap")):
            hers.run(add_todo, slot=f"ann{number}", title=title)
        await asyncio.sleep(0.01)
        async with PatchesSync(bob, url) as his_sync:
            for number, title in enumerate(("Milk", "Stamps")):
                his.run(add_todo, slot=f"bob{number}", title=title)
            await his_sync.settled(30)
            print(f"Bob, online: {shown(his)}")
            print(f"Ann, offline: {shown(hers)}")
            his.on_action_failed(lambda _id, name, message: print(f"Bob's {name}: {message}"))
            async with PatchesSync(ann, url) as her_sync:
                await her_sync.settled(30)
                await reached(his, hers.committed_rev)
                print(f"after the merge: {shown(hers)}")
                print(f"{hers.run(finish, title='Milk')} were finished")
                await her_sync.settled(30)
                await reached(his, hers.committed_rev)
        is_equal = hers.state == his.state
        print("equal" if is_equal else "DIFFERENT")
    await runner.cleanup()
    return 0 if is_equal else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(asyncio.run(main(Path(temporary))))

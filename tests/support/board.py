"""A declaration for tests, and clients of a `TableServer` that keep documents of it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from patches.algorithms.collections import (
    Collection,
    Collections,
    CollectionsAlgorithm,
    CollectionsDoc,
    Tx,
)
from patches.client.patches import Patches
from patches.errors import InvalidError
from patches.model.json_values import Json, Op
from patches.rows.condition_syntax import F
from patches.rows.row_ops import Row, delete_op
from patches.runtime import Runtime
from patches.sync import PatchesSync
from patches.testing.fake_connection import FakeConnection
from patches.testing.virtual_time import idle
from tests.support.sync_scene import NoJitter
from tests.support.table_server import TableServer

board = Collections("board")


def no_shouting(type: str, row: Row, ctx: object) -> None:
    if type != "delete" and str(row["title"]).isupper():
        raise InvalidError("a title is not shouted")


@board.table("tasks", validate=no_shouting)
class Task:
    id: str
    title: str
    votes: int = 0
    done: bool = False
    list_id: str | None = None


@board.table("lists")
class TaskList:
    id: str
    name: str


@board.table("items", sync="on_demand")
class Item:
    id: str
    category: str
    votes: int = 0


@board.store("messages", kind="event")
class Message:
    role: Literal["user", "assistant"]
    content: str

    def validate_update(action: str, row: Row) -> None:  # type: ignore[misc]  # noqa: N805
        if action == "create" and row["role"] != "user":
            raise InvalidError("only user messages can be created")
        if action == "update":
            raise InvalidError("messages are created and deleted, not changed")


@board.store("account", kind="singular")
class Account:
    theme: Literal["light", "dark"] = "light"


@board.action("clear_done")
def clear_done(tx: Tx) -> None:
    for task in tx.tasks.where(F.done == True):  # noqa: E712  # makes a condition
        tx.tasks.delete(str(task["id"]))


def server_of(board_rows: Mapping[str, Mapping[str, Row]] | None = None) -> TableServer:
    """A server of the board, with rows at revision 1 if there are some."""
    server = TableServer("tasks", "lists", "account", on_demand=["items", "messages"])

    def clear() -> list[Op]:
        return [delete_op("tasks", key) for key, row in server.rows["tasks"].items() if row["done"]]

    server.actions["clear_done"] = clear
    for name, rows in (board_rows or {}).items():
        server.rows[name].update({key: dict(row) for key, row in rows.items()})
        server.touched |= {(name, key): 1 for key in rows}
        server.rev = 1
    return server


def task(key: str, title: str = "t", **columns: Json) -> Row:
    """A row of `tasks`."""
    return {"id": key, "title": title, "votes": 0, "done": False, "list_id": None, **columns}


def item(key: str, category: str = "c", votes: int = 0) -> Row:
    """A row of `items`."""
    return {"id": key, "category": category, "votes": votes}


@dataclass(eq=False)
class Client:
    """A client with the document open."""

    patches: Patches
    sync: PatchesSync
    connection: FakeConnection
    doc: CollectionsDoc
    errors: list[Exception] = field(default_factory=list)

    @property
    def tasks(self) -> Collection:
        return self.doc.collection(Task)

    @property
    def items(self) -> Collection:
        return self.doc.collection(Item)

    async def settled(self) -> None:
        await self.sync.settled(60)
        await idle()


@asynccontextmanager
async def client_of(
    server: TableServer, *, store: Any = None, connect: bool = True, seed: int = 1
) -> AsyncIterator[Client]:
    """A client, in sync with the server unless told otherwise."""
    runtime = Runtime(random=NoJitter(seed), wall_ms=lambda: 1_000_000)
    async with AsyncExitStack() as stack:
        patches = await stack.enter_async_context(
            Patches(
                store, algorithms=[CollectionsAlgorithm(board, runtime=runtime)], runtime=runtime
            )
        )
        connection = server.connection()
        sync = PatchesSync(patches, connection)
        doc = await patches.open_doc("d", algorithm="collections")
        assert isinstance(doc, CollectionsDoc)
        client = Client(patches, sync, connection, doc)
        sync.on_error(lambda error, _context: client.errors.append(error))
        if connect:
            await sync.connect()
            await client.settled()
        try:
            yield client
        finally:
            await sync.disconnect()


def seeded(seed: int) -> random.Random:
    """A source of randomness."""
    return random.Random(seed)

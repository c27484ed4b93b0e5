"""A running server of the board of `tests.support.board`, and clients that follow it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patches.algorithms.collections import CollectionsAlgorithm, CollectionsDoc
from patches.algorithms.replay import ReplayAlgorithm
from patches.errors import DeniedError
from patches.rows.row_ops import Row
from patches.testing.fixtures import ClientFixture, ServerFixture
from patches_server.collections import (
    Caller,
    CollectionsServer,
    RowWrite,
    SQLiteEngine,
    collections,
)
from patches_server.replay.algorithm import replay
from tests.algorithms.replay.a_board import a_board
from tests.support.board import Item, Task, board

DOC = "board/1"

todos = a_board(limit=1_000)


@dataclass(eq=False)
class Member:
    """A client with the document open."""

    client: ClientFixture
    doc: CollectionsDoc

    def __getattr__(self, name: str) -> Any:
        return getattr(self.doc, name)

    @property
    def tasks(self) -> Any:
        return self.doc.collection(Task)

    @property
    def items(self) -> Any:
        return self.doc.collection(Item)


class Stage:
    """A server with the board, and clients that follow it."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.documents = CollectionsServer(board, engine=SQLiteEngine(folder))
        for table in ("tasks", "lists", "items"):
            for kind in ("insert", "update", "delete"):
                if (table, kind) != ("tasks", "insert"):
                    self.documents.authorize(table, kind, self.documents.ANYONE)

        @self.documents.authorize("tasks", "insert")
        def not_this(_ctx: Caller, op: RowWrite) -> None:
            if op.row["title"] == "forbidden":
                raise DeniedError("not this title")

        @self.documents.action("clear_done")
        def clear(sql: Any, ctx: Any) -> None:
            sql("DELETE FROM tasks WHERE done")

        self.server = ServerFixture(
            {
                "algorithms": [collections(self.documents), replay(todos)],
                "routes": {"board/*": "collections", "lists/*": "replay", "lww/*": "lww"},
            }
        )

    async def start(self) -> None:
        await self._stack.enter_async_context(self.server)

    async def member(
        self, *, connect: bool = True, websocket: bool = True, **options: Any
    ) -> Member:
        algorithm = CollectionsAlgorithm(board, **options.pop("algorithm", {}))
        client = await self.server.client(
            algorithms=[algorithm, ReplayAlgorithm(todos)],
            connect=connect,
            websocket=websocket,
            **options,
        )
        doc = await client.open_doc(DOC, algorithm="collections")
        assert isinstance(doc, CollectionsDoc)
        if connect:
            async with asyncio.timeout(10):
                await client.sync.settled()
        return Member(client, doc)

    async def write(self, *statements: str) -> None:
        """SQL of the server's own."""

        def run(sql: Any) -> None:
            for statement in statements:
                sql(statement)

        await self.documents.write(DOC, run)

    async def rows(self, table: str) -> dict[str, Row]:
        """The table as the server has it."""
        found = await self.documents.write(DOC, lambda sql: sql(f"SELECT * FROM {table}"))
        return {row["id"]: row for row in found}


async def until(condition: Any) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # of anything that shows, on any client
            await asyncio.sleep(0.005)


async def fill_items(stage: Stage, count: int) -> None:
    """Items in two categories, with votes of their own."""
    values = ", ".join(f"('i{n:04}', '{'ab'[n % 2]}', {n * 7 % count})" for n in range(count))
    await stage.write(f"INSERT INTO items (id, category, votes) VALUES {values}")

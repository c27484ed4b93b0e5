"""The server of collections: commits of one row, beside SQLite alone and our own LWW documents.

All of it in one process, on files, with relaxed durability: 64 callers wait for their commits at
any time, as they do on a server.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Contender, Workload
from patches.algorithms.collections import Collections
from patches.model.change import ChangeInput
from patches_server.collections import CollectionsServer, SQLiteEngine
from patches_server.documents.context import CallContext, call_context
from patches_server.documents.document_server import DocumentServer
from patches_server.lww import LWWServer
from patches_server.stores.sqlite.backend import SqliteBackend

COMMITS = 5_000
CALLERS = 64
DOC = "board/1"

board = Collections("board")


@board.table("tasks")
class Task:
    """A row of ordinary size."""

    id: str
    title: str
    votes: int = 0


def workloads() -> Iterator[Workload]:
    yield Workload(
        title="commits of one row",
        unit="commit",
        units=COMMITS,
        contenders=(
            Contender(name="SQLite alone", setup=_folder, run=_bare, rounds=3),
            Contender(name="server.write", setup=_folder, run=partial(_in_loop, _write), rounds=3),
            Contender(
                name="commit_changes", setup=_folder, run=partial(_in_loop, _commit), rounds=3
            ),
            Contender(name="LWW", setup=_folder, run=partial(_in_loop, _commit_lww), rounds=3),
        ),
    )


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def _bare(folder: tempfile.TemporaryDirectory[str]) -> None:
    with closing(sqlite3.connect(Path(folder.name) / "bare.db", isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("PRAGMA synchronous=NORMAL")
        conn.execute("CREATE TABLE tasks (id TEXT PRIMARY KEY, title TEXT, votes INTEGER)")
        for number in range(COMMITS):
            conn.execute("BEGIN IMMEDIATE")
            conn.execute("INSERT INTO tasks VALUES (?, ?, ?)", (f"t{number}", "Task", number))
            conn.execute("COMMIT")


def _in_loop(
    work: Callable[[Path], Awaitable[None]], folder: tempfile.TemporaryDirectory[str]
) -> None:
    async def run() -> None:
        await work(Path(folder.name))

    asyncio.run(run())


async def _callers(one: Callable[[int], Awaitable[Any]]) -> None:
    numbers = iter(range(COMMITS))

    async def call() -> None:
        for number in numbers:
            await one(number)

    await asyncio.gather(*(call() for _ in range(CALLERS)))


async def _write(folder: Path) -> None:
    async with _server(folder) as server:

        def insert(number: int, sql: Any) -> None:
            sql("INSERT INTO tasks VALUES (?, ?, ?)", f"t{number}", "Task", number)

        await _callers(lambda number: server.write(DOC, partial(insert, number)))


async def _commit(folder: Path) -> None:
    async with _server(folder) as server:
        await _callers(partial(_commit_row, server))


async def _commit_lww(folder: Path) -> None:
    backend = SqliteBackend(folder / "server.db", durability="relaxed")
    await _callers(partial(_commit_row, LWWServer(backend)))
    await backend.close()


def _server(folder: Path) -> CollectionsServer:
    server = CollectionsServer(board, engine=SQLiteEngine(folder / "boards", durability="relaxed"))
    server.authorize("tasks", "insert", server.ANYONE)
    return server


async def _commit_row(server: DocumentServer, number: int) -> None:
    row = {"id": f"t{number}", "title": "Task", "votes": number}
    op: dict[str, Any] = {"op": "add", "path": f"/tasks/t{number}", "value": row}
    if server.name == "lww":
        op |= {"op": "replace", "ts": 1_700_000_000_000 + number}
    change = ChangeInput(id=f"c{number}", ops=[op])
    with call_context(CallContext(connection_id=f"caller {number % CALLERS}")):
        await server.commit_changes(DOC, [change])

"""A client of collections: opening a large table, and following a window over it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.harness import Contender, Workload
from patches.algorithms.collections import Collections, CollectionsAlgorithm, CollectionsDoc
from patches.algorithms.collections.stores.memory import CollectionsMemoryStore
from patches.algorithms.collections.stores.sqlite import CollectionsSqliteStore
from patches.algorithms.collections.transactions import Step
from patches.algorithms.lww import LWWAlgorithm
from patches.algorithms.lww.stores.sqlite import LWWSqliteStore
from patches.model import codec
from patches.model.change import Change, Snapshot
from patches.rows.row_ops import Row
from patches.stores.sqlite.database import SqliteDatabase

ROWS = 50_000
WRITES = 2_000
DOC = "board/1"

board = Collections("board")


@board.table("tasks")
class Task:
    """A row of ordinary size."""

    id: str
    owner: str
    title: str
    votes: int = 0
    done: bool = False


def rows() -> dict[str, Row]:
    """The table."""
    source = random.Random(1)
    return {
        f"t{number:06}": {
            "id": f"t{number:06}",
            "owner": f"u{number % 50}",
            "title": f"Task number {number}",
            "votes": source.randrange(10_000),
            "done": number % 3 == 0,
        }
        for number in range(ROWS)
    }


def workloads() -> Iterator[Workload]:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_filled(Path(folder)))
        yield Workload(
            title=f"open a document of {ROWS:,} rows from SQLite",
            unit="rows",
            units=ROWS,
            contenders=(
                Contender(name="collections", run=partial(_open, Path(folder)), rounds=3),
                Contender(name="LWW", run=partial(_open_lww, Path(folder)), rounds=3),
                Contender(name="SELECT and decode", run=partial(_select, Path(folder)), rounds=3),
            ),
        )
    yield Workload(
        title=f"install {ROWS:,} rows that the server sent, as JSON, in memory",
        unit="rows",
        units=ROWS,
        contenders=(
            Contender(name="collections", setup=lambda: codec.encode(rows()), run=_install),
        ),
    )
    yield Workload(
        title=f"one committed write at a time to a table of {ROWS:,} rows",
        unit="writes",
        units=WRITES,
        contenders=(
            Contender(name="live top 50", setup=partial(_followed, 50), run=_follow, rounds=3),
            Contender(
                name="all rows, live",
                setup=partial(_followed, None, 100),
                run=_follow,
                rounds=1,
                units=100,
            ),
            Contender(name="no query", setup=partial(_followed, 0), run=_follow, rounds=3),
        ),
    )


async def _filled(folder: Path) -> None:
    state = {"tasks": rows()}
    database = SqliteDatabase(folder / "collections.db")
    collections = CollectionsAlgorithm(board, CollectionsSqliteStore(database))
    await collections.track_docs([DOC])
    await collections.install_snapshot(DOC, Snapshot(state=state, rev=1), None)
    await database.close()
    database = SqliteDatabase(folder / "lww.db")
    lww = LWWAlgorithm(LWWSqliteStore(database))
    await lww.track_docs([DOC])
    await lww.install_snapshot(DOC, Snapshot(state=state, rev=1), None)
    await database.close()


def _open(folder: Path, _: object) -> None:
    async def opened() -> None:
        database = SqliteDatabase(folder / "collections.db")
        algorithm = CollectionsAlgorithm(board, CollectionsSqliteStore(database))
        doc = algorithm.create_doc(DOC, await algorithm.load_doc(DOC))
        assert len(doc.collection(Task)) == ROWS
        await database.close()

    asyncio.run(opened())


def _open_lww(folder: Path, _: object) -> None:
    async def opened() -> None:
        database = SqliteDatabase(folder / "lww.db")
        algorithm = LWWAlgorithm(LWWSqliteStore(database))
        doc = algorithm.create_doc(DOC, await algorithm.load_doc(DOC))
        assert len(doc.state["tasks"]) == ROWS
        await database.close()

    asyncio.run(opened())


def _select(folder: Path, _: object) -> None:
    with closing(sqlite3.connect(folder / "collections.db")) as db:
        found = db.execute("SELECT key, row FROM collections_rows")
        assert len({key: codec.decode(row) for key, row in found}) == ROWS


def _install(encoded: bytes) -> None:
    async def installed() -> None:
        algorithm = CollectionsAlgorithm(board, CollectionsMemoryStore())
        await algorithm.track_docs([DOC])
        doc = algorithm.create_doc(DOC, await algorithm.load_doc(DOC))
        state = {"tasks": codec.decode(encoded)}
        await algorithm.install_snapshot(DOC, Snapshot(state=state, rev=1), doc)
        assert len(doc.collection(Task)) == ROWS

    asyncio.run(installed())


@dataclass
class _Followed:
    doc: CollectionsDoc
    changes: list[Change]


def _followed(limit: int | None, writes: int = WRITES) -> _Followed:
    async def made() -> CollectionsDoc:
        algorithm = CollectionsAlgorithm(board, CollectionsMemoryStore())
        doc = algorithm.create_doc(DOC, Snapshot(state={"tasks": rows()}, rev=1))
        if limit != 0:
            query = doc.collection(Task).order_by("votes", desc=True)
            query = query if limit is None else query.limit(limit)
            query.subscribe(lambda _rows: None)
        return doc

    source = random.Random(2)
    changes = [
        Change(
            id=f"c{rev}",
            ops=[
                {
                    "op": "replace",
                    "path": f"/tasks/t{source.randrange(ROWS):06}/votes",
                    "value": source.randrange(10_000),
                }
            ],
            base_rev=rev - 1,
            rev=rev,
            created_at=1,
            committed_at=1,
        )
        for rev in range(2, writes + 2)
    ]
    return _Followed(asyncio.run(made()), changes)


def _follow(followed: _Followed) -> None:
    doc = followed.doc
    for change in followed.changes:
        doc.follow(
            Step(
                before=doc.version,
                after=doc.version,
                committed_rev=change.rev,
                accepted=[change],
            )
        )

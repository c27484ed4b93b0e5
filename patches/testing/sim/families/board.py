"""The documents of `CollectionsFamily`: their declaration, and the server's half of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from patches.algorithms.collections import Collections, Tx
from patches.errors import DeniedError
from patches.model.json_values import Json
from patches.rows.condition_syntax import F, claim
from patches_server.collections import CollectionsServer, RowWrite
from patches_server.collections.calls import Caller

#: All rows of a document, by table and key.
Tables: TypeAlias = dict[str, dict[str, dict[str, Json]]]

board: Final = Collections("simulated board", version=1)

COUNTER: Final = "all"
#: So much at once the server refuses, after it has counted.
TOO_MUCH: Final = 5
#: A title that the server refuses.
FORBIDDEN: Final = "forbidden"
#: What users load of the cards: the first few, and those of one shelf.
SHELVES: Final = ("a", "b", "c")


@board.table("tasks", visible=(F.private == False) | (F.owner == claim.user_id))  # noqa: E712  # makes a condition
class Task:
    """Anybody may write it; some are seen by their owner alone."""

    id: str
    owner: str
    title: str
    votes: int = 0
    private: bool = False


@board.table("notes")
class Note:
    """Nobody changes or deletes it: in the end each is there, or was refused."""

    id: str
    mark: str


@board.table("counters")
class Counter:
    """Counted by actions: each call counts once."""

    id: str
    value: int = 0


@board.table("lines")
class Line:
    """Written by the server, which shows it while it does."""

    id: str
    content: str = ""


@board.table("cards", sync="on_demand")
class Card:
    """More than a client keeps: it loads windows and shelves."""

    id: str
    shelf: str
    votes: int = 0


EAGER: Final = tuple(name for name, table in board.tables.items() if table.sync == "eager")


@board.action("count")
def count(tx: Tx, *, amount: int) -> None:
    """Shown until the server has counted."""
    row = tx.counters.get(COUNTER)
    if row is not None:
        tx.counters.update(COUNTER, value=row["value"] + amount)


@board.action("clear")
def clear(tx: Tx, *, below: int) -> None:
    """The same rows as on the server, as far as they are seen here."""
    for task in tx.tasks.where(F.votes < below):
        tx.tasks.delete(str(task["id"]))


def declare_rules(server: CollectionsServer) -> None:
    """Who may write what, and what the server makes of it."""
    for table in ("tasks", "notes", "cards"):
        for kind in ("insert", "update", "delete"):
            if (table, kind) != ("tasks", "insert"):
                server.authorize(table, kind, server.ANYONE)

    @server.authorize("tasks", "insert")
    async def not_this_title(_ctx: Caller, op: RowWrite) -> None:
        if op.row["title"] == FORBIDDEN:
            raise DeniedError("not this title")

    @server.execute("tasks", "insert")
    def insert(sql: Any, op: RowWrite, _ctx: Caller) -> None:
        names = ("id", "owner", "title", "votes", "private")
        values = {**op.row, "title": str(op.row["title"]).strip()}
        sql(
            "INSERT INTO tasks (id, owner, title, votes, private) VALUES (?, ?, ?, ?, ?)",
            *(values[name] for name in names),
        )

    @server.action("count")
    def counted(sql: Any, _ctx: Caller, *, amount: int) -> None:
        sql("UPDATE counters SET value = value + ? WHERE id = ?", amount, COUNTER)
        if amount >= TOO_MUCH:
            raise DeniedError("too much at once")

    @server.action("clear")
    def cleared(sql: Any, _ctx: Caller, *, below: int) -> None:
        sql("DELETE FROM tasks WHERE votes < ?", below)


def read_tables(sql: Any) -> Tables:
    """Everything that is in a document, in SQLite."""
    found: Tables = {}
    for name in board.tables:
        rows = sql(f"SELECT * FROM {name}")  # noqa: S608 -- declared above
        found[name] = {str(row["id"]): _typed(row) for row in rows}
    return found


def visible_to(user: str, tables: Mapping[str, Mapping[str, Any]]) -> Tables:
    """What a user gets of the eager tables: another way to say what `visible` says."""
    found = {name: dict(tables[name]) for name in EAGER}
    for key, row in tables["tasks"].items():
        if row["private"] and row["owner"] != user:
            del found["tasks"][key]
    return found


def _typed(row: Mapping[str, Any]) -> dict[str, Json]:
    return {name: bool(value) if name == "private" else value for name, value in row.items()}

"""A board of tasks: the declaration, the rules, and a running server of the tests here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from patches.algorithms.collections.declaration import Collections
from patches.errors import DeniedError, InvalidError
from patches.limits import Limits
from patches.rows import F, claim
from patches_server.auth.access import Principal, allow_all
from patches_server.collections import Caller, CollectionsServer, RowWrite, SQLiteEngine
from patches_server.documents.services import Services
from patches_server.service.server import PatchesServer
from tests.support.raw_peer import Peers, RawPeer

DOC = "board/1"


def new_declaration(*, labels: Literal["eager", "on_demand"] = "eager") -> Collections:
    board = Collections("board", version=1)

    @board.table("tasks", visible=(F.private == False) | (F.owner == claim.user_id))  # noqa: E712  # a condition
    class Task:
        id: str
        owner: str
        title: str
        votes: int = 0
        private: bool = False
        note: str | None = None
        tags: list[str] = []  # noqa: RUF012  # read once, and copied

    @board.table("labels", sync=labels)
    class Label:
        id: str
        name: str

    @board.table("cards", sync="on_demand")
    class Card:
        id: str
        category: str
        votes: int = 0

    @board.store("chat_message", kind="event")
    class ChatMessage:
        role: Literal["user", "assistant"]
        content: str

        @staticmethod
        def validate_update(action: str, row: Mapping[str, Any]) -> None:
            if action == "create" and row["role"] != "user":
                raise InvalidError("only user messages can be created")
            if action == "update":
                raise InvalidError("messages are created and deleted, not changed")

    @board.store("account", kind="singular")
    class Account:
        theme: Literal["light", "dark"] = "light"
        size: int = 1

    return board


@dataclass
class Board:
    """A running server."""

    documents: CollectionsServer
    server: PatchesServer
    mails: list[str] = field(default_factory=list)

    def peer(self, user: str | None = "u1", **claims: Any) -> RawPeer:
        principal = None if user is None else Principal(id=user, claims=claims)
        return Peers(self.server)(principal)


def add_rules(documents: CollectionsServer) -> None:
    @documents.authorize("tasks", "insert")
    async def own_only(ctx: Caller, op: RowWrite) -> None:
        if op.row["owner"] != ctx.user_id:
            raise DeniedError("owner must be you")

    documents.authorize("tasks", "update", documents.ANYONE)
    documents.authorize("tasks", "delete", documents.ANYONE)
    for kind in ("insert", "update", "delete"):
        documents.authorize("cards", kind, documents.ANYONE)

    @documents.execute("tasks", "insert")
    def add(sql: Any, op: RowWrite, ctx: Caller) -> None:
        sql(
            "INSERT INTO tasks (id, owner, title, private, votes) VALUES (?, ?, ?, ?, ?)",
            op.key,
            op.row["owner"],
            str(op.row["title"]).strip(),
            op.row["private"],
            op.row["votes"],
        )
        if op.row["title"] == "labelled":
            sql("INSERT INTO labels (id, name) VALUES (?, 'made')", f"l-{op.key}")
        if op.row["title"] == "broken":
            raise RuntimeError("the middle")

    @documents.action("clear")
    def clear(sql: Any, ctx: Caller, *, below: int) -> None:
        if below < 0:
            raise DeniedError("below zero")
        sql("DELETE FROM tasks WHERE votes < ?", below)


@asynccontextmanager
async def open_board(
    folder: Path | None = None,
    *,
    rules: bool = True,
    limits: Limits | None = None,
    **options: Any,
) -> AsyncIterator[Board]:
    engine = SQLiteEngine(folder, durability="relaxed")
    documents = CollectionsServer(new_declaration(), engine=engine, **options)
    if rules:
        add_rules(documents)
    services = {"collections": Services(documents)}
    routes = {"*": "collections"}
    async with PatchesServer(services, auth=allow_all, routes=routes, limits=limits) as server:
        yield Board(documents, server)


async def follow(peer: RawPeer, doc_id: str = DOC, **options: Any) -> dict[str, Any]:
    """Subscribe and fetch the document."""
    await peer.result("subscribe", doc_id)
    found: dict[str, Any] = await peer.result("getDoc", doc_id, options)
    return found


async def commit(
    peer: RawPeer, *ops: Any, base: int | None = None, id: str, **extra: Any
) -> list[dict[str, Any]]:
    """Commit one change; the changes of the answer."""
    change = {"id": id, "ops": list(ops), **extra}
    if base is not None:
        change["baseRev"] = base
    answer = await peer.result("commitChanges", DOC, [change])
    changes: list[dict[str, Any]] = answer["changes"]
    return changes


async def refused(peer: RawPeer, *ops: Any, id: str = "c", **extra: Any) -> dict[str, Any]:
    """The error that a change gets."""
    change = {"id": id, "ops": list(ops), **extra}
    error: dict[str, Any] = await peer.error("commitChanges", DOC, [change])
    return error


def task(key: str, **columns: Any) -> dict[str, Any]:
    """The operation that adds a task."""
    row = {"id": key, "owner": "u1", "title": "t", **columns}
    return {"op": "add", "path": f"/tasks/{key}", "value": row}

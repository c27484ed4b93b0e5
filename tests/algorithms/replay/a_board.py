"""The actions that the tests of replay use: a list of todos with a limit, and bookings."""

from __future__ import annotations

from patches.algorithms.replay import Actions, Tx
from patches.rows import F, Schema


class FullError(Exception):
    """The rule that the actions keep."""


class Todo:
    id: str
    list_id: str
    slot: str
    title: str
    done: bool = False
    note: str | None = None
    at: int = 0
    luck: float = 0.0
    audience: str = "*"


class Setting:
    id: str
    value: int
    audience: str = "*"


def a_board(*, limit: int = 3, check_purity: bool = True) -> Actions:
    """Actions of their own for each test."""
    schema = Schema("todos")
    schema.table("todos", identity=("list_id", "slot"))(Todo)
    schema.table("settings")(Setting)
    actions = Actions(schema, check_purity=check_purity)

    @actions.define("add_todo")
    def add_todo(tx: Tx, *, slot: str, title: str, list_id: str = "home") -> str:
        if tx.todos.count(list_id=list_id) >= limit:
            raise FullError(f"{list_id} is full")
        return tx.todos.insert(list_id=list_id, slot=slot, title=title, at=tx.now, luck=tx.random())

    @actions.define("rename")
    def rename(tx: Tx, *, id: str, title: str) -> bool:
        return tx.todos.update(id, title=title)

    @actions.define("set_note")
    def set_note(tx: Tx, *, id: str, note: str | None) -> None:
        tx.todos.update(id, note=note)

    @actions.define("remove")
    def remove(tx: Tx, *, id: str) -> None:
        tx.todos.delete(id)

    @actions.define("finish_all")
    def finish_all(tx: Tx) -> int:
        open_ones = tx.todos.where(F.done == False)  # noqa: E712  # makes a condition
        for row in open_ones:
            tx.todos.update(row["id"], done=True)
        return len(open_ones)

    @actions.define("number")
    def number(tx: Tx) -> None:
        for place, row in enumerate(tx.todos.all()):
            tx.sql("UPDATE todos SET title = ? WHERE id = ?", f"{place}", row["id"])

    @actions.define("nothing")
    def nothing(tx: Tx) -> None:
        pass

    @actions.define("put_setting")
    def put_setting(tx: Tx, *, id: str, value: int) -> None:
        if not tx.settings.update(id, value=value):
            tx.settings.insert(id=id, value=value)

    return actions

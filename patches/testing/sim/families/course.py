"""The course that users of the simulation book: its rows, its actions, and the rules they keep."""

from __future__ import annotations

from typing import Final

from patches.algorithms.replay import Actions, Tx
from patches.model.json_values import Json
from patches.rows import Schema

SEATS: Final = 3
EVERYBODY: Final = "*"


class RuleError(Exception):
    """What an action raises that would break a rule."""


class Seat:
    """A seat that is taken, or, where not everybody sees it, somebody's note."""

    id: str
    place: str
    who: str
    paid: bool = False
    note: str | None = None
    audience: str = EVERYBODY


class Purse:
    """Money; never less than nothing."""

    id: str
    money: int
    audience: str = EVERYBODY


def course() -> Actions:
    """The actions, which hold two rules: so many seats and no more, and no debts."""
    schema = Schema("courses")
    schema.table("seats", identity=("place",))(Seat)
    schema.table("purses")(Purse)
    actions = Actions(schema)

    @actions.define("book")
    def book(tx: Tx, *, place: str) -> str:
        if tx.seats.count(audience=EVERYBODY) >= SEATS:
            raise RuleError("no seat is left")
        return tx.seats.insert(place=place, who=tx.author or "")

    @actions.define("cancel")
    def cancel(tx: Tx) -> int:
        mine = tx.seats.where(who=tx.author or "", audience=EVERYBODY)
        for row in mine[:1]:
            tx.seats.delete(row["id"])
        return len(mine)

    @actions.define("note")
    def note(tx: Tx, *, text: str | None) -> None:
        for row in tx.seats.where(audience=EVERYBODY)[:1]:
            tx.seats.update(row["id"], note=text)

    @actions.define("earn")
    def earn(tx: Tx, *, amount: int) -> None:
        purse = tx.purses.get("p")
        if purse is None:
            tx.purses.insert(id="p", money=amount)
        else:
            tx.purses.update("p", money=purse["money"] + amount)

    @actions.define("spend")
    def spend(tx: Tx, *, amount: int) -> None:
        purse = tx.purses.get("p")
        tx.seats.insert(place="on the way", who="", audience=EVERYBODY)  # gone again if it raises
        if purse is None or purse["money"] < amount:
            raise RuleError("there is not enough money")
        tx.seats.delete(tx.id("seats", place="on the way"))
        tx.purses.update("p", money=purse["money"] - amount)

    @actions.define("remember")
    def remember(tx: Tx, *, text: str) -> None:
        tx.seats.insert(place=text, who="", note=text, audience=f"user:{tx.author}")

    @actions.define("boast")
    def boast(tx: Tx) -> None:
        """What all see depends on rows that its author alone sees."""
        key, count = f"of {tx.author}", tx.seats.count(who="")
        if not tx.purses.update(key, money=count):
            tx.purses.insert(id=key, money=count)

    @actions.define("close", rights="all", share_args=True)
    def close(tx: Tx) -> None:
        for row in tx.seats.all():
            tx.seats.update(row["id"], paid=True)

    @actions.define("nothing")
    def nothing(tx: Tx) -> None:
        pass

    return actions


def broken_rule(state: Json) -> str | None:
    """The rule that a state breaks."""
    seats = [row for row in state.get("seats", {}).values() if row["audience"] == EVERYBODY]
    if len(seats) > SEATS:
        return f"{len(seats)} seats of {SEATS} are taken"
    purse = state.get("purses", {}).get("p", {"money": 0})
    return f"the purse holds {purse['money']}" if purse["money"] < 0 else None


def visible_to(user: str, state: Json) -> dict[str, dict[str, Json]]:
    """The rows that a user may see; no tables without any."""
    audiences = audiences_of(user)
    found = {
        name: {key: row for key, row in rows.items() if row["audience"] in audiences}
        for name, rows in state.items()
    }
    return {name: rows for name, rows in found.items() if rows}


def audiences_of(user: str) -> set[str]:
    """Whom a user is one of."""
    return {EVERYBODY, f"user:{user}"}

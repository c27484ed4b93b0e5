"""Who writes, and what: what the application's rules are given. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from patches.algorithms.collections.declaration import USER, DeclaredTable, MutationType
from patches.model.json_values import Json
from patches.rows.row_ops import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who writes. `user_id` is `None` where nobody has signed in."""

    doc_id: str
    user_id: str | None = None
    claims: Mapping[str, Json] = field(default_factory=dict)
    client_id: str | None = None
    #: The connection that a change came by, `None` for the server's own.
    connection_id: str | None = None

    def known_claims(self) -> dict[str, Json]:
        """The claims, the user's id among them, as conditions ask for them."""
        return {**self.claims, USER: self.user_id}


@dataclass(slots=True, kw_only=True)
class RowWrite:
    """One write of one row, as `authorize` and `execute` get it.

    `row`: the whole row as it will be (of a deletion: as it is); `columns`: what was sent; `old`:
    the row now, or `None`. An `execute` may write something else.
    """

    type: MutationType
    table: str
    key: str
    row: Row
    columns: Mapping[str, Json]
    old: Row | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a row or a column must be when a change is carried out. `column` `None`: the row."""

    table: DeclaredTable
    key: str
    column: str | None
    value: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A write that was sent, checked against the declaration. `columns`: what was sent."""

    type: MutationType
    table: DeclaredTable
    key: str
    columns: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledAction:
    """A call of an action."""

    name: str
    args: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a handler of `server.on` gets: the latest state of one row.

    `row` is `None` of a deletion. `author` and `change_id` are those of the change that touched the
    row last, `None` where another program wrote it.
    """

    doc_id: str
    action: str
    table: str
    key: str
    row: Row | None
    rev: int
    author: str | None
    change_id: str | None

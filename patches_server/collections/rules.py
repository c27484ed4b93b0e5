"""`Rules`: what the application says about writes: rights, execution, and handlers.

Nothing is allowed until it is declared: a table and type with neither `authorize` nor `execute`
refuses the writes of clients. A store is its owner's unless something is declared.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar, get_type_hints

from patches.algorithms.collections.declaration import (
    USER,
    Collections,
    DeclaredTable,
    MutationType,
)
from patches.errors import DeniedError, InvalidRowError, OpsRefusedError, SchemaError
from patches.model.json_values import Json
from patches.rows.annotations import Check, value_type
from patches_server.collections.calls import CalledAction, Caller, Event, RowWrite

R = TypeVar("R")
_log = logging.getLogger("patches_server.collections")


class Sql(Protocol):
    """One statement in the database's own SQL. Rows come back as dicts."""

    def __call__(self, query: str, *params: Any) -> list[dict[str, Any]]: ...


Authorize: TypeAlias = Callable[[Caller, RowWrite], Awaitable[object] | object]
Execute: TypeAlias = Callable[[Sql, RowWrite, Caller], object]
AfterCommit: TypeAlias = Callable[[Caller, RowWrite], Awaitable[object] | object]
Handler: TypeAlias = Callable[[Event], Awaitable[object] | object]
_Place: TypeAlias = tuple[str, MutationType]

_TYPES: Final = ("insert", "update", "delete")
_EVENTS: Final = ("create", "update", "delete")


def anyone(_caller: Caller, _op: RowWrite) -> None:
    """Allows every write."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A handler of `server.on`. `durable`: the name of its stored cursor."""

    handler: Handler
    table: str
    actions: frozenset[str]
    durable: str | None = None


@dataclass(frozen=True, slots=True)
class ActionRule:
    """The server's half of an action, and what its arguments may be."""

    run: Callable[..., object]
    signature: inspect.Signature
    checks: dict[str, Check]

    def check(self, action: CalledAction) -> None:
        """Raises `OpsRefusedError` for arguments that it does not take."""
        try:
            self.signature.bind(None, None, **action.args)
        except TypeError as exc:
            raise OpsRefusedError(f"action {action.name}: {exc}") from None
        for name, value in action.args.items():
            check = self.checks.get(name)
            problem = check(value) if check is not None else None
            if problem is not None:
                raise OpsRefusedError(f"action {action.name}: {name}: {problem}")


class Rules:
    """The rules of one server, by table and type of write."""

    def __init__(self, declared: Collections) -> None:
        self.declared = declared
        self.authorize: dict[_Place, Authorize] = {}
        self.execute: dict[_Place, Execute] = {}
        self.after: dict[_Place, list[AfterCommit]] = {}
        self.actions: dict[str, ActionRule] = {}
        self.listeners: list[Listener] = []

    def table(self, name: str) -> DeclaredTable:
        """A declared table."""
        return self.declared.tables[name]

    def place(self, table: type | str, kind: str) -> _Place:
        """A table and a type of write. Raises `SchemaError` for one that there is not."""
        if kind not in _TYPES:
            raise SchemaError(f"a write is an insert, update or delete, not {kind!r}")
        return self.declared.table_of(table).name, kind  # type: ignore[return-value]  # one of three

    def add_authorize(self, table: type | str, kind: str, rule: Authorize) -> None:
        """Declare who may."""
        self._add(self.authorize, table, kind, rule)

    def add_execute(self, table: type | str, kind: str, rule: Execute) -> None:
        """Declare what is executed."""
        if inspect.iscoroutinefunction(rule):
            raise SchemaError(f"execute of {table!r} is a plain function, not a coroutine")
        self._add(self.execute, table, kind, rule)

    def add_action(self, name: str, run: Callable[..., object]) -> None:
        """Declare the server's half of an action. Raises `SchemaError`."""
        if name in self.actions:
            raise SchemaError(f"action {name!r} is declared twice")
        if inspect.iscoroutinefunction(run):
            raise SchemaError(f"action {name!r} is a plain function, not a coroutine")
        signature = inspect.signature(run)
        checks: dict[str, Check] = {}
        for argument, annotation in get_type_hints(run).items():
            parameter = signature.parameters.get(argument)
            if parameter is not None and parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                try:
                    checks[argument] = value_type(annotation).check
                except TypeError as exc:
                    raise SchemaError(f"action {name!r}: {argument}: {exc}") from exc
        self.actions[name] = ActionRule(run, signature, checks)

    def add_listener(
        self, table: type | str, actions: tuple[str, ...], durable: str | None, handler: Handler
    ) -> None:
        """Declare a handler of what was committed. Raises `SchemaError`."""
        if not actions or not set(actions) <= set(_EVENTS):
            raise SchemaError(f"a handler is called for create, update, delete, not {actions!r}")
        if durable is not None and any(each.durable == durable for each in self.listeners):
            raise SchemaError(f"two handlers have the cursor {durable!r}")
        name = self.declared.table_of(table).name
        self.listeners.append(Listener(handler, name, frozenset(actions), durable))

    def rule_of(self, table: DeclaredTable, kind: MutationType) -> Authorize | None:
        """Who may: `None` is everybody, because what is executed decides.

        Raises `DeniedError` where nothing is declared.
        """
        place = (table.name, kind)
        if place in self.authorize:
            return self.authorize[place]
        if place in self.execute:
            return None
        if table.kind != "table":
            return _owner_only
        raise DeniedError(f"{kind} of {table.name} is not allowed")

    def _add(self, rules: dict[_Place, R], table: type | str, kind: str, rule: R) -> None:
        place = self.place(table, kind)
        if place in rules:
            raise SchemaError(f"{place[0]}, {place[1]}: declared twice")
        rules[place] = rule


def _owner_only(caller: Caller, op: RowWrite) -> None:
    if caller.user_id is None:
        raise DeniedError(f"sign in to write to {op.table}")
    if op.row[USER] != caller.user_id or (op.old is not None and op.old[USER] != caller.user_id):
        raise DeniedError(f"the record of {op.table} is another user's")


async def require(rule: Authorize, caller: Caller, op: RowWrite, timeout_s: float) -> None:
    """Run one rule. Raises what it raises, `TimeoutError`."""
    answer = rule(caller, op)
    if inspect.isawaitable(answer):
        async with asyncio.timeout(timeout_s):
            await answer


def validate(table: DeclaredTable, kind: MutationType, row: Json, caller: Caller | None) -> None:
    """The rule of the declaration about a row."""
    if table.validate is not None:
        if not isinstance(row, dict):
            raise InvalidRowError(table.name, None, "no row")
        table.validate(kind, row, caller)

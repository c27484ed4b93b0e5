"""`Collections`: the tables, stores and actions of a kind of document. Shared by client and server.

    board = Collections("board", version=1)

    @board.table("tasks", visible=(F.private == False) | (F.owner == claim.user_id))
    class Task:
        id: str
        owner: str
        title: str
        private: bool = False

The class stays as it is: annotations and defaults are read from it, nothing is added. Pure.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

from patches.errors import InvalidError, PatchesError, SchemaError
from patches.rows.conditions import Claim, Comparison, Condition
from patches.rows.row_ops import Row
from patches.rows.schema import KEY, Schema, Table

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

Sync: TypeAlias = Literal["eager", "on_demand"]
TableKind: TypeAlias = Literal["table", "event", "singular"]
MutationType: TypeAlias = Literal["insert", "update", "delete"]

#: The columns that a store has beside those of its class.
USER: Final = "user_id"
CREATED: Final = "created_at"


class WriteContext(Protocol):
    """Who writes; `None` where it is not known, as on a client."""

    @property
    def user_id(self) -> str | None:
        """The signed-in user."""


#: Called with the type of a mutation, the row and who writes; raises `InvalidError` to refuse.
Validate: TypeAlias = Callable[[MutationType, Row, WriteContext | None], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTable:
    """One table: its columns, how it is synced, who sees its rows, and what it refuses."""

    table: Table
    declared: type
    kind: TableKind = "table"
    sync: Sync = "eager"
    managed: bool = True
    visible: Condition | None = None
    validate: Validate | None = None

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @property
    def key(self) -> str:
        """The column that is the key."""
        return self.table.key


class Collections:
    """A declaration. Made when a module is imported and shared from then on."""

    def __init__(self, name: str, *, version: int = 1) -> None:
        self.name: Final = name
        self.version: Final = version
        self.schema: Final = Schema(name, version=version)
        self._tables: dict[str, DeclaredTable] = {}
        self._by_class: dict[type, DeclaredTable] = {}
        self._actions: dict[str, Callable[..., object]] = {}

    @property
    def tables(self) -> Mapping[str, DeclaredTable]:
        """The tables and stores by name."""
        return MappingProxyType(self._tables)

    @property
    def actions(self) -> Mapping[str, Callable[..., object]]:
        """The optimistic halves of the actions that have one, by name."""
        return MappingProxyType(self._actions)

    @property
    def on_demand(self) -> frozenset[str]:
        """The tables whose rows come by subsets alone."""
        return frozenset(name for name, table in self._tables.items() if table.sync == "on_demand")

    def table_of(self, declared: type | str) -> DeclaredTable:
        """The table that a class declares, or of a name. Raises `SchemaError`."""
        if isinstance(declared, str):
            found = self._tables.get(declared)
        else:
            found = self._by_class.get(declared)
        if found is None:
            shown = repr(declared) if isinstance(declared, str) else declared.__name__
            raise SchemaError(
                f"{shown} is no table of {self.name!r}; there are {', '.join(self._tables)}"
            )
        return found

    def table(
        self,
        name: str,
        *,
        key: str = KEY,
        sync: Sync = "eager",
        managed: bool = True,
        visible: Condition | None = None,
        validate: Validate | None = None,
    ) -> Callable[[type[T]], type[T]]:
        """Declare a table from a class. Raises `SchemaError`, naming what is wrong."""
        if sync not in ("eager", "on_demand"):
            raise SchemaError(f"table {name!r}: sync is 'eager' or 'on_demand', not {sync!r}")

        def declare(declared: type[T]) -> type[T]:
            self.schema.table(name, key=key)(declared)
            self._add(
                DeclaredTable(
                    table=self.schema.tables[name],
                    declared=declared,
                    sync=sync,
                    managed=managed,
                    visible=visible,
                    validate=validate or _validate_of_model(declared),
                )
            )
            return declared

        return declare

    def store(
        self,
        name: str,
        *,
        kind: Literal["event", "singular"],
        sync: Sync | None = None,
        visible: Condition | None = None,
    ) -> Callable[[type[T]], type[T]]:
        """Declare records that belong to a user: any number of them, or one.

        The table has the columns `id`, `user_id` and `created_at` beside those of the class. Event
        stores come on demand, newest first, unless `sync` says otherwise. Raises `SchemaError`.
        """
        if kind not in ("event", "singular"):
            raise SchemaError(f"store {name!r}: kind is 'event' or 'singular', not {kind!r}")

        def declare(declared: type[T]) -> type[T]:
            self.schema.table(name)(_with_store_columns(declared))
            update = inspect.getattr_static(declared, "validate_update", None)
            self._add(
                DeclaredTable(
                    table=self.schema.tables[name],
                    declared=declared,
                    kind=kind,
                    sync=sync or ("on_demand" if kind == "event" else "eager"),
                    visible=visible or Comparison("=", USER, Claim(USER)),
                    validate=_validate_of_store(kind, _plain(update)),
                )
            )
            return declared

        return declare

    def action(self, name: str) -> Callable[[F], F]:
        """Declare the optimistic half of an action: what is shown until the server has answered.

        It gets `tx` and the arguments, and runs again whenever rows change. Raises `SchemaError`.
        """

        def declare(function: F) -> F:
            if name in self._actions:
                raise SchemaError(f"action {name!r} is declared twice")
            if inspect.iscoroutinefunction(function):
                raise SchemaError(f"action {name!r} is a plain function, not a coroutine")
            self._actions[name] = function
            return function

        return declare

    def action_name(self, action: Callable[..., object] | str) -> str:
        """The name of an action, from it or its optimistic half. Raises `SchemaError`."""
        if isinstance(action, str):
            return action
        for name, function in self._actions.items():
            if function is action:
                return name
        raise SchemaError(f"{action!r} is not an action of {self.name!r}")

    def _add(self, table: DeclaredTable) -> None:
        if table.visible is not None:
            table.visible.check(table.table)
        self._tables[table.name] = table
        self._by_class[table.declared] = table


class Declarations:
    """The declarations of a client's documents: one for all, or by pattern of the document's id."""

    def __init__(self, given: Collections | Mapping[str, Collections]) -> None:
        self._by_pattern = {"*": given} if isinstance(given, Collections) else dict(given)

    def of(self, doc_id: str) -> Collections:
        """That of the first pattern that matches. Raises `PatchesError` if none does."""
        for pattern, declaration in self._by_pattern.items():
            if fnmatchcase(doc_id, pattern):
                return declaration
        raise PatchesError(
            f"no collections are declared for document {doc_id!r}, only for "
            f"{', '.join(self._by_pattern)}"
        )


def _with_store_columns(declared: type) -> type:
    annotations = {KEY: str, USER: str, CREATED: int}
    return type(declared.__name__, (declared,), {"__annotations__": annotations, CREATED: 0})


def _plain(function: object) -> Callable[..., object] | None:
    inner = getattr(function, "__func__", function)
    return inner if callable(inner) else None


_STORE_ACTIONS: Final[Mapping[MutationType, str]] = {
    "insert": "create",
    "update": "update",
    "delete": "delete",
}


def _validate_of_store(
    kind: TableKind, validate_update: Callable[..., object] | None
) -> Validate | None:
    """`validate_update(action, row)`; without one, an event is not changed."""
    if validate_update is None and kind == "singular":
        return None

    def validate(type: MutationType, row: Row, ctx: WriteContext | None) -> None:
        if validate_update is not None:
            validate_update(_STORE_ACTIONS[type], row)
        elif type == "update":
            raise InvalidError("events are created and deleted, not changed")

    return validate


def _validate_of_model(declared: type) -> Validate | None:
    """A class with `model_validate`, as pydantic's are, checks its rows itself."""
    check: Any = getattr(declared, "model_validate", None)
    if check is None:
        return None

    def validate(type: MutationType, row: Row, ctx: WriteContext | None) -> None:
        if type != "delete":
            try:
                check(row)
            except ValueError as exc:
                raise InvalidError(f"{declared.__name__}: {exc}") from exc

    return validate


def completing(declaration: Collections) -> Callable[[str, Row], Row]:
    """The function that adds to a row what its table has declared since, with defaults."""

    def complete(table: str, row: Row) -> Row:
        declared = declaration.tables.get(table)
        if declared is None:
            return row
        defaults = {
            name: column.default
            for name, column in declared.table.columns.items()
            if name not in row and (column.has_default or column.nullable)
        }
        return {**row, **defaults} if defaults else row

    return complete

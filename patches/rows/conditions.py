"""Conditions over the columns of a row: written with `F`, sent as JSON, tried in Python and in SQL.

    (F.owner == claim.user_id) & (F.votes > 10)
    ["and", ["=", "owner", {"claim": "user_id"}], [">", "votes", 10]]

Both ways of trying have one meaning, which is neither Python's nor SQL's:

- a comparison with null is false, so that `~(F.votes > 10)` holds for a row without votes;
- nothing is converted: a string, a number and a boolean are never equal, and none is below another;
- only numbers and strings are ordered, strings by code point;
- `contains` and `prefix` are about strings, letter by letter.

A condition has at most 32 nodes and is at most 8 deep.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from patches.errors import InvalidConditionError
from patches.model.json_values import Json
from patches.rows.annotations import Kind
from patches.rows.row_ops import Row
from patches.rows.scalars import Scalar, bound_scalar, checked_scalar, class_of, is_usable
from patches.rows.schema import Column, Table

Claims: TypeAlias = Mapping[str, Json]
#: An SQL expression that is 0 or 1, never null, and its parameters.
Sql: TypeAlias = tuple[str, list[Scalar]]
Comparator: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "prefix", "contains"]

MAX_NODES: Final = 32
MAX_DEPTH: Final = 8

_FALSE: Final = "0"
_NO_CLAIMS: Final[Claims] = {}
_CLASSES: Final[dict[Kind, str]] = {
    "text": "string",
    "integer": "number",
    "real": "number",
    "boolean": "boolean",
    "json": "json",
}
_ORDERS: Final[Mapping[str, Callable[[Json, Json], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Claim:
    """What is known of the signed-in user under a name; filled in where a condition is tried."""

    name: str


class Condition(ABC):
    """A condition. Combined with `&`, `|` and `~`."""

    __slots__ = ()

    @abstractmethod
    def matches(self, row: Row, claims: Claims = _NO_CLAIMS) -> bool:
        """Whether it holds for a row. A column that the row has not is null."""

    @abstractmethod
    def to_sql(self, table: Table, claims: Claims = _NO_CLAIMS) -> Sql:
        """The same as an SQL expression over the table's columns, for SQLite.

        Raises `InvalidConditionError` for a column that the table has not.
        """

    @abstractmethod
    def to_wire(self) -> Json:
        """As JSON; `parse_condition` reads it."""

    @abstractmethod
    def parts(self) -> Iterable[Condition]:
        """The conditions that it is made of; none of a comparison."""

    def columns(self) -> set[str]:
        """The columns that it uses."""
        return {column for part in self.parts() for column in part.columns()}

    def check(self, table: Table) -> None:
        """Raises `InvalidConditionError` for a column that the table has not."""
        for column in sorted(self.columns()):
            _column_of(table, column)

    def __and__(self, other: Condition) -> Condition:
        return _joined("and", self, other)

    def __or__(self, other: Condition) -> Condition:
        return _joined("or", self, other)

    def __invert__(self) -> Condition:
        return bounded(Not(self))

    def __bool__(self) -> bool:
        raise TypeError("a condition is combined with &, | and ~, in brackets, not and, or, not")


@dataclass(frozen=True, slots=True)
class Comparison(Condition):
    """A column compared with a value."""

    kind: Comparator
    column: str
    value: Scalar | Claim

    def matches(self, row: Row, claims: Claims = _NO_CLAIMS) -> bool:
        held, value = row.get(self.column), self.resolved(claims)
        if held is None or value is None:
            return False
        same = class_of(held) == class_of(value)
        if self.kind in ("=", "!="):
            return (same and held == value) == (self.kind == "=")
        if not same:
            return False
        if isinstance(held, str) and isinstance(value, str):
            if self.kind == "prefix":
                return held.startswith(value)
            if self.kind == "contains":
                return value in held
        order = _ORDERS.get(self.kind)
        return order is not None and not isinstance(held, bool) and order(held, value)

    def to_sql(self, table: Table, claims: Claims = _NO_CLAIMS) -> Sql:
        column = _column_of(table, self.column)
        value = self.resolved(claims)
        if value is None:
            return _FALSE, []
        name, same = _quoted(column), class_of(value) == _CLASSES[column.kind]
        if not same:
            return (f"({name} IS NOT NULL)", []) if self.kind == "!=" else (_FALSE, [])
        if self.kind in ("prefix", "contains"):
            if not isinstance(value, str):
                return _FALSE, []
            if not value:
                return f"({name} IS NOT NULL)", []
            # `substr` and `LIKE` stop at a NUL character.
            test = "= 1" if self.kind == "prefix" else "> 0"
            return f"coalesce(instr({name}, ?) {test}, 0)", [value]
        if isinstance(value, bool) and self.kind in _ORDERS:
            return _FALSE, []
        return f"coalesce({name} {self.kind} ?, 0)", [bound_scalar(value)]

    def resolved(self, claims: Claims) -> Scalar:
        """What the column is compared with: null where a claim is missing, or is no scalar."""
        return _resolved(self.value, claims)

    def to_wire(self) -> Json:
        return [self.kind, self.column, _wire_value(self.value)]

    def parts(self) -> Iterable[Condition]:
        return ()

    def columns(self) -> set[str]:
        return {self.column}


@dataclass(frozen=True, slots=True)
class OneOf(Condition):
    """A column that equals one of several values, or of a claim that is a list."""

    column: str
    values: tuple[Scalar, ...] | Claim

    def matches(self, row: Row, claims: Claims = _NO_CLAIMS) -> bool:
        held = row.get(self.column)
        kind = class_of(held)
        return held is not None and any(
            held == value for value in self.resolved(claims) if class_of(value) == kind
        )

    def to_sql(self, table: Table, claims: Claims = _NO_CLAIMS) -> Sql:
        column = _column_of(table, self.column)
        kind = _CLASSES[column.kind]
        values = [bound_scalar(value) for value in self.resolved(claims) if class_of(value) == kind]
        if not values:
            return _FALSE, []
        marks = ", ".join("?" * len(values))
        return f"coalesce({_quoted(column)} IN ({marks}), 0)", values

    def resolved(self, claims: Claims) -> Iterator[Scalar]:
        """The values, or those of the claim that can be compared."""
        if not isinstance(self.values, Claim):
            yield from self.values
            return
        held = claims.get(self.values.name)
        for value in held if isinstance(held, list | tuple) else ():
            if is_usable(value):
                yield value

    def to_wire(self) -> Json:
        values = self.values
        return ["in", self.column, _wire_value(values) if isinstance(values, Claim) else [*values]]

    def parts(self) -> Iterable[Condition]:
        return ()

    def columns(self) -> set[str]:
        return {self.column}


@dataclass(frozen=True, slots=True)
class IsNull(Condition):
    """A column without a value."""

    column: str

    def matches(self, row: Row, claims: Claims = _NO_CLAIMS) -> bool:
        return row.get(self.column) is None

    def to_sql(self, table: Table, claims: Claims = _NO_CLAIMS) -> Sql:
        return f"({_quoted(_column_of(table, self.column))} IS NULL)", []

    def to_wire(self) -> Json:
        return ["null", self.column]

    def parts(self) -> Iterable[Condition]:
        return ()

    def columns(self) -> set[str]:
        return {self.column}


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """The opposite of a condition."""

    part: Condition

    def matches(self, row: Row, claims: Claims = _NO_CLAIMS) -> bool:
        return not self.part.matches(row, claims)

    def to_sql(self, table: Table, claims: Claims = _NO_CLAIMS) -> Sql:
        sql, values = self.part.to_sql(table, claims)
        return f"(NOT {sql})", values

    def to_wire(self) -> Json:
        return ["not", self.part.to_wire()]

    def parts(self) -> Iterable[Condition]:
        return (self.part,)


@dataclass(frozen=True, slots=True)
class Joined(Condition):
    """All of several conditions, or one of them at least."""

    kind: Literal["and", "or"]
    items: tuple[Condition, ...]

    def matches(self, row: Row, claims: Claims = _NO_CLAIMS) -> bool:
        found = (part.matches(row, claims) for part in self.items)
        return all(found) if self.kind == "and" else any(found)

    def to_sql(self, table: Table, claims: Claims = _NO_CLAIMS) -> Sql:
        parts = [part.to_sql(table, claims) for part in self.items]
        sql = f" {self.kind.upper()} ".join(part for part, _ in parts)
        return f"({sql})", [value for _, values in parts for value in values]

    def to_wire(self) -> Json:
        return [self.kind, *(part.to_wire() for part in self.items)]

    def parts(self) -> Iterable[Condition]:
        return self.items


def _column_of(table: Table, name: str) -> Column:
    column = table.columns.get(name)
    if column is None:
        raise InvalidConditionError(
            f"table {table.name!r} has no column {name!r}; there are {', '.join(table.columns)}"
        )
    return column


def _quoted(column: Column) -> str:
    return f'"{column.name}"'


def _joined(kind: Literal["and", "or"], left: object, right: object) -> Condition:
    items: list[Condition] = []
    for part in (left, right):
        if not isinstance(part, Condition):
            raise TypeError(f"expected a condition beside {kind}, got {type(part).__name__}")
        items.extend(part.items if isinstance(part, Joined) and part.kind == kind else [part])
    return bounded(Joined(kind, tuple(items)))


def bounded(condition: Condition) -> Condition:
    """The condition, unless it is too large: `InvalidConditionError`."""
    nodes, depth = _measured(condition)
    if nodes > MAX_NODES or depth > MAX_DEPTH:
        raise InvalidConditionError(
            f"a condition has at most {MAX_NODES} nodes and is at most {MAX_DEPTH} deep; this one "
            f"has {nodes} and is {depth} deep"
        )
    return condition


def _measured(condition: Condition) -> tuple[int, int]:
    nodes, depth = 1, 0
    for part in condition.parts():
        below, deeper = _measured(part)
        nodes, depth = nodes + below, max(depth, deeper)
    return nodes, depth + 1


def _resolved(value: Scalar | Claim, claims: Claims) -> Scalar:
    """The value, or that of the claim: null where there is none, or it is no scalar."""
    if not isinstance(value, Claim):
        return value
    held = claims.get(value.name)
    return checked_scalar(held) if is_usable(held) else None


def _wire_value(value: Scalar | Claim) -> Json:
    return {"claim": value.name} if isinstance(value, Claim) else value

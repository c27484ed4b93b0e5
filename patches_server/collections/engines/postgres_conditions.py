"""Conditions over the columns of a row as PostgreSQL takes them. Pure.

They mean what `Condition.matches` says. Where Python compares what PostgreSQL would convert (a
fraction with an integer column, a number that no column holds, a string with a NUL character) the
comparison is replaced by one that is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from patches.errors import InvalidConditionError
from patches.model.json_values import Json
from patches.rows.annotations import Kind
from patches.rows.conditions import Comparison, Condition, IsNull, Joined, Not, OneOf
from patches.rows.scalars import class_of
from patches.rows.schema import Table

Claims = Mapping[str, Json]

#: How a column of each kind is compared, and the class of its values.
_TYPES: Final[dict[Kind, tuple[str, str]]] = {
    "text": ("text", "string"),
    "integer": ("bigint", "number"),
    "real": ("float8", "number"),
    "boolean": ("boolean", "boolean"),
    "json": ("jsonb", "json"),
}
_FALSE: Final = "false"
_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1
_ORDERS: Final = frozenset({"<", "<=", ">", ">="})


class Where:
    """Makes the text of conditions on one table; `params` gets their values, from `$first` on."""

    def __init__(self, table: Table, claims: Claims, params: list[Any]) -> None:
        self._table, self._claims = table, claims
        self.params: list[Any] = params

    def text_of(self, condition: Condition) -> str:
        """An expression that is true where the condition holds, and false or null elsewhere."""
        return self._text(condition, is_exact=False)

    def _text(self, condition: Condition, *, is_exact: bool) -> str:
        """With `is_exact` it is never null, as below a NOT."""
        match condition:
            case Not(part):
                return f"(NOT {self._text(part, is_exact=True)})"
            case Joined(kind, items):
                parts = [self._text(item, is_exact=is_exact) for item in items]
                return "(" + f" {kind.upper()} ".join(parts) + ")"
            case IsNull(column):
                return f"({self._column(column)[0]} IS NULL)"
            case Comparison():
                text = self._comparison(condition)
            case OneOf():
                text = self._one_of(condition)
            case _:
                raise InvalidConditionError(f"unknown condition {type(condition).__name__}")
        return f"coalesce({text}, false)" if is_exact else text

    def _column(self, name: str) -> tuple[str, Kind]:
        column = self._table.columns.get(name)
        if column is None:
            raise InvalidConditionError(f"table {self._table.name!r} has no column {name!r}")
        return f't."{column.name}"', column.kind

    def _typed(self, name: str) -> tuple[str, str, str, str]:
        column, kind = self._column(name)
        cast, known = _TYPES[kind]
        collation = ' COLLATE "C"' if kind == "text" else ""
        return column, f"{column}::{cast}{collation}", known, cast

    def _mark(self, value: Any, cast: str) -> str:
        self.params.append(value)
        return f"${len(self.params)}::{cast}"

    def _comparison(self, condition: Comparison) -> str:
        value = condition.resolved(self._claims)
        column, typed, known, cast = self._typed(condition.column)
        if value is None:
            return _FALSE
        kind: str = condition.kind
        if class_of(value) != known:
            return f"({column} IS NOT NULL)" if kind == "!=" else _FALSE
        if kind in ("prefix", "contains"):
            if not isinstance(value, str) or "\0" in value:
                return _FALSE
            function, test = ("starts_with", "") if kind == "prefix" else ("strpos", " > 0")
            return f"({function}({typed}, {self._mark(value, 'text')}){test})"
        if isinstance(value, bool) and kind in _ORDERS:
            return _FALSE
        exact = _exact(kind, value, cast)
        if isinstance(exact, bool):
            return f"({column} IS NOT NULL)" if exact else _FALSE
        kind, value = exact
        return f"({typed} {'<>' if kind == '!=' else kind} {self._mark(value, cast)})"

    def _one_of(self, condition: OneOf) -> str:
        _, typed, known, cast = self._typed(condition.column)
        values = []
        for value in condition.resolved(self._claims):
            if class_of(value) == known:
                exact = _exact("=", value, cast)
                if not isinstance(exact, bool):
                    values.append(exact[1])
        if not values:
            return _FALSE
        return f"({typed} = ANY ({self._mark(values, cast + '[]')}))"


def _exact(kind: str, value: Any, cast: str) -> bool | tuple[str, Any]:
    """The comparison that a column of a type can make in place of this one.

    A boolean: the same for every value that is not null.
    """
    if cast == "text" and "\0" in value:
        if kind in ("=", "!="):
            return kind == "!="
        # No column has such a character, so none is between the part before it and the whole.
        return ("<=" if kind in ("<", "<=") else ">"), value.partition("\0")[0]
    if cast == "bigint":
        if isinstance(value, float) and not value.is_integer():
            if kind in ("=", "!="):
                return kind == "!="
            value = math.floor(value)
            kind = "<=" if kind in ("<", "<=") else ">"
        value = int(value)
        if not _MIN_INT <= value <= _MAX_INT:
            is_below = value > 0  # every column is
            return kind == "!=" or (kind != "=" and (kind in ("<", "<=")) == is_below)
        return kind, value
    if cast == "float8":
        return kind, float(value)  # it is one exactly: conditions take no other numbers
    return kind, value

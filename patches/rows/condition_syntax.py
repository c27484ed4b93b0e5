"""How conditions are written: `F` and `claim` in Python, lists in JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from patches.errors import InvalidConditionError
from patches.model.json_values import Json
from patches.rows.conditions import (
    MAX_DEPTH,
    MAX_NODES,
    Claim,
    Comparator,
    Comparison,
    Condition,
    IsNull,
    Joined,
    Not,
    OneOf,
    bounded,
)
from patches.rows.scalars import Scalar, checked_scalar

MAX_VALUES: Final = 1_000


class _Claims:
    """`claim.user_id`, `claim["user-id"]`."""

    def __getattr__(self, name: str) -> Claim:
        if name.startswith("__"):
            raise AttributeError(name)
        return Claim(name)

    def __getitem__(self, name: str) -> Claim:
        return Claim(name)


claim: Final = _Claims()


class Field:
    """A column in a condition that is being written: `F.votes > 10`."""

    __slots__ = ("_column",)
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # `==` makes a condition

    def __init__(self, column: str) -> None:
        self._column = column

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]  # makes a condition
        return self._compared("=", value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]  # makes a condition
        return self._compared("!=", value)

    def __lt__(self, value: Scalar | Claim) -> Condition:
        return self._compared("<", value)

    def __le__(self, value: Scalar | Claim) -> Condition:
        return self._compared("<=", value)

    def __gt__(self, value: Scalar | Claim) -> Condition:
        return self._compared(">", value)

    def __ge__(self, value: Scalar | Claim) -> Condition:
        return self._compared(">=", value)

    def in_(self, values: Iterable[Scalar] | Claim) -> Condition:
        """Equal to one of `values`."""
        if isinstance(values, Claim):
            return OneOf(self._column, values)
        if isinstance(values, str):
            raise InvalidConditionError("expected several values for in, got a string")
        return _one_of(self._column, list(values))

    def prefix(self, value: str | Claim) -> Condition:
        """A string that begins with `value`."""
        return self._compared("prefix", value)

    def contains(self, value: str | Claim) -> Condition:
        """A string that has `value` in it."""
        return self._compared("contains", value)

    def is_null(self) -> Condition:
        """Without a value."""
        return IsNull(self._column)

    def __bool__(self) -> bool:
        raise TypeError(f"a column is compared with a value: F.{self._column} == True")

    def _compared(self, kind: Comparator, value: object) -> Condition:
        return Comparison(kind, self._column, _checked(kind, value))


class _Fields:
    """`F.votes`, `F["votes"]`."""

    def __getattr__(self, name: str) -> Field:
        if name.startswith("__"):
            raise AttributeError(name)
        return Field(name)

    def __getitem__(self, name: str) -> Field:
        return Field(name)


F: Final = _Fields()


def parse_condition(wire: Json) -> Condition:
    """A condition from its JSON. Raises `InvalidConditionError`, naming what is wrong."""
    return bounded(_parse(wire, MAX_DEPTH))


def _parse(wire: Json, depth: int) -> Condition:
    if depth == 0:
        raise InvalidConditionError(f"a condition is at most {MAX_DEPTH} deep")
    match wire:
        case ["and" | "or" as kind, _, *_] if len(wire) <= MAX_NODES:
            return Joined(kind, tuple(_parse(part, depth - 1) for part in wire[1:]))
        case ["not", part]:
            return Not(_parse(part, depth - 1))
        case ["null", str(column)]:
            return IsNull(column)
        case ["in", str(column), {"claim": str(name)}] if len(wire[2]) == 1:
            return OneOf(column, Claim(name))
        case ["in", str(column), list(values)]:
            return _one_of(column, values)
        case [
            "=" | "!=" | "<" | "<=" | ">" | ">=" | "prefix" | "contains" as comparator,
            str(column),
            value,
        ]:
            if isinstance(value, dict) and len(value) == 1 and isinstance(value.get("claim"), str):
                return Comparison(comparator, column, Claim(value["claim"]))
            return Comparison(comparator, column, _checked(comparator, value))
        case _:
            raise InvalidConditionError(f"not a condition: {repr(wire)[:60]}")


def _one_of(column: str, values: Sequence[object]) -> Condition:
    if len(values) > MAX_VALUES:
        raise InvalidConditionError(f"in takes at most {MAX_VALUES} values, got {len(values)}")
    return OneOf(column, tuple(checked_scalar(value) for value in values))


def _checked(kind: Comparator, value: object) -> Scalar | Claim:
    if isinstance(value, Claim):
        return value
    if kind in ("prefix", "contains") and not isinstance(value, str):
        raise InvalidConditionError(f"{kind} takes a string, got {value!r}")
    return checked_scalar(value)

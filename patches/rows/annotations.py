"""What a column's annotation means: its SQLite type, and which values it takes. Pure.

| annotation | kind | JSON |
| --- | --- | --- |
| `str` | text | string |
| `int` | integer | number, within ±(2^53 - 1) |
| `float` | real | finite number |
| `bool` | boolean | `true`, `false`, never 0 or 1 |
| `list[...]`, `dict[str, ...]`, a dataclass | json | array, object |
| `Literal[...]` | as its values | value |
| `T | None` | as `T`, nullable | `null` |
| `Any`, inside of the others | json | any JSON value |

A string has no lone surrogates: SQLite cannot hold them.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from patches.errors import InvalidValueError
from patches.model.json_values import MAX_DOUBLE, MAX_SAFE_INTEGER, Json, checked_copy

Kind: TypeAlias = Literal["text", "integer", "real", "boolean", "json"]
#: Says what is wrong with a value, or nothing.
Check: TypeAlias = Callable[[Json], str | None]

_KINDS: Final[dict[Any, Kind]] = {str: "text", int: "integer", float: "real", bool: "boolean"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueType:
    """The values that an annotation allows."""

    kind: Kind
    nullable: bool
    check: Check
    values: tuple[Json, ...] = ()  # of a Literal


def value_type(annotation: object) -> ValueType:
    """What `annotation` means. Raises `TypeError`, naming it, if it is none of the table above."""
    members, nullable = _without_none(annotation)
    if len(members) != 1:
        raise TypeError(f"{_named(annotation)}: a union is only allowed with None")
    inner = members[0]
    origin = typing.get_origin(inner)
    if origin is Literal:
        return _literal(inner, nullable=nullable)
    kind = _KINDS.get(inner, "json")
    return ValueType(kind=kind, nullable=nullable, check=_nullable(_check_of(inner), nullable))


def _without_none(annotation: object) -> tuple[list[object], bool]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = typing.get_args(annotation)
        return [member for member in members if member is not type(None)], type(None) in members
    return [annotation], False


def _literal(annotation: object, *, nullable: bool) -> ValueType:
    values = typing.get_args(annotation)
    kinds = {_KINDS.get(type(value)) for value in values if value is not None}
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is None:
        raise TypeError(f"{_named(annotation)}: the values must be of one type: str, int or bool")
    nullable = nullable or None in values
    allowed = tuple(value for value in values if value is not None)
    listed = ", ".join(map(repr, allowed))

    def check(value: Json) -> str | None:
        found = any(type(value) is type(one) and value == one for one in allowed)
        return None if found else f"expected one of {listed}, got {_shown(value)}"

    return ValueType(kind=kind, nullable=nullable, check=_nullable(check, nullable), values=allowed)


def _nullable(check: Check, nullable: bool) -> Check:
    if nullable:
        return lambda value: None if value is None else check(value)
    return check


def _check_of(annotation: object) -> Check:
    """The check of one annotation, built once."""
    if annotation in _CHECKS:
        return _CHECKS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or annotation is object:
        return _check_json
    if origin is list or annotation is list:
        return _list_check(value_type(arguments[0]).check if arguments else _check_json)
    if origin is dict or annotation is dict:
        if arguments and arguments[0] is not str:
            raise TypeError(f"{_named(annotation)}: the keys of a JSON object are str")
        return _dict_check(value_type(arguments[1]).check if arguments else _check_json)
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _record_check(annotation)
    raise TypeError(
        f"{_named(annotation)} cannot be a column; use str, int, float, bool, list, dict, "
        "a dataclass, Literal, or one of them with None"
    )


def _check_text(value: Json) -> str | None:
    if not isinstance(value, str):
        return f"expected a string, got {_shown(value)}"
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        return "expected a string without lone surrogates"
    return None


def _check_json(value: Json) -> str | None:
    try:
        checked_copy(value)
    except InvalidValueError as error:
        return str(error)
    return None


def _check_integer(value: Json) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"expected an integer, got {_shown(value)}"
    if abs(value) > MAX_SAFE_INTEGER:
        return f"expected an integer within ±(2^53 - 1), got {value}"
    return None


def _check_real(value: Json) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"expected a number, got {_shown(value)}"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"expected a finite number, got {value}"
    # A browser writes 1e20 as an integer.
    if abs(value) > MAX_DOUBLE or float(value) != value:
        return f"expected a number that a double holds exactly, got {_shown(value)}"
    return None


def _check_boolean(value: Json) -> str | None:
    return None if isinstance(value, bool) else f"expected true or false, got {_shown(value)}"


_CHECKS: Final[dict[Any, Check]] = {
    str: _check_text,
    int: _check_integer,
    float: _check_real,
    bool: _check_boolean,
}


def _list_check(item: Check) -> Check:
    def check(value: Json) -> str | None:
        if not isinstance(value, list):
            return f"expected an array, got {_shown(value)}"
        for index, member in enumerate(value):
            if problem := item(member):
                return f"item {index}: {problem}"
        return None

    return check


def _dict_check(item: Check) -> Check:
    def check(value: Json) -> str | None:
        if not isinstance(value, dict):
            return f"expected an object, got {_shown(value)}"
        for key, member in value.items():
            if not isinstance(key, str):
                return f"expected keys that are strings, got {_shown(key)}"
            if problem := item(member):
                return f"member {key!r}: {problem}"
        return None

    return check


def _record_check(record: type) -> Check:
    hints = typing.get_type_hints(record)
    fields = dataclasses.fields(record)
    checks = {field.name: value_type(hints[field.name]).check for field in fields}
    needed = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def check(value: Json) -> str | None:
        if not isinstance(value, dict):
            return f"expected an object, got {_shown(value)}"
        if unknown := value.keys() - checks.keys():
            return f"unknown member {min(map(repr, unknown))} of {record.__name__}"
        if missing := needed - value.keys():
            return f"member {min(missing)!r} of {record.__name__} is missing"
        for key, member in value.items():
            if problem := checks[key](member):
                return f"member {key!r}: {problem}"
        return None

    return check


def _named(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _shown(value: Json) -> str:
    shown = "null" if value is None else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."

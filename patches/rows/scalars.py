"""The scalars of a condition: which are allowed, of which class they are, how SQLite takes them."""

from __future__ import annotations

from typing import Final, TypeAlias

from patches.errors import InvalidConditionError
from patches.rows.annotations import value_type

Scalar: TypeAlias = str | int | float | bool | None

_CHECKS: Final = {
    "string": value_type(str).check,
    "number": value_type(float).check,
}


def checked_scalar(value: object) -> Scalar:
    """The value, if it is a scalar. Raises `InvalidConditionError`."""
    if value is None or isinstance(value, str | int | float):
        check = _CHECKS.get(class_of(value))
        problem = check(value) if check is not None else None
        if problem is None:
            return value
        raise InvalidConditionError(problem)
    raise InvalidConditionError(
        f"expected a string, a number, true, false or null, got {type(value).__name__}"
    )


def is_usable(value: object) -> bool:
    """Whether something can be compared: a scalar that is not null."""
    try:
        return checked_scalar(value) is not None
    except InvalidConditionError:
        return False


def class_of(value: object) -> str:
    """Values of different classes are never equal."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "null" if value is None else "json"


def bound_scalar(value: Scalar) -> Scalar:
    """As SQLite takes it: it has no integer beyond 64 bits, and 0 and 1 for booleans."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)
    return value

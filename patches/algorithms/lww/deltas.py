"""Delta ops (`@inc`, `@bit`, `@max`, `@min`), combined instead of overwritten.

The rules: `docs/internals/lww.md` 2.

Numbers behave as they do in JavaScript: bits are 32-bit signed integers, strings compare by UTF-16
code units, an integral result is an `int`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from patches.errors import PatchError
from patches.json_patch import apply_bitmask, combine_bitmasks
from patches.model.json_values import Json, Op, number_sum
from patches.text import utf16_key

DELTAS: Final = frozenset({"@inc", "@bit", "@max", "@min"})


def is_delta(op: Op) -> bool:
    """Whether concurrent writes of this op are combined."""
    return op["op"] in DELTAS


def is_soft(op: Op) -> bool:
    """Whether the op yields to a value that is there: `soft`, or an `add` of an empty container."""
    return op.get("soft") is True or (op["op"] == "add" and op.get("value") in ({}, []))


def apply_delta(name: str, current: Json, operand: Json) -> Json:
    """The value after the delta `name` with `operand`; `None` reads as 0 on either side.

    Raises `PatchError` for a pair that is not two numbers or two strings.
    """
    return _calculate(_APPLY, name, current, operand)


def combine_deltas(name: str, first: Json, second: Json) -> Json:
    """The operand of the one delta that does what two do. Raises as `apply_delta`."""
    return _calculate(_COMBINE, name, first, second)


def fresh_value(op: Op) -> Json:
    """The value that a delta writes where there is none."""
    name, operand = op["op"], op.get("value")
    if name in ("@max", "@min"):
        return operand
    return apply_delta(name, "" if isinstance(operand, str) else 0, operand)


def _calculate(
    functions: Mapping[str, Callable[[Json, Json], Json]], name: str, a: Json, b: Json
) -> Json:
    a, b = 0 if a is None else a, 0 if b is None else b
    if not (_is_number(a) and _is_number(b)) and not (isinstance(a, str) and isinstance(b, str)):
        raise PatchError(f"[op:{name}] takes two numbers or two strings")
    return functions[name](a, b)


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _inc(a: Json, b: Json) -> Json:
    return a + b if isinstance(a, str) else number_sum(a, b)


def _greater(a: Json, b: Json) -> bool:
    if isinstance(a, str):
        return bool(utf16_key(a) > utf16_key(b))
    return bool(a > b)


def _max(a: Json, b: Json) -> Json:
    return a if _greater(a, b) else b


def _min(a: Json, b: Json) -> Json:
    return a if _greater(b, a) else b


_APPLY: Final = {"@inc": _inc, "@bit": apply_bitmask, "@max": _max, "@min": _min}
_COMBINE: Final = {"@inc": _inc, "@bit": combine_bitmasks, "@max": _max, "@min": _min}

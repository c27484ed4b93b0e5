"""What a list of operations must be before anything is done with it.

Client and server both call `check_ops`, so a client queues nothing that a default server refuses
(`docs/internals/reliability.md` 3, T21, T26, T27). Pure: a fault is raised as `OpsRefusedError`,
whose `code` is the answer's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from patches.errors import OpsRefusedError
from patches.limits import Limits
from patches.model.json_values import MAX_SAFE_INTEGER

#: The operations that every replica knows (`docs/internals/json-patch.md` 1).
KNOWN_OPS: Final = frozenset(
    {
        "add",
        "remove",
        "replace",
        "move",
        "copy",
        "test",
        "@inc",
        "@bit",
        "@max",
        "@min",
        "@txt",
    }
)

# A `test` without a value is one for absence.
_NEEDS_VALUE: Final = frozenset({"add", "replace", "@inc", "@bit", "@max", "@min", "@txt"})
#: Path segments that a JavaScript replica does not store as members (T21), in any escaping.
_HARMFUL_PATH: Final = re.compile(r"/__proto__(?:/|$)|/constructor/prototype(?:/|$)")
_MAX_TEXT_PART: Final = 2**31 - 1


def check_ops(
    ops: object,
    limits: Limits,
    *,
    custom_ops: Collection[str] = (),
    where: str = "ops",
    counted: bool = True,
) -> None:
    """Check one change's operations. Raises `OpsRefusedError` naming the operation and the fault.

    `ops` may be any value, as it came from outside. Without `counted` any number of them is fine:
    an edit is cut into several changes before it is sent. Sizes of changes are not checked here.
    """
    if not isinstance(ops, list):
        raise OpsRefusedError(f"{where}: expected a list of operations, got {kind_of(ops)}")
    most = limits.max_ops_per_change if counted else None
    if most is not None and len(ops) > most:
        raise OpsRefusedError(
            f"{where}: {len(ops)} operations in one change, at most {most} are allowed", code=413
        )
    for index, op in enumerate(ops):
        try:
            _check_op(op, limits, custom_ops)
        except OpsRefusedError as exc:
            raise OpsRefusedError(f"{where}[{index}]: {exc}", code=exc.code) from None


def check_value(value: object, limits: Limits, *, max_depth: int | None = None) -> None:
    """Check that a decoded value is one that every replica can hold. Raises `OpsRefusedError`."""
    _check_value(value, limits.max_value_depth if max_depth is None else max_depth)


def _check_op(op: object, limits: Limits, custom_ops: Collection[str]) -> None:
    if type(op) is not dict and not isinstance(op, Mapping):
        raise OpsRefusedError(f"expected an operation object, got {kind_of(op)}")
    name = op.get("op")
    if not isinstance(name, str):
        raise OpsRefusedError("an operation needs a name in 'op'")
    known = name in KNOWN_OPS
    if not known and name not in custom_ops:
        raise OpsRefusedError(f"[op:{name[:40]}] unknown")
    _check_path(op.get("path"), "path", limits)
    if name == "move" or name == "copy":
        _check_path(op.get("from"), "from", limits)
        if not op["from"]:
            raise OpsRefusedError(f"[op:{name}] cannot take the whole document as its source")
    elif op.get("from"):
        raise OpsRefusedError(f"[op:{name}] takes no 'from'")
    if "value" in op:
        value = op["value"]
        if not isinstance(value, str):
            _check_value(value, limits.max_value_depth)
        if known and name[0] == "@":
            if name == "@txt":
                _check_text(value, limits)
            else:
                _check_operand(name, value)
    elif name in _NEEDS_VALUE:
        raise OpsRefusedError(f"[op:{name}] needs a value")
    if len(op) > 2 + ("value" in op) + ("from" in op):
        _check_extras(op)


def _check_path(path: object, field: str, limits: Limits) -> None:
    if not isinstance(path, str):
        raise OpsRefusedError(f"{field!r} must be a JSON Pointer, got {kind_of(path)}")
    if path and path[0] != "/":
        raise OpsRefusedError(f"{field!r} must be empty or start with '/': {path[:80]!r}")
    if path.count("/") > limits.max_path_segments:
        raise OpsRefusedError(
            f"{field!r} has {path.count('/')} segments, at most "
            f"{limits.max_path_segments} are allowed"
        )
    if limits.max_path_bytes is not None:
        if len(path) * 3 > limits.max_path_bytes:
            size = len(path.encode("utf-8", "surrogatepass"))
            if size > limits.max_path_bytes:
                raise OpsRefusedError(
                    f"{field!r} has {size} bytes, at most {limits.max_path_bytes} are allowed"
                )
    if "proto" in path and _HARMFUL_PATH.search(path):
        raise OpsRefusedError(
            f"{field!r} goes through '__proto__' or 'constructor/prototype', which a JavaScript "
            f"replica cannot store: {path[:80]!r}"
        )


def _check_value(value: object, depth: int) -> None:
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int):
        if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
            raise OpsRefusedError("an integer is beyond ±(2^53-1), which a browser cannot hold")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise OpsRefusedError(f"{value!r} is not a JSON number")
    elif isinstance(value, dict):
        if depth <= 0:
            raise OpsRefusedError("the value is nested too deeply")
        if "__proto__" in value:
            raise OpsRefusedError(
                "the value has a member '__proto__', which a JavaScript replica cannot store"
            )
        for key, member in value.items():
            if not isinstance(key, str):
                raise OpsRefusedError(f"a member name is {kind_of(key)}, not a string")
            if not isinstance(member, str):
                _check_value(member, depth - 1)
    elif isinstance(value, list):
        if depth <= 0:
            raise OpsRefusedError("the value is nested too deeply")
        for item in value:
            if not isinstance(item, str):
                _check_value(item, depth - 1)
    else:
        raise OpsRefusedError(f"{kind_of(value)} is not a JSON value")


def _check_operand(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise OpsRefusedError(f"[op:{name}] needs a number or a string, got {kind_of(value)}")
    elif name == "@bit" and isinstance(value, str):
        raise OpsRefusedError("[op:@bit] needs a number, got a string")


def _check_text(value: object, limits: Limits) -> None:
    # The older shape {"ops": [...]} is read everywhere (`docs/internals/json-patch.md` 1).
    parts = value.get("ops") if isinstance(value, dict) else value
    if not isinstance(parts, list):
        raise OpsRefusedError("[op:@txt] needs a list of text operations")
    total = 0
    for part in parts:
        total += _text_part_length(part)
    if limits.max_text_op_len is not None and total > limits.max_text_op_len:
        raise OpsRefusedError(
            f"[op:@txt] spans {total} UTF-16 units, at most {limits.max_text_op_len} are allowed",
            code=413,
        )


def _text_part_length(part: object) -> int:
    if not isinstance(part, dict):
        raise OpsRefusedError(f"[op:@txt] expected a text operation object, got {kind_of(part)}")
    attributes = part.get("attributes")
    if attributes is not None and not isinstance(attributes, dict):
        raise OpsRefusedError(f"[op:@txt] attributes must be an object, got {kind_of(attributes)}")
    if ("insert" in part) + ("retain" in part) + ("delete" in part) != 1:
        raise OpsRefusedError("[op:@txt] a part is one of insert, retain and delete")
    kind = "insert" if "insert" in part else "retain" if "retain" in part else "delete"
    size = part[kind]
    if kind == "insert":
        if isinstance(size, str):
            return (
                len(size) if size.isascii() else len(size.encode("utf-16-le", "surrogatepass")) // 2
            )
        if isinstance(size, dict):
            return 1
        raise OpsRefusedError(f"[op:@txt] insert needs a string or an object, got {kind_of(size)}")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _MAX_TEXT_PART:
        raise OpsRefusedError(f"[op:@txt] {kind} needs an integer from 0 to 2^31-1")
    return size


def _check_extras(op: Mapping[str, Any]) -> None:
    """Fields beyond op, path and value: what we know must be of its type, the rest must be JSON."""
    for key, value in op.items():
        if not isinstance(key, str):
            raise OpsRefusedError(f"a field name is {kind_of(key)}, not a string")
        if key in ("op", "path", "value", "from"):
            continue
        if key == "ts":
            if value is not None and not _is_finite_number(value, minimum=0):
                raise OpsRefusedError("'ts' must be a number, not negative")
        elif key == "soft":
            if value is not None and not isinstance(value, bool):
                raise OpsRefusedError(f"'soft' must be true or false, got {kind_of(value)}")
        else:
            _check_value(value, 8)


def _is_finite_number(value: object, *, minimum: float) -> bool:
    if isinstance(value, float):
        return minimum <= value < math.inf
    return (
        isinstance(value, int)
        and not isinstance(value, bool)
        and minimum <= value <= MAX_SAFE_INTEGER
    )


def kind_of(value: object) -> str:
    """What kind of JSON value it is, with its article, for messages."""
    names: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        type(None): "null",
    }
    return names.get(type(value), f"a {type(value).__name__}")

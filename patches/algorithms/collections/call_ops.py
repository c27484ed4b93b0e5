"""A called action among an edit's operations: one marker, `call`, with its name and arguments.

It lives between the document and the store only. Stored and sent, an action is the member `action`
of its change, beside what its optimistic half writes. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from patches.json_patch.pointer import escape
from patches.model.json_values import Json, Op
from patches.rows.row_ops import RowOp, delete_op, insert_op

#: The name of the marker's operation.
CALL: Final = "call"


def encode(name: str, arguments: Mapping[str, Json]) -> list[Op]:
    """The edit that calls an action."""
    return [{"op": CALL, "path": "", "value": {"name": name, "args": dict(arguments)}}]


def decode(ops: Sequence[Op]) -> tuple[str, dict[str, Json]] | None:
    """The name and the arguments of the action that an edit calls, if it calls one."""
    if len(ops) == 1 and ops[0].get("op") == CALL:
        return from_action(ops[0]["value"])
    return None


def from_action(action: Any) -> tuple[str, dict[str, Json]] | None:
    """The same of a change's member `action`."""
    if not isinstance(action, dict):
        return None
    name, arguments = action.get("name"), action.get("args")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return None
    return name, arguments


def row_op(op: RowOp) -> Op:
    """A row operation as JSON Patch."""
    assert op.key is not None
    if op.kind == "add" and isinstance(op.value, dict):
        return insert_op(op.table, op.key, op.value)
    if op.kind == "remove":
        return delete_op(op.table, op.key)
    assert op.column is not None
    path = f"/{escape(op.table)}/{escape(op.key)}/{escape(op.column)}"
    return {"op": "replace", "path": path, "value": op.value}

"""A text as a document's state holds it: `{"ops": [inserts]}`, ending in a newline.

What a `@txt` operation does to the value that it finds (`docs/internals/json-patch.md` 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from patches.errors import PatchError
from patches.model.json_values import Json
from patches.text.algebra import compose
from patches.text.ops import DELETE, INSERT, RETAIN, DeltaOp, op_length, push, with_attributes

_EMPTY: Final[tuple[DeltaOp, ...]] = ({INSERT: "\n"},)


def text_ops_of(value: Json) -> Sequence[DeltaOp] | None:
    """The ops of a value that is a text; `None` for any other value.

    Raises `PatchError` for a text that holds something else than ops.
    """
    # Falsy is meant as JavaScript has it: empty lists and objects are not.
    if isinstance(value, dict):
        ops = value.get("ops")
        if not ops and not isinstance(ops, (list, dict)):
            return None
        if not isinstance(ops, list):
            ops = []
    elif isinstance(value, list) and value:
        if value[0] is None:
            raise PatchError("Cannot read properties of null (reading 'insert')")
        inserted = value[0].get(INSERT) if isinstance(value[0], dict) else None
        if not inserted and not isinstance(inserted, (list, dict)):
            return None
        ops = value
    else:
        return None
    for op in ops:
        if type(op) is not dict:
            raise PatchError("The text holds a value that is not an operation")
    return ops


def apply_to_text(
    value: Json, change: Sequence[DeltaOp], *, legacy_overrun_padding: bool = False
) -> tuple[list[DeltaOp], int]:
    """The text's ops after `change`, and how much of it ran past the end and was dropped.

    A value that is not a text counts as an empty one. With `legacy_overrun_padding` a retain past
    the end becomes spaces, as very old releases had it.
    """
    base = text_ops_of(value)
    ops = compose(_EMPTY if base is None else base, change)
    overrun = 0
    while ops and (RETAIN in ops[-1] or DELETE in ops[-1]):
        overrun += op_length(ops.pop())
    last = ops[-1].get(INSERT) if ops else None
    if not isinstance(last, str) or not last.endswith("\n"):
        push(ops, {INSERT: "\n"})
    for op in ops:
        if RETAIN in op or DELETE in op:
            return _inserts_only(ops, overrun, legacy_overrun_padding)
    return ops, overrun


def _inserts_only(
    ops: list[DeltaOp], overrun: int, legacy_overrun_padding: bool
) -> tuple[list[DeltaOp], int]:
    kept: list[DeltaOp] = []
    for op in ops:
        if RETAIN not in op and DELETE not in op:
            push(kept, op)
        elif legacy_overrun_padding and RETAIN in op:
            push(kept, with_attributes({INSERT: " " * int(op[RETAIN])}, op.get("attributes")))
        else:
            overrun += op_length(op)
    return kept, overrun

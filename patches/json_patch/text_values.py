"""The values of `@txt` operations as they are stored: without parts of length 0.

`{"retain": 0}` means nothing here, and the end of the text to @dabble/patches 0.28.1, so two peers
would come to different texts.
"""

from __future__ import annotations

from patches.model.json_values import Json, Op
from patches.text.ops import is_length

_KINDS = ("delete", "retain", "insert")


def without_empty_text_parts(ops: list[Op]) -> list[Op]:
    """`ops` with the parts of length 0 taken out of text edits; the same list if there are none.

    What is no text edit, or has parts of a wrong type, stays as it is.
    """
    kept = ops
    for at, op in enumerate(ops):
        if op.get("op") == "@txt":
            before = op.get("value")
            value = _without_empty_parts(before)
            if value is not before:
                kept = list(ops) if kept is ops else kept
                kept[at] = {**op, "value": value}
    return kept


def _without_empty_parts(value: Json) -> Json:
    parts = value.get("ops") if isinstance(value, dict) else value
    if not isinstance(parts, list):
        return value
    for part in parts:
        # The value alone shows for most parts that they are not empty.
        if isinstance(part, dict) and (0 in part.values() or "" in part.values()):
            if _is_empty(part):
                break
    else:
        return value
    kept = [part for part in parts if not _is_empty(part)]
    return {**value, "ops": kept} if isinstance(value, dict) else kept


def _is_empty(part: Json) -> bool:
    if isinstance(part, dict):
        for kind in _KINDS:
            if kind in part:
                size = part[kind]
                return size == "" if kind == "insert" else size == 0 and is_length(size)
    return False

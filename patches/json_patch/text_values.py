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
    for op in ops:  # most have none: no generator for each change
        if op.get("op") == "@txt" and _has_empty_part(op.get("value")):
            break
    else:
        return ops
    return [
        {**op, "value": _without_empty_parts(op["value"])}
        if op.get("op") == "@txt" and _has_empty_part(op.get("value"))
        else op
        for op in ops
    ]


def _parts(value: Json) -> list[Json]:
    parts = value.get("ops") if isinstance(value, dict) else value
    return parts if isinstance(parts, list) else []


def _has_empty_part(value: Json) -> bool:
    return any(map(_is_empty, _parts(value)))


def _is_empty(part: Json) -> bool:
    if not isinstance(part, dict):
        return False
    kind = next((kind for kind in _KINDS if kind in part), None)
    if kind is None or kind == "insert":
        return kind is not None and part[kind] == ""
    return is_length(part[kind]) and part[kind] == 0


def _without_empty_parts(value: Json) -> Json:
    kept = [part for part in _parts(value) if not _is_empty(part)]
    return {**value, "ops": kept} if isinstance(value, dict) else kept

"""What takes an edit back, operation by operation, as an author means it.

`invert_patch` is the inverse that @dabble/patches 0.28.1 computes, and recorded cases pin it. It
does not know a value that a `move` overwrote, the containers that a write made on its way and a
soft write that wrote nothing, and it puts a counter back to its old number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from patches.json_patch.apply import apply_patch
from patches.json_patch.bitmask import apply_bitmask
from patches.json_patch.handlers import delta_of
from patches.json_patch.invert import invert_patch
from patches.json_patch.javascript import ABSENT, to_int32
from patches.json_patch.kinds import is_soft
from patches.json_patch.object_keys import with_mark
from patches.json_patch.pointer import holder_keys, is_index, join, last_key, member, value_at
from patches.model.json_values import Json, Op, json_equal
from patches.text import apply_to_text, invert, text_ops_of
from patches.text.ops import DeltaOp, op_length, push

_BITS: Final = 15


def reverse_each(state: Json, ops: Sequence[Op]) -> list[list[Op]]:
    """For each operation of an edit, what takes it back; `state` is the document before the edit.

    The lists are in the order of `ops`: to take the edit back, apply them from the last to the
    first. Each was made for the state after its operation. An operation that changes nothing gives
    an empty list. The operations have to apply; raises `PatchError` if one does not.
    """
    if len(ops) == 1:
        back = _typing_back(state, ops[0]) if ops[0]["op"] == "@txt" else None
        return [_reversed(state, ops[0]) if back is None else back]
    reversed_ops: list[list[Op]] = []
    for place, op in enumerate(ops):
        reversed_ops.append(_reversed(state, op))
        if place + 1 < len(ops):
            state = apply_patch(state, [op], strict=True)
    return reversed_ops


def _reversed(state: Json, op: Op) -> list[Op]:
    name, path = op["op"], op["path"]
    if name in ("replace", "add"):
        back = _member_back(state, op)
        if back is not None:
            return back
    if name == "test" or (name == "move" and op["from"] == path):
        return []
    old = value_at(state, path)
    if is_soft(op) and old is not ABSENT:
        return []
    if name == "@txt":
        base = text_ops_of(old)
        if base is not None:
            return [{**op, "value": _text_back(op, base)}]
    elif name == "@inc":
        if op["value"] == 0:
            return []
        if old is ABSENT or (_is_number(old) and _is_number(op["value"])):
            return [{"op": "@inc", "path": path, "value": -op["value"]}]
    elif name == "@bit" and isinstance(old, int) and not isinstance(old, bool):
        return _bits_back(path, old, apply_bitmask(old, op["value"]))
    elif name == "move":
        return _moved_back(state, op)
    if name in ("replace", "@max", "@min", "@bit") and old is not ABSENT:
        if json_equal(old, value_at(apply_patch(state, [op], strict=True), path)):
            return []
    made = _missing_above(state, path)
    if made is not None:
        return [_removal(state, made)]
    back = invert_patch(state, [op])
    if is_soft(back[0]) and isinstance(value_at(state, path[: path.rfind("/")]), list):
        # An empty container would be added only where nothing is: insert, then set.
        return [{**back[0], "value": None}, {**back[0], "op": "replace"}]
    return back


def _typing_back(state: Json, op: Op) -> list[Op] | None:
    """What takes an insertion of plain characters into a member's text back; `None` for others.

    It is the edit that is made most, and this reads no more of the text than it has to.
    """
    parts, key = op["value"], op["path"][1:]
    if type(parts) is not list or len(parts) > 2 or type(state) is not dict or key not in state:
        return None
    inserted, text = parts[-1].get("insert"), state[key]
    if type(inserted) is not str or not inserted.isascii() or type(text) is not dict:
        return None
    place = 0
    if len(parts) == 2:
        place = parts[0].get("retain", -1)
        if place < 0 or len(parts[0]) != 1:
            return None
    end = 0  # in characters, which are not more than units
    for run in text.get("ops") or ():
        content = run.get("insert")
        end += len(content) if type(content) is str else 1
        if end > place:
            back: list[DeltaOp] = [{"retain": place}] if place else []
            return [{**op, "value": [*back, {"delete": len(inserted)}]}]
    return None


def _member_back(state: Json, op: Op) -> list[Op] | None:
    """What takes a write of an object's member back; `None` for any other write."""
    path = op["path"]
    keys = holder_keys(path)[1:]
    if not keys:
        return None
    container = state
    for key in keys[:-1]:
        container = member(container, key)
    if not isinstance(container, dict):
        return None
    old = container.get(keys[-1], ABSENT)
    if old is ABSENT:
        back: Op = {"op": "remove", "path": path}
    elif is_soft(op) or json_equal(old, op["value"]):
        return []
    else:
        back = {"op": "replace", "path": path, "value": old}
    return [with_mark(back, path=True)] if is_index(keys[-1]) else [back]


def _text_back(op: Op, base: Sequence[DeltaOp]) -> list[DeltaOp]:
    """What takes a text edit back, the newline that a text has at its end included."""
    change = delta_of(op.get("value")) or []
    length = sum(map(op_length, base))
    back = _insertions_back(change, length)
    if back is not None:
        return back
    back = invert(change, base)
    after, _ = apply_to_text({"ops": list(base)}, change)
    expected = length + sum(_growth(part) for part in change)
    added = sum(map(op_length, after)) - expected
    if added <= 0:
        return back
    taken = sum(op_length(part) for part in back if "insert" not in part)
    push(back, {"retain": expected - taken})
    push(back, {"delete": added})
    return back


def _insertions_back(change: Sequence[DeltaOp], length: int) -> list[DeltaOp] | None:
    """What takes insertions within a text back, without reading it; `None` for other edits."""
    back: list[DeltaOp] = []
    place = 0
    for part in change:
        if "retain" in part and not part.get("attributes"):
            place += op_length(part)
            back.append({"retain": op_length(part)})
        elif "insert" in part and place < length:
            back.append({"delete": op_length(part)})
        else:
            return None
    return back


def _growth(part: DeltaOp) -> int:
    if "insert" in part:
        return op_length(part)
    return -op_length(part) if "delete" in part else 0


def _bits_back(path: str, old: int, new: int) -> list[Op]:
    changed = to_int32(old) ^ to_int32(new)
    if not changed:
        return []
    mask = (old & changed) | ((new & changed) << _BITS)
    return [{"op": "@bit", "path": path, "value": mask}]


def _moved_back(state: Json, op: Op) -> list[Op]:
    """The move back, then what it overwrote or made."""
    source, path = op["from"], op["path"]
    taken = apply_patch(state, [{"op": "remove", "path": source}], strict=True)
    container = value_at(taken, path[: path.rfind("/")])
    back = invert_patch(state, [op])
    if isinstance(container, list):
        if last_key(path) == "-":
            back = [{**back[0], "from": f"{path[:-1]}{len(container)}"}]
        return back
    overwritten = value_at(taken, path)
    if overwritten is not ABSENT:
        restored: Op = {"op": "add", "path": path, "value": overwritten}
        return [*back, with_mark(restored, path=isinstance(container, dict))]
    made = _missing_above(taken, path)
    return back if made is None else [*back, _removal(taken, made)]


def _missing_above(state: Json, path: str) -> str | None:
    """The topmost container that a write at `path` has to make; `None` if they are all there."""
    container, keys = state, holder_keys(path)[1:]
    for depth, key in enumerate(keys[:-1], start=1):
        container = member(container, key)
        if container is ABSENT:
            return join(*keys[:depth])
    return None


def _removal(state: Json, path: str) -> Op:
    """The removal of what was made at `path`."""
    is_member = isinstance(value_at(state, path[: path.rfind("/")]), dict)
    return with_mark({"op": "remove", "path": path}, path=is_member)


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

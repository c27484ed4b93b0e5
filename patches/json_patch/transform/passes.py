"""One pass of a list of operations over an earlier one (`docs/internals/json-patch.md` 7.4 to 7.7).

Each pass returns the list that it was given if nothing in it changes. It walks the list in order,
because what an operation does can settle those after it: a value that is set again ends the pass,
since everything later was written for that new value.
"""

from __future__ import annotations

from collections.abc import Sequence

from patches.json_patch.handlers import delta_of
from patches.json_patch.kinds import INSERT_LIKES, Like, is_empty_add
from patches.json_patch.transform.relations import (
    Context,
    index_in,
    is_marked_soft,
    redirected,
    source_of,
    split_index,
    with_index,
)
from patches.model.json_values import Op, json_equal
from patches.text import DeltaOp, transform


class _Result:
    """The operations that a pass leaves, which is the given list until one changes."""

    __slots__ = ("_given", "_kept")

    def __init__(self, given: list[Op]) -> None:
        self._given = given
        self._kept: list[Op] | None = None

    def put(self, index: int, *ops: Op) -> None:
        """Leave these in place of the operation at `index`."""
        if self._kept is None:
            self._kept = self._given[:index]
        self._kept += ops

    def keep(self, op: Op) -> None:
        """Leave the next operation as it is."""
        if self._kept is not None:
            self._kept.append(op)

    def end(self, index: int) -> list[Op]:
        """The result if everything from `index` on stays as it is."""
        if self._kept is None:
            return self._given
        return self._kept + self._given[index:]

    def end_with(self, index: int, rest: list[Op]) -> list[Op]:
        """The result if `rest` stands for everything from `index` on."""
        kept = self._given[:index] if self._kept is None else self._kept
        return kept + rest


def removal(ctx: Context, path: str, ops: list[Op]) -> list[Op]:
    """`ops` after the value at `path` is gone, with nobody to follow it."""
    if ctx.is_array_path(path):
        return shift(ctx, path, -1, ops, follow=False)
    return overwrite(ctx, path, ops)


def overwrite(ctx: Context, path: str, ops: list[Op]) -> list[Op]:
    """`ops` after the value at `path` was replaced, or is gone."""
    result = _Result(ops)
    soft_seen = False
    inside = f"{path}/"
    for index, op in enumerate(ops):
        at, source = op["path"], source_of(op)
        if not at.startswith(path) and (
            source is None or not (source == at or source.startswith(path))
        ):
            result.keep(op)  # most are elsewhere
        elif at == source:
            result.put(index)
        elif at == path and sets_at(ctx, op):
            if ctx.like(op) != "test":
                return result.end(index)
            result.keep(op)
        elif source == path and ctx.like(op) in ("move", "copy"):
            return result.end_with(index, without_source(ctx, path, op, ops[index + 1 :]))
        elif at == path and is_marked_soft(op):
            soft_seen = True
            result.put(index)
        elif path in (at, source):
            result.put(index)
        elif is_inside(at, source, inside) and not soft_seen:
            result.put(index)
        else:
            result.keep(op)
    return result.end(len(ops))


def sets_at(ctx: Context, op: Op) -> bool:
    """Whether an operation at an overwritten path survives, and with it all that follow."""
    return not is_marked_soft(op) and ctx.like(op) != "remove"


def is_inside(at: str, source: str | None, inside: str) -> bool:
    """Whether a path or source begins with `inside`."""
    return at.startswith(inside) or (source is not None and source.startswith(inside))


def without_source(ctx: Context, path: str, op: Op, rest: list[Op]) -> list[Op]:
    """What follows a `move` or `copy` from `path` that is dropped, as its source is gone."""
    if ctx.like(op) == "copy":
        rest = removal(ctx, path, rest)
    return removal(ctx, op["path"], rest)


def update(ctx: Context, committed: Op, ops: list[Op]) -> list[Op]:
    """`ops` after the value at the path of `committed` was changed in place."""
    result = _Result(ops)
    soft_seen = False
    path = committed["path"]
    inside = f"{path}/"
    text = delta_of(committed.get("value")) if committed["op"] == "@txt" else None
    for index, op in enumerate(ops):
        at, source = op["path"], source_of(op)
        if not at.startswith(path) and (
            source is None or not (source == at or source.startswith(path))
        ):
            result.keep(op)
        elif at == source:
            result.put(index)
        elif at == path and sets_at(ctx, op) and not committed["op"] == op.get("op") == "@txt":
            if ctx.like(op) != "test":
                return result.end(index)
            result.keep(op)
        elif at == path and is_marked_soft(op) and op.get("op") != "@txt":
            soft_seen = True
            result.put(index)
        elif at == path and text is not None and (change := _text_of(op)) is not None:
            older_first = ctx.older_inserts_first
            rebased = transform(text, change, priority=not older_first)
            text = transform(change, text, priority=older_first)
            if json_equal(rebased, op["value"]):
                result.keep(op)
            else:
                result.put(index, {**op, "value": rebased})
        elif at == path and is_marked_soft(op):
            soft_seen = True
            result.put(index)
        elif path in (at, source):
            result.keep(op)
        elif is_inside(at, source, inside) and not soft_seen:
            result.put(index)
        else:
            result.keep(op)
    return result.end(len(ops))


def _text_of(op: Op) -> Sequence[DeltaOp] | None:
    return delta_of(op.get("value")) if op.get("op") == "@txt" else None


def soft_create(committed: Op, ops: list[Op]) -> list[Op]:
    """`ops` after an empty container was put where there was nothing."""
    path, kind = committed["path"], type(committed["value"])
    result = _Result(ops)
    for index, op in enumerate(ops):
        same = op["path"] == path and is_empty_add(op) and type(op["value"]) is kind
        if same or op["path"] == source_of(op):
            result.put(index)
        else:
            result.keep(op)
    return result.end(len(ops))


def shift(ctx: Context, path: str, by: int, ops: list[Op], *, follow: bool = False) -> list[Op]:
    """`ops` after an element was inserted at the array path `path` (`by` 1) or removed (-1).

    The place of that change moves along, in the coordinates in which each operation was written.
    With `follow`, what a dropped `move` or `copy` of the removed element had set is gone as well.
    """
    prefix, here = split_index(path)
    result = _Result(ops)
    for index, op in enumerate(ops):
        at, source = op["path"], source_of(op)
        if not at.startswith(prefix) and (
            source is None or not (source == at or source.startswith(prefix))
        ):
            result.keep(op)
            continue
        if at == source:
            result.put(index)
            continue
        target, origin = index_in(at, prefix), index_in(source, prefix)
        if source is None and target is not None and op.get("op") != "add":
            if target[0] > here:  # the most frequent cases, in short
                result.put(index, {**op, "path": with_index(at, prefix, target[0] + by, target[1])})
                continue
            if target[0] < here and target[1] >= 0:
                result.keep(op)
                continue
        like = ctx.like(op)
        if follow and origin == (here, -1) and like in ("move", "copy"):
            rest = without_source(ctx, f"{prefix}{here}", op, ops[index + 1 :])
            return result.end_with(index, rest)
        if target == (here, -1) and like in INSERT_LIKES and is_marked_soft(op):
            return result.end_with(index, ops[index + 1 :])
        is_behind = by > 0 and ctx.older_inserts_first  # where it inserts at the same index
        shifted = _shifted(op, like, prefix, here, by, target, origin, is_behind=is_behind)
        if len(shifted) == 1 and shifted[0] is op:
            result.keep(op)
        else:
            result.put(index, *shifted)
        ends, here = _advanced(here, by, like, target, origin, is_behind=is_behind)
        if ends:
            return result.end(index + 1)
    return result.end(len(ops))


#: An index in a pointer and where it ends, -1 where the pointer does.
_Place = tuple[int, int] | None


def _shifted(
    op: Op,
    like: Like | None,
    prefix: str,
    here: int,
    by: int,
    target: _Place,
    origin: _Place,
    *,
    is_behind: bool,
) -> list[Op]:
    """What becomes of one operation: none, itself, one with other pointers, or two.

    `is_behind`: an insertion at the index of the change goes behind it.
    """
    at, source = op["path"], source_of(op)
    if source is not None and origin is not None:
        index, end = origin
        if index == here and by < 0:
            return []
        if index >= here:
            source = with_index(source, prefix, index + by, end)
    if target is not None:
        index, end = target
        if like == "move" and origin is not None and origin[0] < index:
            here -= 1  # once the source is taken out, the change is one place further down
        if index == here and end < 0 and like in INSERT_LIKES:
            if by > 0 and is_marked_soft(op):
                return []
            if is_behind:
                at = with_index(at, prefix, index + 1, end)
        elif index == here and by < 0:
            return _on_removed(op, like) if end < 0 else []
        elif index >= here:
            at = with_index(at, prefix, index + by, end)
    return [] if at == source else [redirected(op, at, source)]


def _on_removed(op: Op, like: Like | None) -> list[Op]:
    """What an operation on a removed element becomes: what sets it puts it back."""
    if op.get("op") == "replace":
        return [{**op, "op": "add"}]
    if like == "replace":
        return [{"op": "add", "path": op["path"], "value": None}, op]
    return []


def _advanced(
    here: int,
    by: int,
    like: Like | None,
    target: _Place,
    origin: _Place,
    *,
    is_behind: bool,
) -> tuple[bool, int]:
    """Whether the pass ends after an operation, and where the change is then."""
    if like == "move" and origin is not None and origin[1] < 0 and origin[0] < here:
        here -= 1
    if target is None or target[1] >= 0:
        return False, here
    index = target[0]
    if like in INSERT_LIKES:
        is_before = index < here or (index == here and not is_behind)
        return False, here + 1 if is_before else here
    if like == "remove" and index < here:
        return False, here - 1
    settled = by < 0 and index == here and like in ("remove", "replace")
    return settled, here

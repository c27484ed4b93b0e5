"""A list of operations after an earlier `move` (`docs/internals/json-patch.md` 7.8 and 8.3).

Three phases. What leads to or into the moved value is redirected to its new place, and marked, so
that the second phase does not see it; then the rest is passed over the removal at the old place and
the insertion at the new one; then the marks come off.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from patches.json_patch.kinds import INSERT_LIKES
from patches.json_patch.object_keys import is_member_path, is_member_source, with_mark
from patches.json_patch.pointer import is_under
from patches.json_patch.transform.passes import overwrite, removal, shift
from patches.json_patch.transform.relations import (
    Context,
    index_in,
    is_at_or_under,
    is_marked_soft,
    redirected,
    source_of,
    split_index,
    with_index,
)
from patches.json_patch.transform.superseded import set_over
from patches.model.json_values import Op

_MARK: Final = "\0"  # no pointer begins with it


class _EarlierOverwrite(NamedTuple):
    """The older operation that did away with the value which the queue moves."""

    at: int
    is_move: bool  # that took the value away first; otherwise it set or removed something above


def after_move(ctx: Context, move: Op, ops: list[Op]) -> list[Op]:
    """`ops` after `move`."""
    source, path = move["from"], move["path"]
    if source == path:
        return ops
    overwritten = _find_overwrite(ctx, source, ops) if ctx.other_ops_first else None
    led = _redirect(ctx, move, ops, overwritten)
    shifted = _pass_over(ctx, move, led, is_set=overwritten is None)
    return _unmarked(shifted, ops)


def _protected(op: Op) -> Op:
    source = source_of(op)
    return redirected(op, _marked(op["path"]), None if source is None else _marked(source))


def _marked(pointer: str) -> str:
    return pointer if pointer.startswith(_MARK) else _MARK + pointer


def _redirect(
    ctx: Context, move: Op, ops: list[Op], overwritten: _EarlierOverwrite | None
) -> list[Op]:
    """Phase 1: lead to the new place whatever leads to the moved value."""
    source, path = move["from"], move["path"]
    kept: list[Op] = []
    gone = False
    for index, op in enumerate(ops):
        like, origin = ctx.like(op), source_of(op)
        if op["path"] == origin:
            continue
        if gone:
            kept.append(_protected(op))
        elif overwritten is not None and overwritten.at == index:
            if not overwritten.is_move:
                gone_again: Op = {"op": "remove", "path": path}
                if ctx.has_marks:
                    gone_again = with_mark(gone_again, path=is_member_path(move))
                kept += [_protected(gone_again), op]
            elif op["path"] == path:
                return kept + list(map(_protected, ops[index + 1 :]))
            else:
                led = redirected(op, op["path"], _marked(path))
                if ctx.has_marks:
                    led = with_mark(led, path=is_member_path(op), source=is_member_path(move))
                kept.append(led)
        elif ctx.other_ops_first and overwritten is None and like == "move" and origin == source:
            return kept + _after_older_move(ctx, op, move, ops[index + 1 :])
        else:
            gone = like == "remove" and op["path"] == source
            target = _led(op["path"], source, path)
            if like in INSERT_LIKES and op["path"] == source:
                target = op["path"]  # a new value, put where the old one was
            origin = None if origin is None else _led(origin, source, path)
            if target != origin:
                led = redirected(op, target, origin)
                if ctx.has_marks and led is not op:
                    led = _remarked(led, op, move)
                kept.append(led)
    return kept


def _remarked(led: Op, op: Op, move: Op) -> Op:
    """`led`, what became of `op`, with the object marks of where it leads now."""
    source = move["from"]
    path_moved = op["path"] == source and led["path"] != source
    return with_mark(
        led,
        path=is_member_path(move if path_moved else op),
        source=is_member_path(move) if source_of(op) == source else is_member_source(op),
    )


def _led(pointer: str, source: str, path: str) -> str:
    if is_at_or_under(pointer, source):
        return _marked(path + pointer[len(source) :])
    return pointer


def _after_older_move(ctx: Context, older: Op, move: Op, rest: list[Op]) -> list[Op]:
    """What follows an older move of the same value, which the queue then moves on."""
    if older["path"] != move["path"]:
        onward: Op = {"op": "move", "from": older["path"], "path": move["path"]}
        if ctx.has_marks:
            onward = with_mark(onward, path=is_member_path(move), source=is_member_path(older))
        rest = after_move(ctx, onward, rest)
    return list(map(_protected, rest))


def _pass_over(ctx: Context, move: Op, ops: list[Op], *, is_set: bool) -> list[Op]:
    """Phase 2: the removal at the old place and the insertion at the new one."""
    source, path = move["from"], move["path"]
    if ctx.is_array_path(source) and ctx.is_array_path(path):
        prefix, from_index = split_index(source)
        to_prefix, to_index = split_index(path)
        if prefix == to_prefix and ctx.is_known_array(source):
            return _within_array(ctx, prefix, from_index, to_index, ops)
    ops = removal(ctx, source, ops)
    if ctx.is_array_path(path):
        return shift(ctx, path, 1, ops)
    return set_over(ctx, move, ops) if is_set else overwrite(ctx, path, ops)


def _within_array(
    ctx: Context, prefix: str, from_index: int, to_index: int, ops: list[Op]
) -> list[Op]:
    """Both phases at once, for a move within one list that is known to be one."""
    low, high = min(from_index, to_index), max(from_index, to_index)
    by = -1 if from_index == low else 1
    kept: list[Op] = []
    for op in ops:
        at, source = op["path"], source_of(op)
        target, origin = index_in(at, prefix), index_in(source, prefix)
        if target is not None and low <= target[0] <= high:
            index, end = target
            stays = (
                end < 0
                and ctx.like(op) in INSERT_LIKES
                and (
                    index in (low, to_index)
                    or (
                        ctx.like(op) == "move"
                        and origin is not None
                        and origin[1] < 0
                        and to_index <= origin[0] < from_index
                    )
                )
                and index in (low, high)
            )
            if not stays:
                at = with_index(at, prefix, index + by, end)
        if source is not None and origin is not None and low <= origin[0] <= high:
            source = with_index(source, prefix, origin[0] + by, origin[1])
        if at != source:
            kept.append(redirected(op, at, source))
    return kept


def _unmarked(ops: list[Op], given: list[Op]) -> list[Op]:
    """Phase 3: take the marks off; `given` itself if nothing has changed."""
    kept: list[Op] = []
    for op in ops:
        source = source_of(op)
        at = op["path"].removeprefix(_MARK)
        source = None if source is None else source.removeprefix(_MARK)
        if at != source:
            kept.append(redirected(op, at, source))
    return given if kept == given else kept


def _find_overwrite(ctx: Context, source: str, ops: list[Op]) -> _EarlierOverwrite | None:
    followed: int | None = None
    at = source
    for index, op in enumerate(ops):
        path, like = op["path"], ctx.like(op)
        if path == source_of(op):
            continue
        if like == "move" and source_of(op) == at:
            followed = index if followed is None else followed
            at = path
        elif _overwrites(ctx, op, at, was_followed=followed is not None):
            return _EarlierOverwrite(index if followed is None else followed, followed is not None)
    return None


def _overwrites(ctx: Context, op: Op, at: str, *, was_followed: bool) -> bool:
    path, like = op["path"], ctx.like(op)
    is_replace = op.get("op") == "replace"
    if path == at:
        if like == "remove":
            return was_followed
        if is_marked_soft(op):
            return False
        if was_followed and is_replace:
            return True
        return (is_replace or like in INSERT_LIKES) and not ctx.is_array_path(at)
    if not is_under(at, path):
        return False
    return like == "remove" or (path != "" and ctx.is_hard_set(op, path))

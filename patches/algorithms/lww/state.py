"""The state that rows and writes add up to, and how little of it must be built again.

A state is built op by op and an op that cannot be applied is skipped, so a state always loads
(`docs/decisions.md`). What an open document shows is derived: committed state, then unsent ops,
each once. `rederive` does that again only below the paths that something happened to.

Why that is enough: ops at, above and below a path decide what is shown there, and nothing else but
the containers above it. So the part to build again starts at the highest path above the touched
one where an unsent op stands, or where the committed state has no object: from there on down
everything is taken from the committed state and the unsent ops are applied once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from patches.algorithms.lww.unsent import Unsent
from patches.errors import PatchError
from patches.json_patch import ABSENT, apply_patch
from patches.model.json_values import Json, Op, json_equal

_ABSENT: Final[Any] = object()


def build_state(state: Json, ops: Sequence[Op]) -> Json:
    """`state` after `ops`; one that cannot be applied is skipped. Nothing is mutated."""
    try:
        built = apply_patch(state, ops, partial=True)
        return None if built is ABSENT else built  # a removed root reads as null
    except PatchError:
        if len(ops) == 1:
            return state
        # Some op goes below a text or a number, which raises in every mode: find and skip it.
        middle = len(ops) // 2
        return build_state(build_state(state, ops[:middle]), ops[middle:])


def shown_state(committed: Json, unsent: Sequence[Op]) -> Json:
    """What a document shows: `null` is shown, and edited, as an empty object."""
    state = build_state({} if committed is None else committed, unsent)
    return {} if state is None else state


def committed_state(state: Json, rows: Iterable[Op]) -> Json:
    """`state` after a server's rows, in the order given. A row is never soft, whatever it says."""
    return build_state(
        state, [_hard(row) if "soft" in row and "rev" in row else row for row in rows]
    )


def shows_history(before: Json, after: Json, rows: Iterable[Op]) -> bool:
    """Whether `after`, which is `before` with `rows`, may differ from what all rows add up to.

    A state is what its rows add up to, however they came. Applying newer rows to an older state
    gives the same but for two traces that overwritten rows leave: an object that was made to hold a
    field that is gone, and a list that was padded to reach an element.
    """
    for row in rows:
        if row["op"] == "remove" and _is_hollow(after, row["path"]):
            return True
        if _meets_list_end(before, row) or _meets_list_end(after, row):
            return True
    return False


def _is_hollow(state: Json, path: str) -> bool:
    end = path.rfind("/")
    return end >= 0 and _value_at(state, path[:end]) == {}


def _meets_list_end(state: Json, row: Op) -> bool:
    segments = row["path"].split("/")[1:]
    in_list = False
    for index, segment in enumerate(segments):
        if isinstance(state, list):
            in_list = True
            if index == len(segments) - 1 or not is_index(segment) or int(segment) >= len(state):
                return True
            state = state[int(segment)]
        else:
            key = _key(segment) if "~" in segment else segment
            state = state.get(key, _ABSENT) if isinstance(state, dict) else _ABSENT
    return in_list and row["op"] == "remove"


def holds_container(state: Json, path: str) -> bool:
    """Whether an object or a list stands at a path that leads through objects only."""
    return isinstance(_value_at(state, path), dict | list)


def in_commit_order(ops: Iterable[Op]) -> list[Op]:
    """Sorted by `(rev, ts)`, else as they came. Rows without `rev`, not echoed yet, are last."""
    found = list(ops)
    return sorted(found, key=commit_order) if len(found) > 1 else found


def commit_order(op: Op) -> tuple[bool, float, float]:
    """The sort key of `in_commit_order`."""
    rev = op.get("rev")
    return rev is None, rev or 0, op.get("ts") or 0


def rederive(shown: Json, committed: Json, unsent: Unsent, touched: Iterable[str]) -> Json:
    """What to show after something happened to the committed value or the unsent ops at `touched`.

    `shown` must have been derived so before. Returns `shown` itself if nothing that it shows
    changed.
    """
    paths = list(dict.fromkeys(touched))
    if unsent.are_too_many_to_search(len(paths)):
        starts = [""]
    else:
        starts = [_start(path, shown, committed, unsent) for path in paths]
        if len(starts) > 1:
            starts = _outermost(set(starts))
    if not starts:
        return shown
    if "" in starts:
        derived = shown_state(committed, unsent.within(""))
    else:
        ops = [_reset(path, committed) for path in starts]
        for path in starts:
            ops += unsent.within(path)
        derived = build_state(shown, ops)
    for path in starts:
        if not _equal(_value_at(shown, path), _value_at(derived, path)):
            return derived
    return shown


def _start(path: str, shown: Json, committed: Json, unsent: Unsent) -> str:
    """Where building again must begin for a touched path: there, or at one above it."""
    above, segments = "", path.split("/")[1:]
    for segment in segments:
        if unsent.stands_at(above) or not isinstance(committed, dict):
            return above
        if not isinstance(shown, dict):
            return above
        key = _key(segment) if "~" in segment else segment
        committed, shown = committed.get(key, _ABSENT), shown.get(key, _ABSENT)
        above = f"{above}/{segment}"
    return above


def _outermost(paths: set[str]) -> list[str]:
    if "" in paths:
        return [""]
    return [path for path in sorted(paths) if not _has_above(path, paths)]


def _has_above(path: str, paths: set[str]) -> bool:
    end = path.rfind("/")
    while end > 0:
        path = path[:end]
        if path in paths:
            return True
        end = path.rfind("/")
    return False


def _reset(path: str, committed: Json) -> Op:
    value = _value_at(committed, path)
    if value is _ABSENT:
        return {"op": "remove", "path": path}
    return {"op": "replace", "path": path, "value": value}


def _value_at(state: Json, path: str) -> Json:
    """The value at a path that leads through objects only, else `_ABSENT`."""
    for segment in path.split("/")[1:]:
        key = _key(segment) if "~" in segment else segment
        state = state.get(key, _ABSENT) if isinstance(state, dict) else _ABSENT
    return state


def _equal(a: Json, b: Json) -> bool:
    return a is b or (a is not _ABSENT and b is not _ABSENT and json_equal(a, b))


def is_index(segment: str) -> bool:
    """Whether a path segment is a list index, without sign or leading zeros."""
    return segment.isascii() and segment.isdecimal() and (segment[0] != "0" or segment == "0")


def _key(segment: str) -> str:
    return segment.replace("~1", "/").replace("~0", "~") if "~" in segment else segment


def _hard(row: Op) -> Op:
    return {key: value for key, value in row.items() if key != "soft"}

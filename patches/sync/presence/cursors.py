"""Cursors move as the text under them changes: pure functions."""

from __future__ import annotations

from typing import Any, TypeGuard

from patches.errors import PatchError
from patches.json_patch.pointer import value_at
from patches.model.json_values import Json
from patches.text import Delta


def text_change(before: Json, after: Json, path: str) -> Delta | None:
    """What happened to the text at `path` between two states; `None` if nothing did.

    States share what did not change, so most changes are seen not to concern the text at once.
    """
    old, new = value_at(before, path), value_at(after, path)
    if old is new:
        return None
    change = _text(old).diff(_text(new))
    return change if change.ops else None


def moved_cursor(state: dict[str, Json], change: Delta) -> dict[str, Json]:
    """A presence state with its `"cursor"` moved: a position, or a list of positions."""
    cursor = state.get("cursor")
    if is_position(cursor):
        return {**state, "cursor": change.transform_position(cursor)}
    if isinstance(cursor, list) and cursor and all(is_position(each) for each in cursor):
        return {**state, "cursor": [change.transform_position(each) for each in cursor]}
    return state


def is_position(value: Any) -> TypeGuard[int]:
    """Whether a value of a state is a position in a text."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: Json) -> Delta:
    """The text that a value is; an empty one for what is no text, or not yet."""
    if isinstance(value, str):
        return Delta().insert(value) if value else Delta()
    if isinstance(value, dict):
        try:
            return Delta(value)
        except PatchError:
            pass
    return Delta()

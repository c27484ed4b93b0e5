"""The operations that lead from one state to another: what differs, as deep down as it goes.

Values that are equal as JSON has it are left alone, so others' edits of them merge. A list keeps
its longest run of equal elements; elements that only changed places are moved; what is left over
is paired in order and compared. A container that keeps nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from patches.documents.draft.order import moves_to_order
from patches.json_patch import pointer
from patches.model.json_values import Json, Op, checked_copy, json_equal
from patches.text import Delta, apply_to_text, text_ops_of
from patches.text.diff import Block, matching_blocks

_MOST_MOVES: Final = 256
_FIRST_CHAR: Final = 0x4E00  # letters, so that none of them means anything to the text diff
_SURROGATES: Final = (0xD800, 0x800)


def ops_to_reach(
    state: Json,
    target: object,
    *,
    max_depth: int = 124,
    text: bool = True,
    whole: bool = True,
) -> list[Op]:
    """A small patch that makes `target` of `state`; `[]` if they are equal.

    `text=False` sets texts as values instead of by `@txt`. `whole=False` never replaces an object
    by an object or a list by a list, even if they have nothing in common: what others have written
    inside stays. Raises `InvalidValueError` for what is not JSON.
    """
    ops: list[Op] = []
    _Differ(ops, text, whole).value(state, checked_copy(target, max_depth=max_depth), "")
    return ops


class _Differ:
    def __init__(self, ops: list[Op], text: bool, whole: bool) -> None:
        self.ops = ops
        self.text, self.whole = text, whole

    def value(self, old: Json, new: Json, path: str) -> None:
        if isinstance(old, dict) and isinstance(new, dict):
            if not (self.text and self._text(old, new, path)):
                self._members(old, new, path)
        elif isinstance(old, list) and isinstance(new, list):
            self._elements(old, new, path)
        elif not json_equal(old, new):
            self._replace(path, new)

    def _replace(self, path: str, value: Json) -> None:
        self.ops.append({"op": "replace", "path": path, "value": value})

    def _text(self, old: dict[str, Json], new: dict[str, Json], path: str) -> bool:
        """Write a text's change. `False`: the two are not texts, or no change leads there."""
        if len(old) != 1 or len(new) != 1 or not _is_text(old) or not _is_text(new):
            return False
        change = Delta(old["ops"]).diff(new["ops"]).ops
        if not json_equal(apply_to_text(old, change)[0], new["ops"]):
            return False
        if change:
            self.ops.append({"op": "@txt", "path": path, "value": change})
        return True

    def _members(self, old: dict[str, Json], new: dict[str, Json], path: str) -> None:
        if self.whole and old and path and old.keys().isdisjoint(new):
            self._replace(path, new)
            return
        for key in old:
            if key not in new:
                self.ops.append({"op": "remove", "path": f"{path}/{pointer.escape(key)}"})
        for key, value in new.items():
            if key not in old:
                self._replace(f"{path}/{pointer.escape(key)}", value)
            elif old[key] is not value:
                self.value(old[key], value, f"{path}/{pointer.escape(key)}")

    def _elements(self, old: list[Json], new: list[Json], path: str) -> None:
        before, after = _letters(old, new)
        if before == after:
            return
        moves = _moves(before, after)
        if moves is not None:
            self.ops.extend(
                {"op": "move", "from": f"{path}/{source}", "path": f"{path}/{target}"}
                for source, target in moves
            )
            return
        blocks = matching_blocks(before, after)
        is_other = bool(old and path) and not blocks and not _any_pair_of_containers(old, new)
        if self.whole and is_other:
            self._replace(path, new)
            return
        at_old = at_new = 0
        for block in [*blocks, Block(len(old), len(new), 0)]:
            self._gap(old[at_old : block.a], new[at_new : block.b], path, at_new)
            at_old, at_new = block.a + block.length, block.b + block.length

    def _gap(self, old: list[Json], new: list[Json], path: str, at: int) -> None:
        """Between equal elements; what is before `at` is as it should be."""
        common = min(len(old), len(new))
        for offset in range(common):
            self.value(old[offset], new[offset], f"{path}/{at + offset}")
        place = f"{path}/{at + common}"
        self.ops.extend({"op": "remove", "path": place} for _ in old[common:])
        for offset, value in enumerate(new[common:], at + common):
            self._insert(f"{path}/{offset}", value)

    def _insert(self, path: str, value: Json) -> None:
        if value == {} or value == []:  # `add` of an empty container is soft
            self.ops.append({"op": "add", "path": path, "value": None})
            self._replace(path, value)
        else:
            self.ops.append({"op": "add", "path": path, "value": value})


def _is_text(value: dict[str, Json]) -> bool:
    ops = value.get("ops")
    return (
        isinstance(ops, list)
        and bool(ops)
        and all(isinstance(op, dict) and isinstance(op.get("insert"), (str, dict)) for op in ops)
        and text_ops_of(value) is not None
    )


def _any_pair_of_containers(old: list[Json], new: list[Json]) -> bool:
    return any(
        type(one) is type(other) and isinstance(one, (dict, list))
        for one, other in zip(old, new, strict=False)
    )


def _moves(before: str, after: str) -> list[tuple[int, int]] | None:
    """The moves that alone lead there, if there are such, and few."""
    if len(before) != len(after):
        return None
    places = {letter: place for place, letter in enumerate(before)}
    if len(places) != len(before) or places.keys() != set(after):
        return None
    return moves_to_order([places[letter] for letter in after], most=_MOST_MOVES)


def _letters(old: list[Json], new: list[Json]) -> tuple[str, str]:
    """Both lists as texts, one letter for each distinct value."""
    letters: dict[Hashable, str] = {}

    def letter(value: Json) -> str:
        key = _comparable(value)
        if key not in letters:
            code = _FIRST_CHAR + len(letters)
            if code >= _SURROGATES[0]:
                code += _SURROGATES[1]
            letters[key] = chr(code)
        return letters[key]

    return "".join(map(letter, old)), "".join(map(letter, new))


def _comparable(value: Json) -> Hashable:
    """Equal for values that are equal as JSON has it, and hashable."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return ("list", tuple(map(_comparable, value)))
    if isinstance(value, dict):
        return frozenset((key, _comparable(member)) for key, member in value.items())
    return value  # type: ignore[no-any-return]  # text, a number or null

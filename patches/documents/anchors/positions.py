"""Where a place is after an operation. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

from patches.errors import PatchError
from patches.json_patch import ABSENT, pointer
from patches.json_patch.handlers import delta_of
from patches.json_patch.object_keys import ends_in_index, is_member_path, is_member_source
from patches.json_patch.pointer import is_index, is_under, last_key, parent
from patches.model.json_values import Json, Op, json_equal
from patches.text import Delta, text_ops_of
from patches.text.ops import DELETE, INSERT, DeltaOp, op_length, op_type

#: Where text goes that is inserted exactly at a position: after it, or before it.
Stick: TypeAlias = Literal["left", "right"]


_Run: TypeAlias = tuple[str, int]


class By(Enum):
    """Who made an edit."""

    USER = "user"  # here
    UNDO = "undo"  # here, and it takes an edit back
    REDO = "redo"  # here, and it makes one again that was taken back
    OTHERS = "others"


@dataclass(slots=True, eq=False)
class Removed:
    """A deletion of ours around a position, in case it is undone."""

    offset: int  #: of the position from the start of what was deleted
    length: int
    is_undo: bool  #: an undo has deleted it, so a redo brings it back
    point: int  #: where it would be inserted again
    #: Earlier deletions whose points it has swallowed, and how far from its start these were.
    swallowed: tuple[tuple[Removed, int], ...] = ()


@dataclass(slots=True)
class Place:
    """A place in a document: in a text, or, without `at`, an element or a member."""

    path: str
    at: int | None = None  #: UTF-16 units before it
    stick: Stick = "left"
    removed: list[Removed] | None = None  #: newest last
    is_cut: bool = False  #: others have deleted the text around it
    is_gone: bool = False

    @property
    def is_collapsed(self) -> bool:
        """Whether the text around it was deleted."""
        return self.is_cut or any(0 < each.offset < each.length for each in self.removed or ())


#: Deletions that a position remembers, at most: an undo manager keeps 200 steps.
_MAX_REMOVED: Final = 200


def follow(place: Place, op: Op, by: By, before: Json = None) -> None:
    """Move a place behind one operation. `before`: the text that an operation replaces as a value,
    if it does.
    """
    name, path = op["op"], op["path"]
    if place.is_gone or name in ("test", "@inc", "@max", "@min", "@bit"):
        return
    if name == "@txt":
        parts = delta_of(op["value"]) if path == place.path and place.at is not None else None
        if parts is not None:
            _follow_text(place, parts, by)
        return
    if name == "move":
        _follow_move(place, op)
    elif name == "remove":
        place.path = _after_removal(place, path, is_member_path(op)) or ""
    elif name in ("add", "copy") and _is_element(path, is_member_path(op)):
        place.path = _after_insertion(place.path, path)
    else:
        _follow_write(place, op, before)


def _follow_write(place: Place, op: Op, before: Json) -> None:
    """A member or an element was written whole."""
    path = op["path"]
    if is_under(place.path, path):
        place.is_gone = True
    elif path == place.path and place.at is not None:
        follow_texts(place, before, op.get("value"))
    elif path == "":
        place.is_gone = True


def follow_texts(place: Place, before: Json, after: Json) -> None:
    """A text became another one, one knows not how: move behind the difference of the two."""
    old, new = _delta(before), _delta(after)
    if old is None or new is None:
        place.is_gone = True
    else:
        _follow_text(place, old.diff(new).ops, By.OTHERS)


def _delta(value: Json) -> Delta | None:
    if isinstance(value, str):
        return Delta().insert(value) if value else Delta()
    try:
        ops = text_ops_of(value)
    except PatchError:
        return None
    return None if ops is None else Delta([dict(op) for op in ops])


def follow_states(place: Place, before: Json, after: Json) -> None:
    """Others have done something to the state, one knows not what.

    An element is found again as the same object, as an equal one, or by its `id`.
    """
    path = ""
    for key in pointer.parse(place.path):
        old, new = pointer.member(before, key), pointer.member(after, key)
        if isinstance(before, list) and isinstance(after, list):
            index = _found_again(old, before, after, int(key))
            key, new = str(index), ABSENT if index is None else after[index]
        if new is ABSENT:
            place.is_gone = True
            return
        path, before, after = f"{path}/{pointer.escape(key)}", old, new
    place.path = path
    if place.at is not None and before is not after:
        follow_texts(place, before, after)


def _found_again(item: Json, before: list[Json], after: list[Json], index: int) -> int | None:
    for is_same in (_is_identical, json_equal, _has_same_id):
        found = [at for at, other in enumerate(after) if is_same(item, other)]
        if found:
            return min(found, key=lambda at: abs(at - index))
    has_ids = isinstance(item, dict) and "id" in item
    return index if len(before) == len(after) and not has_ids else None


def _is_identical(a: Json, b: Json) -> bool:
    return a is b and isinstance(a, (dict, list))


def _has_same_id(a: Json, b: Json) -> bool:
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return False
    return "id" in a and json_equal(a["id"], b.get("id"))


# ---- in a text -----------------------------------------------------------------------------------


def _follow_text(place: Place, parts: Sequence[DeltaOp], by: By) -> None:
    at, offset = place.at, 0
    assert at is not None
    runs = _runs(parts)
    if by in (By.UNDO, By.REDO):
        runs = _deletions_first(runs)
    elif by is By.USER and place.removed:  # nothing is left to be redone
        place.removed = [each for each in place.removed if not each.is_undo]
    coming = _coming_back(place, by)
    points = [(removed, removed.point) for removed in place.removed or ()]
    for removed, point in points:
        removed.point = _moved_point(point, runs)
    for kind, length in runs:
        if offset > at and coming is None:
            break
        if kind == DELETE:
            if offset <= at:
                inside = min(length, at - offset)
                if by is not By.OTHERS and at - offset <= length:
                    inner = ((each, point - offset) for each, point in points)
                    swallowed = tuple((e, within) for e, within in inner if 0 <= within <= length)
                    removed = Removed(inside, length, by is By.UNDO, offset, swallowed)
                    place.removed = [*(place.removed or ()), removed][-_MAX_REMOVED:]
                elif 0 < inside < length:
                    place.is_cut = True
                at -= inside
            continue
        if kind == INSERT:
            if coming is not None and (coming.point, coming.length) == (offset, length):
                assert place.removed is not None
                place.removed.remove(coming)
                for each, within in coming.swallowed:
                    each.point = offset + within
                # Text that was inserted here since, and went before it, stays before it.
                at += coming.offset if at == offset else length
                coming = _coming_back(place, by)
            elif offset < at or (offset == at and place.stick == "right"):
                at += length
        offset += length
    place.at = at


def _moved_point(point: int, runs: Sequence[_Run]) -> int:
    """Where a deletion would be inserted again: before what was inserted exactly there since."""
    offset = 0
    for kind, length in runs:
        if offset > point:
            break
        if kind == DELETE:
            point -= min(length, point - offset)
            continue
        if kind == INSERT and offset < point:
            point += length
        offset += length
    return point


def _coming_back(place: Place, by: By) -> Removed | None:
    """The deletion that is the next to be taken back by such an edit."""
    if by not in (By.UNDO, By.REDO):
        return None
    is_undo = by is By.REDO
    return next((each for each in reversed(place.removed or ()) if each.is_undo is is_undo), None)


def _runs(parts: Sequence[DeltaOp]) -> list[_Run]:
    """Kinds and lengths; what differs by its attributes alone is one run."""
    runs: list[_Run] = []
    for part in parts:
        kind, length = op_type(part), op_length(part)
        if runs and runs[-1][0] == kind:
            length += runs.pop()[1]
        runs.append((kind, length))
    return runs


def _deletions_first(runs: Sequence[_Run]) -> list[_Run]:
    """As `runs`, where text is replaced: what was put in its place leaves before it comes back."""
    ordered: list[_Run] = []
    for run in runs:
        if run[0] == DELETE and ordered and ordered[-1][0] == INSERT:
            ordered.insert(len(ordered) - 1, run)
        else:
            ordered.append(run)
    return ordered


# ---- along a path --------------------------------------------------------------------------------


def _is_element(path: str, is_member: bool) -> bool:
    return (ends_in_index(path) or path.endswith("/-")) and not is_member


def _after_removal(place: Place, path: str, is_member: bool) -> str | None:
    if place.path == path or is_under(place.path, path):
        place.is_gone = True
        return place.path
    return _shifted(place.path, path, -1) if _is_element(path, is_member) else place.path


def _after_insertion(path: str, at: str) -> str:
    return path if at.endswith("/-") else _shifted(path, at, 1)


def _shifted(path: str, at: str, by: int) -> str:
    """`path`, if it goes through the list of `at` at or behind that place, one place further."""
    above = parent(at) + "/"
    if not path.startswith(above):
        return path
    key, slash, rest = path[len(above) :].partition("/")
    if not is_index(key) or int(key) < int(last_key(at)) + (by < 0):
        return path
    return f"{above}{int(key) + by}{slash}{rest}"


def _follow_move(place: Place, op: Op) -> None:
    source, target = op["from"], op["path"]
    if source == target:
        return
    is_moved = place.path == source or is_under(place.path, source)
    inner = place.path[len(source) :] if is_moved else ""
    if not is_moved and _is_element(source, is_member_source(op)):
        place.path = _shifted(place.path, source, -1)
    if _is_element(target, is_member_path(op)):
        if not is_moved:
            place.path = _after_insertion(place.path, target)
    elif not is_moved and (place.path == target or is_under(place.path, target)):
        place.is_gone = True
    if is_moved:
        place.path = target + inner


def is_replacement(op: Op) -> bool:
    """Whether an operation may write over a text."""
    return op["op"] in ("replace", "add", "copy") and not (
        op["op"] != "replace" and _is_element(op["path"], is_member_path(op))
    )

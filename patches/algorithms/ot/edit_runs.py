"""Edits of one text or one list, many in a row, passed without visiting each.

Typing makes long queues of edits of one text, and each of them meets each edit that somebody else
made there. Nearly all those pairs lie apart in the text, and then the transform is a shift: what
lies behind moves by what the other edit put in or took out, what lies before stays
(`docs/internals/json-patch.md` 6.6, 7.5). So an edit is kept as the stretch that it touches, in the
coordinates it was written in, and edits in blocks whose bounds show for most blocks that an edit
lies before or behind all of them. Where stretches touch, the edits meet one by one; where no
rule for the touch is sure, the real transform decides. The result is that of the real transform
throughout.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from patches.json_patch.object_keys import OBJECT_KEY
from patches.model.json_values import Json, Op
from patches.text.utf16 import utf16_length

#: What the edits of a run are made to: a text at a path, a list, or a number. The edits of a number
#: leave each other as they are, so those runs have no edits here.
RunKind: TypeAlias = Literal["text", "list", "counter"]

_BLOCK: Final = 64
_BEHIND_ALL: Final = 1 << 60
#: What neither makes nor takes away an element.
_OVERWRITES: Final = frozenset({"replace", "test", "@inc", "@bit", "@max", "@min", "@txt"})


class Edit:
    """One operation on a text or list, as the stretch `low..high` it touches and its net growth.

    `low == high` is a point: between two characters of a text, or an index of a list. An edit of
    which nothing is left touches nothing: its `low` is behind everything, its `high` before it.
    """

    __slots__ = (
        "_given",
        "_given_low",
        "_parts",
        "_written",
        "_written_low",
        "high",
        "inserts",
        "kind",
        "low",
        "net",
        "place",
    )

    def __init__(
        self,
        kind: RunKind,
        place: str,
        ops: list[Op],
        *,
        low: int,
        high: int,
        net: int,
        parts: list[Op],
    ) -> None:
        self.kind = kind
        self.place: str = place
        self.low: int = low
        self.high: int = high
        self.net: int = net
        #: It only puts something in, at one point.
        self.inserts: bool = low == high and net > 0
        self._given, self._given_low = ops, low
        self._written, self._written_low = ops, low
        self._parts = parts

    def starts_with_insert(self) -> bool:
        """Whether a text edit inserts at its `low`."""
        return bool(self._parts) and "insert" in self._parts[0]

    def ends_with_insert(self) -> bool:
        """Whether a text edit inserts at its `high`."""
        return bool(self._parts) and "insert" in self._parts[-1]

    def ops(self) -> list[Op]:
        """The operation where it has come to stand: the very list given, if that is there."""
        if self.low == self._given_low or self.low > self.high:
            return self._given
        if self.low != self._written_low:
            if self.kind == "list":
                changed: Op = {"path": f"{self.place}/{self.low}"}
            else:
                retain = [{"retain": self.low}] if self.low else []
                changed = {"value": [*retain, *self._parts]}
            self._written, self._written_low = [{**self._given[0], **changed}], self.low
        return self._written

    def shift(self, by: int) -> None:
        """Move by what was put in or taken out before it."""
        self.low += by
        self.high += by

    def moved_behind(self, ops: list[Op]) -> list[Op] | None:
        """One operation at or in another element of this edit's list, moved behind the edit.

        `None` if that is not what `ops` are: then the real transform decides. The edit itself is
        not changed by such an operation.
        """
        if self.kind != "list" or len(ops) != 1:
            return None
        op = ops[0]
        path, place = op.get("path"), self.place
        if "from" in op or "soft" in op or OBJECT_KEY in op or not isinstance(path, str):
            return None
        if not path.startswith(place) or path[len(place) : len(place) + 1] != "/":
            return None
        key, slash, below = path[len(place) + 1 :].partition("/")
        if not is_index(key) or not (slash or op.get("op") in _OVERWRITES):
            return None
        index = int(key)
        if index == self.low:
            return None
        if index < self.low:
            return ops
        return [{**op, "path": f"{place}/{index + self.net}{slash}{below}"}]


def edit_of(ops: list[Op]) -> Edit | None:
    """The edit that a list of one plain operation is; `None` for everything else."""
    if len(ops) != 1:
        return None
    op = ops[0]
    if "from" in op or "soft" in op or OBJECT_KEY in op:
        return None
    match op.get("op"):
        case "@txt":
            return _text_edit(ops)
        case "add" if "value" in op:
            return _list_edit(ops, 1)
        case "remove":
            return _list_edit(ops, -1)
    return None


def _list_edit(ops: list[Op], net: int) -> Edit | None:
    path = ops[0].get("path")
    if not isinstance(path, str):
        return None
    place, slash, key = path.rpartition("/")
    if not slash or not is_index(key):
        return None
    index = int(key)
    return Edit("list", place, ops, low=index, high=index, net=net, parts=[])


def _text_edit(ops: list[Op]) -> Edit | None:
    path, parts = ops[0].get("path"), ops[0].get("value")
    if not isinstance(path, str) or not isinstance(parts, list):
        return None
    if not parts:
        return Edit("text", path, ops, low=_BEHIND_ALL, high=-1, net=0, parts=parts)
    low = 0
    before: Op | None = None
    if isinstance(parts[0], dict) and parts[0].keys() == {"retain"}:
        low = parts[0]["retain"]
        if type(low) is not int or low <= 0:
            return None
        before, parts = parts[0], parts[1:]
    high, net = low, 0
    for part in parts:
        measured = _measured(part, before)
        if measured is None:
            return None
        touched, growth = measured
        high += touched
        net += growth
        before = part
    if before is None or before.keys() == {"retain"}:
        return None
    return Edit("text", path, ops, low=low, high=high, net=net, parts=parts)


def _measured(part: Json, before: Mapping[str, Json] | None) -> tuple[int, int] | None:
    """What a part touches and how much it grows the text; `None` if a transform would rewrite it.

    The real transform joins, reorders and drops parts that nobody should have written so.
    """
    if not isinstance(part, dict):
        return None
    attributes = part.get("attributes")
    keys = len(part) - ("attributes" in part)
    if keys != 1 or ("attributes" in part and not (isinstance(attributes, dict) and attributes)):
        return None
    if "insert" in part:
        if before is not None and (
            "delete" in before or ("insert" in before and before.get("attributes") == attributes)
        ):
            return None
        inserted = part["insert"]
        if isinstance(inserted, str):
            length = utf16_length(inserted)
            return (0, length) if length else None
        return (0, 1) if isinstance(inserted, dict) else None
    name = "delete" if "delete" in part else "retain"
    width = part.get(name)
    if type(width) is not int or width <= 0:
        return None
    if name == "delete":
        if attributes is not None or (before is not None and "delete" in before):
            return None
        return width, -width
    if before is not None and "retain" in before and before.get("attributes") == attributes:
        return None
    return width, 0


def is_index(key: str) -> bool:
    """Whether a part of a pointer is the index of an element, as a transform sees it."""
    return key.isascii() and key.isdigit() and (key[0] != "0" or key == "0")


class _Block:
    """Neighbours in a run, and bounds that hold for all of them.

    Every edit begins at or behind `min_low`, in the coordinates it was written in. An edit that
    starts behind `max_reach` on its way in is behind each of them on its way through.
    """

    __slots__ = (
        "edits",
        "first_insert",
        "is_measured",
        "last_insert",
        "max_reach",
        "min_low",
        "net",
        "pending_shift",
        "positions",
    )

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.edits: list[Edit] = []
        self.pending_shift = 0
        self.is_measured = False

    def apply_shift(self) -> None:
        """Move the edits by what the bounds have moved by already."""
        if self.pending_shift:
            for edit in self.edits:
                edit.low += self.pending_shift
                edit.high += self.pending_shift
            self.pending_shift = 0

    def measure(self) -> None:
        """Compute the bounds from the edits, if they are not known."""
        if self.is_measured:
            return
        self.is_measured = True
        net, min_low, max_reach = 0, 1 << 62, -1
        first_insert = last_insert = True
        for edit in self.edits:
            if edit.low <= min_low:
                first_insert = edit.inserts and (first_insert or edit.low < min_low)
                min_low = edit.low
            reach = edit.high - net
            if reach >= max_reach:
                last_insert = edit.inserts and (last_insert or reach > max_reach)
                max_reach = reach
            net += edit.net
        self.net, self.min_low, self.max_reach = net, min_low, max_reach
        #: Whether all edits that stand at `min_low`, and at `max_reach`, only insert.
        self.first_insert, self.last_insert = first_insert, last_insert


class EditRun:
    """The edits of one text or list in a queue, in its order."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._firsts: list[int] = []  # first position of each block, which stays

    def append(self, position: int, edit: Edit) -> None:
        """Add an edit behind all others."""
        if not self._blocks or len(self._blocks[-1].edits) >= _BLOCK:
            self._blocks.append(_Block())
            self._firsts.append(position)
        self._blocks[-1].positions.append(position)
        self._blocks[-1].edits.append(edit)

    def edit_at(self, position: int) -> Edit:
        """The edit at a position of the queue, which must have one."""
        block = self._block_of(position)
        block.apply_shift()
        return block.edits[bisect_left(block.positions, position)]

    def put(self, position: int, edit: Edit | None) -> None:
        """Replace the edit at a position, or take it out."""
        block = self._block_of(position)
        block.apply_shift()
        at = bisect_left(block.positions, position)
        if edit is not None:
            block.edits[at] = edit
        else:
            del block.positions[at], block.edits[at]
        block.is_measured = False

    def pass_over(self, edit: Edit, start: int, stop: int) -> int | None:
        """Move the edits at positions `start <= position < stop` behind `edit`, and it over them.

        Returns the position of the first one for which that takes the real transform, and goes no
        further then.
        """
        first = max(bisect_right(self._firsts, start) - 1, 0)
        for at in range(first, len(self._blocks)):
            block = self._blocks[at]
            if not block.positions or block.positions[-1] < start:
                continue
            if block.positions[0] >= stop:
                break
            whole = block.positions[0] >= start and block.positions[-1] < stop
            if not (whole and _pass_block(edit, block)):
                unsure = _pass_each(edit, block, start, stop)
                if unsure is not None:
                    return unsure
        return None

    def _block_of(self, position: int) -> _Block:
        return self._blocks[bisect_right(self._firsts, position) - 1]


def _pass_block(edit: Edit, block: _Block) -> bool:
    block.measure()
    if edit.high < block.min_low:
        _shift_block(block, edit.net)
    elif edit.low > block.max_reach:
        edit.shift(block.net)
    elif edit.inserts and edit.low == block.min_low and block.first_insert and edit.kind == "text":
        _shift_block(block, edit.net)  # at one point the history's insertion is first in a text
    elif edit.inserts and edit.low == block.max_reach and block.last_insert and edit.kind == "list":
        edit.shift(block.net)  # and last in a list
    else:
        return False
    return True


def _shift_block(block: _Block, by: int) -> None:
    block.pending_shift += by
    block.min_low += by
    block.max_reach += by


def _pass_each(edit: Edit, block: _Block, start: int, stop: int) -> int | None:
    block.apply_shift()
    unsure: int | None = None
    low, high, net = edit.low, edit.high, edit.net
    for position, mine in zip(block.positions, block.edits, strict=True):
        if position < start:
            continue
        if position >= stop:
            break
        if high < mine.low:
            mine.low += net
            mine.high += net
        elif low > mine.high:
            low += mine.net
            high += mine.net
        else:
            moves = _touching(edit, low, mine)
            if moves is None:
                unsure = position
                break
            mine.shift(moves[0])
            low += moves[1]
            high += moves[1]
    edit.low, edit.high = low, high
    block.is_measured = False
    return unsure


def _touching(edit: Edit, low: int, mine: Edit) -> tuple[int, int] | None:
    """How far `mine` moves behind `edit`, and `edit` over `mine`, where they touch at `low`."""
    if edit.kind == "text":
        # Where the two meet end to end neither cuts the other. Of two insertions at one point the
        # history's is first.
        if low + edit.high - edit.low == mine.low:
            return edit.net, 0
        if low == mine.high and not (edit.starts_with_insert() and mine.ends_with_insert()):
            return 0, mine.net
        return None
    match (edit.net, mine.net):
        case (1, 1):
            return (0, 1)  # two insertions at one index: the queue's is first
        case (1, -1):
            return (1, 0)  # what is removed has moved up
        case (-1, 1):
            return (0, 1)
    return None  # both removed it: neither is left

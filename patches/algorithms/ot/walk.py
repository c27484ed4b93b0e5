"""The transform walk: a queue of programs moved behind a history, one step at a time.

The client's walk over its pending changes and the server's walk over incoming ones are this one
(`docs/internals/ot.md` 4). A *queue* is a sequence of operation lists, each made after the one
before it; a *history* operation list is carried through the queue as it goes: an entry is
transformed to follow the history, and the history is advanced over the entry as it was.
Transforming every entry against the raw history would be wrong from the second entry on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from patches.algorithms.ot.edit_runs import EditRun, RunKind, edit_of
from patches.algorithms.ot.meeting_index import MeetingIndex, places
from patches.algorithms.ot.slots import counter_place, is_independent, steady_place
from patches.json_patch import transform_patch
from patches.json_patch.pointer import is_index, last_key
from patches.model.change import Change
from patches.model.json_values import Op

#: The run that an operation is in: its kind, and the path of the text, list or number.
_Run: TypeAlias = tuple[RunKind, str]


class TransformWalk:
    """One queue under way. The lists given are never changed.

    A program of the queue whose operations are independent has a slot for each of them, any other
    one has a single slot and is met as a whole. Slots are numbered through the queue.
    """

    def __init__(
        self,
        queue: Iterable[list[Op]] = (),
        *,
        checkpoint: Callable[[], object] | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._given: list[list[Op]] = []
        self._removed: set[int] = set()
        self._first: list[int] = []  # of each entry: its first slot
        self._entry_of: list[int] = []  # of each slot
        self._slots: list[list[Op]] = []
        self._index = MeetingIndex()  # of the slots that are walked one by one
        self._wholes = MeetingIndex()  # of the others
        self._whole_at: set[int] = set()
        self._runs: dict[_Run, EditRun] = {}
        self._run_at: dict[int, _Run] = {}
        for ops in queue:
            self.add(ops)

    def add(self, ops: list[Op]) -> None:
        """Add a program behind the others, before any history is followed."""
        entry, first = len(self._given), len(self._slots)
        self._given.append(ops)
        self._first.append(first)
        if is_independent(ops):
            for op in ops:
                slot = ops if len(ops) == 1 else [op]
                self._entry_of.append(entry)
                self._slots.append(slot)
                self._enter(len(self._slots) - 1, slot)
        else:
            self._slots.append(ops)
            self._entry_of.append(entry)
            self._whole_at.add(first)
            self._wholes.put(first, ops)

    def programs(self) -> list[list[Op] | None]:
        """The operation lists of the queue as transformed so far; `None` for a removed entry.

        An entry that nothing touched is the very list that was given.
        """
        return [
            None if entry in self._removed else self._program(entry)
            for entry in range(len(self._given))
        ]

    def remove(self, entry: int) -> None:
        """Take an entry out, untransformed: it has become part of the history."""
        self._removed.add(entry)
        for slot in self._slots_of(entry):
            self._put(slot, [])

    def follow(self, ops: list[Op]) -> list[Op]:
        """Move the whole queue behind `ops`. Returns `ops` as they are after the whole queue."""
        if not ops:
            return ops
        if not is_independent(ops):
            return self._follow_whole(ops, 0)
        if len(ops) == 1:
            return self._follow_parts([_Part(ops)], ops)
        return self._follow_parts([_Part([op]) for op in ops], ops)

    # ---- a history program whose operations are walked one by one --------------------------------

    def _follow_parts(self, parts: list[_Part], given: list[Op]) -> list[Op]:
        start, end = 0, len(self._slots)
        while True:
            # What is met as a whole is met by all parts at once, where all have come up to it.
            stop = self._first_whole(parts, start) if self._whole_at else end
            for part in parts:
                self._carry(part, start, stop)
            if stop == end:
                break
            ops = _joined(parts, given)
            ahead = self._meet(stop, ops)
            # What is left of it may fill further slots of its entry, which have been met with it.
            start = self._slots_of(self._entry_of[stop]).stop
            if ahead is not ops:
                if not is_independent(ahead):
                    return self._follow_whole(ahead, start) if ahead else ahead
                parts, given = [_Part([op]) for op in ahead], ahead
        return _joined(parts, given)

    def _first_whole(self, parts: list[_Part], start: int) -> int:
        steady = tuple({steady_place(op) for part in parts for op in part.ops()})
        found = self._wholes.first_meeting(steady, start)
        return len(self._slots) if found is None else found

    def _carry(self, part: _Part, start: int, stop: int) -> None:
        """Move the slots from `start` to `stop` behind one part, and the part over them."""
        slot = self._next(part, start, stop)
        while slot is not None:
            if self._checkpoint is not None:
                self._checkpoint()
            self._pair(part, slot)
            slot = self._next(part, slot + 1, stop)

    def _next(self, part: _Part, start: int, stop: int) -> int | None:
        """The next slot that takes the real transform; edits of a run before it are passed over."""
        run_of = part.run
        other = self._index.first_meeting(part.at, start, but=run_of[0] if run_of else None)
        if other is not None and other >= stop:
            other = None
        run = self._runs.get(run_of) if run_of is not None else None
        if run is not None:
            assert part.edit is not None
            unsure = run.pass_over(part.edit, start, stop if other is None else other)
            if unsure is not None:
                return unsure
        return other

    def _pair(self, part: _Part, slot: int) -> None:
        """A slot behind a part, and the part over the slot as it was."""
        mine, run = self._slot(slot), self._run_at.get(slot)
        if part.edit is not None and run is None:
            behind = part.edit.moved_behind(mine)
            if behind is not None:
                if behind is not mine:
                    self._put(slot, behind)
                return
        ops = part.ops()
        if part.edit is None and run in self._runs:
            ahead = self._runs[run].edit_at(slot).moved_behind(ops)
            if ahead is not None:
                part.put(ahead)
                return
        behind = transform_patch(None, ops, mine)
        part.put(transform_patch(None, mine, ops, other_ops_first=True))
        if behind is not mine:
            self._put(slot, behind)

    # ---- programs that are met as a whole --------------------------------------------------------

    def _follow_whole(self, ops: list[Op], start: int) -> list[Op]:
        """Move every entry from the slot `start` on behind `ops`, each entry as a whole."""
        at = places(ops)
        slot = self._first_slot(at, start)
        while slot is not None:
            if self._checkpoint is not None:
                self._checkpoint()
            after = self._meet(slot, ops)
            if after is not ops:
                ops, at = after, places(after)
            slot = self._first_slot(at, self._slots_of(self._entry_of[slot]).stop)
        return ops

    def _first_slot(self, at: tuple[str, ...], start: int) -> int | None:
        found = self._index.first_meeting(at, start)
        whole = self._wholes.first_meeting(at, start) if self._whole_at else None
        if found is None or whole is None:
            return whole if found is None else found
        return min(found, whole)

    def _meet(self, slot: int, ops: list[Op]) -> list[Op]:
        """The entry of a slot behind `ops`; returns `ops` over the entry as it was."""
        entry = self._entry_of[slot]
        mine = self._program(entry)
        behind = transform_patch(None, ops, mine, checkpoint=self._checkpoint)
        ahead = transform_patch(None, mine, ops, other_ops_first=True, checkpoint=self._checkpoint)
        if behind is not mine:
            self._put_program(entry, behind)
        return _over(mine, behind, ahead)

    # ---- slots -----------------------------------------------------------------------------------

    def _slots_of(self, entry: int) -> range:
        following = entry + 1
        end = self._first[following] if following < len(self._first) else len(self._slots)
        return range(self._first[entry], end)

    def _program(self, entry: int) -> list[Op]:
        slots = self._slots_of(entry)
        if len(slots) == 1:
            return self._slot(slots.start)
        ops = [op for slot in slots for op in self._slot(slot)]
        given = self._given[entry]
        return given if len(ops) == len(given) and all(map(_is, ops, given)) else ops

    def _put_program(self, entry: int, ops: list[Op]) -> None:
        slots = self._slots_of(entry)
        if len(slots) == 1 or len(ops) > len(slots) or not is_independent(ops):
            self._put(slots.start, ops, as_whole=not is_independent(ops))
            filled = 1
        else:
            for slot, op in zip(slots, ops, strict=False):
                self._put(slot, [op])
            filled = len(ops)
        for slot in slots[filled:]:
            self._put(slot, [])

    def _slot(self, slot: int) -> list[Op]:
        run = self._run_at.get(slot)
        if run is not None and run in self._runs:
            return self._runs[run].edit_at(slot).ops()
        return self._slots[slot]

    def _put(self, slot: int, ops: list[Op], *, as_whole: bool = False) -> None:
        self._slots[slot] = ops
        run = self._run_at.get(slot)
        if run is not None:
            edit = edit_of(ops) if run in self._runs else None
            if edit is not None and (edit.kind, edit.place) == run:
                self._runs[run].put(slot, edit)
                return
            if run in self._runs:
                self._runs[run].put(slot, None)
            self._index.remove_from_run(slot, *run)
            del self._run_at[slot]
        if slot in self._whole_at and not as_whole:
            self._whole_at.discard(slot)
            self._wholes.put(slot, [])
        # A run is entered in order only: what comes to be one of its edits later stays outside.
        if as_whole:
            self._whole_at.add(slot)
            self._index.put(slot, [])
            self._wholes.put(slot, ops)
        else:
            self._index.put(slot, ops)

    def _enter(self, slot: int, ops: list[Op]) -> None:
        edit = edit_of(ops)
        if edit is not None:
            run: _Run = (edit.kind, edit.place)
            if run not in self._runs:
                self._runs[run] = EditRun()
            self._runs[run].append(slot, edit)
        else:
            path = counter_place(ops)
            if path is None:
                self._index.put(slot, ops)
                return
            run = ("counter", path)
        self._index.put_in_run(slot, *run)
        self._run_at[slot] = run


class _Part:
    """One operation of a history program on its way through a queue, or what has come of it."""

    __slots__ = ("_ops", "at", "edit", "run")

    def __init__(self, ops: list[Op]) -> None:
        self.put(ops)

    def ops(self) -> list[Op]:
        """The operations where they have come to stand."""
        return self._ops if self.edit is None else self.edit.ops()

    def put(self, ops: list[Op]) -> None:
        """Replace the operations."""
        self._ops = ops
        self.edit = edit_of(ops)
        self.run: _Run | None = None
        if self.edit is not None:
            self.at: tuple[str, ...] = (self.edit.place,)
            self.run = (self.edit.kind, self.edit.place)
            return
        self.at = places(ops)
        path = counter_place(ops)
        if path is not None:
            self.run = ("counter", path)


def _over(mine: list[Op], behind: list[Op], ahead: list[Op]) -> list[Op]:
    """`ahead`, which follows `mine`, where of `mine` only `behind` is left.

    A copy whose source is gone or overwritten is dropped. What it put into a list goes with it, or
    the entries after it would be taken for one place too far.
    """
    if behind or len(mine) != 1 or mine[0]["op"] != "copy":
        return ahead
    path = mine[0].get("path")
    if not isinstance(path, str) or not is_index(last_key(path)) or "obj" in mine[0]:
        return ahead
    return [*ahead, *transform_patch(None, ahead, [{"op": "remove", "path": path}])]


def _joined(parts: list[_Part], given: list[Op]) -> list[Op]:
    """The operations of all parts; the list given if they are the very ones in it."""
    if len(parts) == 1:
        return parts[0].ops()
    ops = [op for part in parts for op in part.ops()]
    return given if len(ops) == len(given) and all(map(_is, ops, given)) else ops


def _is(a: object, b: object) -> bool:
    return a is b


def walk_changes(
    queue: Sequence[Change],
    history: Sequence[Change],
    is_echo: Callable[[Change], bool],
    *,
    checkpoint: Callable[[], object] | None = None,
) -> tuple[list[tuple[Change, list[Op]]], list[list[Op]]]:
    """Move a queue of changes behind a history of committed ones.

    A history change for which `is_echo` holds is the queue owner's own: its entry, by id, leaves
    the queue untransformed, having served as a frame for the history before it. Returns the entries
    left, each with its new operations (an empty list if nothing is left of it), and the operations
    of every other history change, advanced over the queue.
    """
    if all(map(is_echo, history)):
        # The usual answer to a commit: nothing to transform, however long the queue is.
        echoed = {change.id for change in history}
        return [(change, change.ops) for change in queue if change.id not in echoed], []
    walk = TransformWalk((change.ops for change in queue), checkpoint=checkpoint)
    positions = {change.id: position for position, change in reversed(list(enumerate(queue)))}
    advanced: list[list[Op]] = []
    for committed in history:
        if is_echo(committed):
            position = positions.pop(committed.id, None)
            if position is not None:
                walk.remove(position)
        else:
            advanced.append(walk.follow(committed.ops))
    left = [
        (change, ops) for change, ops in zip(queue, walk.programs(), strict=True) if ops is not None
    ]
    return left, advanced

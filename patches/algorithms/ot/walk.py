"""The transform walk: a queue of programs moved behind a history, one step at a time.

The client's walk over its pending changes and the server's walk over incoming ones are this one
(`spec/ot.md` 4). A *queue* is a sequence of operation lists, each made after the one before it; a
*history* operation list is carried through the queue as it goes: an entry is transformed to follow
the history, and the history is advanced over the entry as it was. Transforming every entry against
the raw history would be wrong from the second entry on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from patches.algorithms.ot.edit_runs import Edit, EditRun, RunKind, edit_of
from patches.algorithms.ot.meeting_index import MeetingIndex, places
from patches.json_patch import transform_patch
from patches.model.change import Change
from patches.model.json_values import Op


class TransformWalk:
    """One queue under way. The lists given are never changed."""

    def __init__(self, queue: Sequence[list[Op]]) -> None:
        self._programs: list[list[Op] | None] = list(queue)
        self._index = MeetingIndex()
        self._runs: dict[tuple[RunKind, str], EditRun] = {}
        self._in_run: dict[int, tuple[RunKind, str]] = {}
        for position, ops in enumerate(queue):
            edit = edit_of(ops)
            if edit is not None:
                self._enter_run(position, edit)
            elif ops:
                self._index.put(position, ops)

    def programs(self) -> list[list[Op] | None]:
        """The operation lists of the queue as transformed so far; `None` for a removed entry.

        An entry that nothing touched is the very list that was given.
        """
        return [self._program(position) for position in range(len(self._programs))]

    def remove(self, position: int) -> None:
        """Take an entry out, untransformed: it has become part of the history."""
        self._put(position, None)

    def follow(self, ops: list[Op]) -> list[Op]:
        """Move the whole queue behind `ops`. Returns `ops` as they are after the whole queue."""
        at, edit = places(ops), edit_of(ops)
        position = self._next(at, edit, 0)
        while position is not None:
            entry = self._program(position)
            assert entry is not None  # what is removed is not in the index
            ops = edit.ops() if edit is not None else ops
            behind, ahead = self._pair(ops, edit, position, entry)
            if behind is not entry:
                self._put(position, behind)
            if ahead is not ops:
                ops, at, edit = ahead, places(ahead), edit_of(ahead)
            position = self._next(at, edit, position + 1)
        return ops if edit is None else edit.ops()

    def _pair(
        self, ops: list[Op], edit: Edit | None, position: int, entry: list[Op]
    ) -> tuple[list[Op], list[Op]]:
        """`entry` behind `ops`, and `ops` ahead over `entry` as it was."""
        key = self._in_run.get(position)
        if edit is not None and key is None:
            behind = edit.moved_behind(entry)
            if behind is not None:
                return behind, ops
        elif edit is None and key is not None:
            ahead = self._runs[key].edit_at(position).moved_behind(ops)
            if ahead is not None:
                return entry, ahead
        return (
            transform_patch(None, ops, entry),
            transform_patch(None, entry, ops, other_ops_first=True),
        )

    def _next(self, at: tuple[str, ...], edit: Edit | None, start: int) -> int | None:
        """The next position that takes the real transform; run-mates before it are passed over."""
        run = self._runs.get((edit.kind, edit.place)) if edit is not None else None
        if edit is None or run is None:
            return self._index.first_meeting(at, start)
        other = self._index.first_meeting(at, start, but=edit.kind)
        stop = len(self._programs) if other is None else other
        unsure = run.pass_over(edit, start, stop)
        return other if unsure is None else unsure

    def _program(self, position: int) -> list[Op] | None:
        key = self._in_run.get(position)
        if key is not None:
            return self._runs[key].edit_at(position).ops()
        return self._programs[position]

    def _put(self, position: int, ops: list[Op] | None) -> None:
        self._programs[position] = ops
        key = self._in_run.get(position)
        edit = edit_of(ops) if ops else None
        if key is not None:
            if edit is not None and (edit.kind, edit.place) == key:
                self._runs[key].put(position, edit)
                return
            self._runs[key].put(position, None)
            self._index.remove_from_run(position, *key)
            del self._in_run[position]
        # A run is entered in order only: what comes to be one of its edits later stays outside.
        self._index.put(position, ops or [])

    def _enter_run(self, position: int, edit: Edit) -> None:
        key = (edit.kind, edit.place)
        if key not in self._runs:
            self._runs[key] = EditRun()
        self._runs[key].append(position, edit)
        self._index.put_in_run(position, edit.kind, edit.place)
        self._in_run[position] = key


def walk_changes(
    queue: Sequence[Change], history: Sequence[Change], is_echo: Callable[[Change], bool]
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
    walk = TransformWalk([change.ops for change in queue])
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

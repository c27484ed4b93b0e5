"""The transform walk: a queue of programs moved behind a history, one step at a time.

The client's walk over its pending changes and the server's walk over incoming ones are this one
(`spec/ot.md` 4). A *queue* is a sequence of operation lists, each made after the one before it; a
*history* operation list is carried through the queue as it goes: an entry is transformed to follow
the history, and the history is advanced over the entry as it was. Transforming every entry against
the raw history would be wrong from the second entry on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from patches.algorithms.ot.meeting_index import MeetingIndex, places
from patches.change import Change
from patches.json_patch import transform_patch
from patches.json_values import Op


class TransformWalk:
    """One queue under way. `programs` are its operation lists as transformed so far, by position.

    The lists given are never changed; an entry that nothing touched is the very list that was
    given. A removed entry is `None`.
    """

    def __init__(self, queue: Sequence[list[Op]]) -> None:
        self.programs: list[list[Op] | None] = list(queue)
        self._index = MeetingIndex()
        for position, ops in enumerate(queue):
            if ops:
                self._index.put(position, ops)

    def remove(self, position: int) -> None:
        """Take an entry out, untransformed: it has become part of the history."""
        self.programs[position] = None
        self._index.remove(position)

    def follow(self, ops: list[Op]) -> list[Op]:
        """Move the whole queue behind `ops`. Returns `ops` as they are after the whole queue."""
        at = places(ops)
        position = self._index.first_meeting(at, 0)
        while position is not None:
            entry = self.programs[position]
            assert entry is not None  # what is removed is not in the index
            behind = transform_patch(None, ops, entry)
            ahead = transform_patch(None, entry, ops, other_ops_first=True)
            if behind is not entry:
                self._put(position, behind)
            if ahead is not ops:
                ops, at = ahead, places(ahead)
            position = self._index.first_meeting(at, position + 1)
        return ops

    def _put(self, position: int, ops: list[Op]) -> None:
        self.programs[position] = ops
        if ops:
            self._index.put(position, ops)
        else:
            self._index.remove(position)


def walk_changes(
    queue: Sequence[Change], history: Sequence[Change], is_echo: Callable[[Change], bool]
) -> tuple[list[tuple[Change, list[Op]]], list[list[Op]]]:
    """Move a queue of changes behind a history of committed ones.

    A history change for which `is_echo` holds is the queue owner's own: its entry, by id, leaves
    the queue untransformed, having served as a frame for the history before it. Returns the entries
    left, each with its new operations (an empty list if nothing is left of it), and the operations
    of every other history change, advanced over the queue.
    """
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
        (change, ops) for change, ops in zip(queue, walk.programs, strict=True) if ops is not None
    ]
    return left, advanced

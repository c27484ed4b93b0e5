"""`UnsavedEdits`: the edits of an open document that are not stored yet, and how they move.

They stand on the document's pending queue. What is committed, or appended to the queue by another
process, goes before them: their operation lists are rewritten in place. An edit on its way to the
store is known by the ids of its changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from patches.algorithms.ot.apply import without_absent
from patches.algorithms.ot.walk import TransformWalk
from patches.errors import PatchError
from patches.json_patch import apply_patch
from patches.model.change import Change
from patches.model.json_values import Json, Op


class UnsavedEdits:
    """Moves the live lists of a document's queue of unsaved edits. Owned by the document."""

    def __init__(self, edits: deque[list[Op]]) -> None:
        self._edits = edits  # the document's own
        #: By change id: edits on their way to the store. A call that failed may have stored them
        #: all the same.
        self._being_stored: dict[str, list[Op]] = {}
        #: Edits that do not apply any more, and why: they are to be set aside, not stored.
        self._refused: list[tuple[list[Op], str]] = []

    def forget(self, ops: list[Op]) -> None:
        """Drop an edit that came to nothing when it was to be stored."""
        for at, waiting in enumerate(self._edits):
            if waiting is ops:
                del self._edits[at]
                return

    def refuse(self, ops: list[Op], reason: str) -> None:
        """An edit does not apply any more. It is shown no more, and waits to be set aside."""
        self.forget(ops)
        self._refused.append((ops, reason))

    def refuse_all(self, reason: str) -> None:
        """What all edits were made on is gone."""
        for ops in [*self._edits]:
            self.refuse(ops, reason)

    @property
    def has_refused(self) -> bool:
        """Whether any edit waits to be set aside."""
        return bool(self._refused)

    def refusal_of(self, ops: list[Op]) -> str | None:
        """Why an edit is to be set aside; `None` if it is not."""
        return next((reason for refused, reason in self._refused if refused is ops), None)

    def set_aside(self, ops: list[Op]) -> None:
        """A refused edit is in quarantine."""
        self._refused = [refused for refused in self._refused if refused[0] is not ops]
        ops.clear()

    def take_back(self) -> None:
        """Forget all edits and empty their lists."""
        for ops in (*self._edits, *(ops for ops, _ in self._refused)):
            ops.clear()
        self._edits.clear()
        self._refused.clear()

    def storing(self, changes: Sequence[Change], ops: list[Op]) -> list[Change]:
        """This edit is on its way to the store as these changes.

        When one of them turns up there, it was stored, whatever the call that stores it says.
        Returns those that were not on their way before.
        """
        new: list[Change] = []
        for change in changes:
            if change.id not in self._being_stored:
                new.append(change)
            self._being_stored[change.id] = ops
        return new

    def arrived(self, changes: Sequence[Change]) -> None:
        """These are on their way no more: they are stored, or for sure they are not."""
        for change in changes:
            self._being_stored.pop(change.id, None)

    def move(
        self,
        queue: Sequence[Change],
        committed: Sequence[Change],
        pending: Sequence[Change],
        advanced: Sequence[list[Op]] | None = None,
    ) -> list[Change]:
        """Move the edits, which stand on `queue`, behind committed changes and behind `pending`,
        the queue after those.

        `advanced`: the committed changes as they are behind `queue`, if that is known. Returns what
        others have appended to the queue. An edit that is among the changes was stored, and is
        emptied.
        """
        if not (queue or pending or self._edits):
            return []
        others = self._appended_by_others(queue, pending)
        own: dict[str, int] = {}
        if self._edits:
            own = {change.id: at for at, change in enumerate(queue)}
        if self._edits and (others or any(change.id not in own for change in committed)):
            is_stored = self.stored_among([*committed, *pending])
            if advanced is None or is_stored:
                programs = self._behind_committed(queue, committed, own, pending)
            else:  # the queue has been walked already
                programs = behind([*self._edits], advanced)
            # Those of others stand on our queue, as unsaved edits do.
            self._rewrite(behind(programs, [change.ops for change in others]))
        self.stored_among([*committed, *pending], clear=True)
        return others

    def _appended_by_others(
        self, queue: Sequence[Change], pending: Sequence[Change]
    ) -> list[Change]:
        """What stands in the queue behind all that is ours, with the edits that were stored.

        What is unknown in between is a piece of ours: another process has cut it.
        """
        if not pending or (queue and queue[-1].id == pending[-1].id):
            return []
        own = {change.id for change in queue}
        last = next((at for at in range(len(pending), 0, -1) if pending[at - 1].id in own), 0)
        return [change for change in pending[last:] if change.id not in self._being_stored]

    def _behind_committed(
        self,
        queue: Sequence[Change],
        committed: Sequence[Change],
        own: Mapping[str, int],
        pending: Sequence[Change],
    ) -> list[list[Op]]:
        """The edits behind committed changes, walked as the end of the queue."""
        count = len(queue)
        places = {id(ops): count + at for at, ops in enumerate(self._edits)}
        walk = TransformWalk([*(change.ops for change in queue), *self._edits])
        for change in committed:
            at = own.get(change.id)
            if at is None and change.id in self._being_stored:
                at = places.get(id(self._being_stored[change.id]))
            if at is None:
                walk.follow(change.ops)
            else:
                walk.remove(at)
        for ops in self.stored_among(pending):
            if id(ops) in places:
                walk.remove(places[id(ops)])
        return [ops or [] for ops in walk.programs()[count:]]

    def stored_among(self, changes: Sequence[Change], *, clear: bool = False) -> list[list[Op]]:
        """The edits that are among stored changes. `clear`: they are emptied."""
        if not self._being_stored:
            return []
        found = [self._being_stored[c.id] for c in changes if c.id in self._being_stored]
        if clear:
            for ops in found:
                ops.clear()
            self._being_stored = {name: ops for name, ops in self._being_stored.items() if ops}
            self._refused = [refused for refused in self._refused if refused[0]]
        return found

    def without_stored(self, state: Json, changes: Sequence[Change]) -> Json:
        """Take the edits off that are among stored changes. Returns the state that the others stand
        on, `state` being what all stood on.
        """
        for ops in self.stored_among(changes):
            try:
                base: Json = {} if state is None else state
                state = without_absent(apply_patch(base, ops, strict=True))
            except PatchError:
                continue  # a rebase has removed what it edits; the stored one counts
        self.stored_among(changes, clear=True)
        return state

    def follow(self, ops: list[Op]) -> None:
        """Move the edits behind `ops`, which were made on what they stand on."""
        self._rewrite(behind([*self._edits], [ops]))

    def _rewrite(self, programs: Sequence[list[Op]]) -> None:
        for ops, rebased in zip(self._edits, programs, strict=True):
            if rebased is not ops:
                ops[:] = rebased


def behind(queue: Sequence[list[Op]], history: Sequence[list[Op]]) -> list[list[Op]]:
    """The programs of a queue, moved behind a history that was made on the same state."""
    if not history:
        return list(queue)
    walk = TransformWalk(queue)
    for ops in history:
        walk.follow(ops)
    return [ops or [] for ops in walk.programs()]

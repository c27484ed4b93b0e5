"""`Working`: the rows that an open document shows, and what of them is sent.

What is committed, with what is pending run on it. Where the server runs the actions, pending ones
stand on top, and it decides. Where it does not, they are run at the place of their clocks among
those that are committed, since what comes of that is what will be committed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from patches.algorithms.replay.actions import Actions
from patches.algorithms.replay.changes import (
    CORRECTION,
    GROUP,
    RIGHTS,
    SHARED,
    SYNC,
    call_of,
    key_of,
    plain_ops,
    units_of,
)
from patches.algorithms.replay.running import Invocation
from patches.algorithms.replay.tables import ClientRun
from patches.algorithms.replay.timeline import Diverged, Entry, Placed, Timeline
from patches.model.change import Change
from patches.model.ids import IdSource
from patches.model.json_values import Json, Op, json_equal
from patches.rows.row_ops import RowOp, State, parse_row_ops
from patches.rows.schema import AUDIENCE, EVERYBODY
from patches.rows.working_copy import WorkingCopy
from patches.runtime import Millis

MOST_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """What an open document makes actions with."""

    actions: Actions
    new_id: IdSource
    now: Callable[[], Millis]
    author: str | None = None


@dataclass(frozen=True, slots=True)
class Beyond:
    """What actions that others have run do to rows that only this user sees."""

    corrects: tuple[str, ...]
    ops: Sequence[Op]


class Working:
    """Belongs to one document, which closes it. `run`: what is known of what was committed, in a
    document whose actions are run by who commits them; `None` in others.
    """

    def __init__(
        self,
        maker: Maker,
        state: State,
        run: ClientRun | None,
        pending: Sequence[Change],
        diverged: Diverged,
    ) -> None:
        self._maker = maker
        copy = WorkingCopy(maker.actions.schema)
        copy.load(state)
        self._timeline = Timeline(copy, check_purity=maker.actions.check_purity, diverged=diverged)
        #: What is to be added to the effect of actions that others have run, for the owner to take.
        self.beyond: Beyond | None = None
        self._is_client_run = run is not None
        self._is_partial = run is not None and run.partial
        for unit in run.units if run is not None else ():
            self._timeline.past.append(self._entries_of(unit.changes), list(unit.back))
        self._pending: set[str] = set()
        self._sent: tuple[list[tuple[str, list[Op]]], list[Op]] = ([], [])
        self._place(pending)

    def close(self) -> None:
        """Release the rows."""
        self._timeline.copy.close()

    @property
    def state(self) -> State:
        """What is shown."""
        return self._timeline.copy.state

    def query(self, query: str, values: Sequence[Json]) -> list[dict[str, Json]]:
        """The rows of one SELECT."""
        return self._timeline.copy.query(query, values)

    def errors(self) -> dict[str, str | None]:
        """What each action raises now, by id."""
        return {entry.id: entry.error for entry in self._timeline.entries}

    # ---- what is made here -----------------------------------------------------------------------

    def run(self, change: Change) -> Placed:
        """Run an action that is made now. If it raises, nothing is left of it."""
        placed = self._timeline.place(self._entry(change))
        if placed.failure is not None:
            self._timeline.remove({change.id})
            raise placed.failure
        self._pending.add(change.id)
        return placed

    def remove(self, ids: Collection[str]) -> None:
        """Undo pending actions, and run again what comes after them."""
        self._timeline.remove(ids)
        self._pending -= set(ids)

    # ---- what the server committed ---------------------------------------------------------------

    def advance(
        self, new: Sequence[Change], written: Sequence[RowOp], pending: Sequence[Change]
    ) -> None:
        """Apply what was committed, below what is pending now."""
        timeline = self._timeline
        if self._is_known(new):
            self._pending -= {change.id for change in new}
            first = self._first_pending()
            timeline.move_to_past(first) if self._is_client_run else timeline.fold(first)
            return
        timeline.remove(self._pending)
        if self._is_client_run:
            for unit in units_of(new):
                ops = [op for change in unit for op in parse_row_ops(change.ops)]
                timeline.commit(self._entries_of(unit), ops)
            self.beyond = self._run_with_all_rights(new) if self._is_partial else None
        else:
            timeline.apply_to_start(written)
        self._pending.clear()
        self._place(pending)

    def _is_known(self, new: Sequence[Change]) -> bool:
        """Whether just what was run here was committed: then nothing is undone."""
        actions = [change for change in new if change.metadata.get("kind") != SYNC]
        synced = [op for change in new[len(actions) :] for op in plain_ops(change.ops)]
        if not new or new[: len(actions)] != actions:
            return not new
        sent, correction = self._sent
        if len(actions) < len(new):
            expected, is_placed = sent, json_equal(synced, correction)
        else:
            entries = self._timeline.entries[self._first_pending() :][: len(new)]
            expected = [(entry.id, entry.ops) for entry in entries]
            is_placed = not self._is_late()
        return (
            is_placed
            and len(expected) == len(actions)
            and all(
                change.id == change_id and json_equal(plain_ops(change.ops), ops)
                for change, (change_id, ops) in zip(actions, expected, strict=True)
            )
        )

    def _run_with_all_rights(self, new: Sequence[Change]) -> Beyond | None:
        """What actions of others do here to rows that they were not shown where they were run."""
        found = [change for change in new if self._sees_more(change)]
        if not found:
            return None
        mentioned = {(op.table, op.key) for change in new for op in parse_row_ops(change.ops)}
        extra = self._timeline.run_again_from(min(key_of(change) for change in found))
        ops = [
            op
            for op, parsed in zip(extra, parse_row_ops(extra), strict=True)
            if (parsed.table, parsed.key) not in mentioned and self._is_private(parsed)
        ]
        return Beyond(tuple(change.id for change in found), ops) if ops else None

    def _sees_more(self, change: Change) -> bool:
        """Whether it is somebody else's, and has to be run on rows that only this user sees."""
        call = call_of(change)
        action = None if call is None else self._maker.actions.find(call[0])
        is_others = change.metadata.get("author") != self._maker.author
        return is_others and action is not None and action.rights == "all"

    def _is_private(self, op: RowOp) -> bool:
        if isinstance(op.value, dict) and AUDIENCE in op.value:
            return bool(op.value[AUDIENCE] != EVERYBODY)
        return self._timeline.copy.audience_of(op.table, op.key or "") not in (None, EVERYBODY)

    # ---- what is sent ----------------------------------------------------------------------------

    def outgoing(
        self,
        saved: Sequence[Change],
        unsaved: Sequence[Change],
        rev: int,
        most: int,
        most_bytes: int | None,
    ) -> list[Change]:
        """The first of the stored actions as they are to be committed at `rev`: with what they do,
        and the last with what that changes of the effect of others.
        """
        pending, saved = [*saved, *unsaved], saved[:most]
        if not self._is_late():
            known = {entry.id: entry for entry in self._timeline.entries}
            made = [
                self._sent_as(change, known[change.id], rev, place)
                for place, change in enumerate(saved)
            ]
            return _within(made, most_bytes)
        count = len(saved)
        while True:
            self._timeline.remove(self._pending)
            entries = [self._entry(change) for change in saved[:count]]
            placed = self._timeline.place_all(entries)
            made = [
                self._sent_as(change, entry, rev, place)
                for place, (change, entry) in enumerate(zip(saved, entries, strict=False))
            ]
            made = _grouped(made, placed)
            if count == 1 or len(_within(made, most_bytes)) == count:
                break
            count //= 2
        self._sent = [(entry.id, entry.ops) for entry in entries], placed.sync
        self._timeline.place_all([self._entry(change) for change in pending[count:]])
        return made

    # ---- inside ----------------------------------------------------------------------------------

    def _place(self, changes: Sequence[Change]) -> None:
        self._pending.update(change.id for change in changes)
        self._timeline.place_all([self._entry(change) for change in changes])

    def _first_pending(self) -> int:
        """How many entries are committed before the first that is pending."""
        entries = self._timeline.entries
        found = (place for place, entry in enumerate(entries) if entry.id in self._pending)
        return next(found, len(entries))

    def _is_late(self) -> bool:
        """Whether something committed lies after something that is pending."""
        later = self._timeline.entries[self._first_pending() :]
        return any(entry.id not in self._pending for entry in later)

    def _entries_of(self, unit: Sequence[Change]) -> list[Entry]:
        """A sync change is no entry: what it says comes of running the others."""
        return [self._entry(change) for change in unit if change.metadata.get("kind") != SYNC]

    def _entry(self, change: Change) -> Entry:
        metadata, is_committed = change.metadata, change.committed_at != 0
        call = call_of(change)
        action = None if call is None else self._maker.actions.find(call[0])
        ops = plain_ops(change.ops)
        if call is None or action is None:
            # One that is not known here, or whose arguments are not, has the effect that it had.
            return Entry(id=change.id, key=key_of(change), invocation=None, ops=ops)
        author, rights = metadata.get("author"), metadata.get(RIGHTS)
        invocation = Invocation(
            change_id=change.id,
            action=action,
            args=call[1],
            now=change.created_at,
            author=(author if isinstance(author, str) else None)
            if is_committed
            else self._maker.author,
            # Of rows that the reader may not see there are none here.
            rights=frozenset(rights) if isinstance(rights, list) else None,
        )
        committed = ops if is_committed else None
        return Entry(id=change.id, key=key_of(change), invocation=invocation, committed=committed)

    def _sent_as(self, change: Change, entry: Entry, rev: int, place: int) -> Change:
        """A pending action with what it does, as the `place`-th after `rev`."""
        metadata: dict[str, Any] = {**change.metadata}
        metadata.pop("error", None)
        if entry.error is not None:
            metadata["error"] = entry.error
        if entry.invocation is not None and entry.invocation.action.share_args:
            metadata[SHARED] = True
        return change.replace(ops=entry.ops, base_rev=rev, rev=rev + place + 1, metadata=metadata)


def _grouped(changes: list[Change], placed: Placed) -> list[Change]:
    """Actions that were run together, the last with what is to be corrected after them."""
    first = changes[0]
    failed = [
        {"id": each.id, "name": each.invocation.action.wire_name, "message": each.error}
        for each in placed.failed
        if each.invocation is not None
    ]
    correction = {"ops": placed.sync, "corrects": list(placed.corrected), "failed": failed}
    if len(changes) > 1:
        changes[0] = first.replace(metadata={**first.metadata, GROUP: len(changes)})
    last = changes[-1]
    changes[-1] = last.replace(metadata={**last.metadata, CORRECTION: correction})
    return changes


def _within(changes: list[Change], most_bytes: int | None) -> list[Change]:
    """As many as fit into one commit; at least one."""
    size = 0
    for place, change in enumerate(changes):
        size += len(change.encoded) + 1
        if place and most_bytes is not None and size > most_bytes:
            return changes[:place]
    return changes

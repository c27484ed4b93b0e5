"""`LiveDoc`: one document in a server's memory: its log, and the rows that it leads to.

An action that is the latest of all is run on the rows as they are. Only when one arrives late is
the log since the snapshot run once, in the order of the clocks, to have what can be undone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from patches.algorithms.replay.actions import Action, Actions
from patches.algorithms.replay.changes import ACTION, OP_AUDIENCE, SYNC, call_of, clock_of
from patches.algorithms.replay.clock import Clock, Key
from patches.algorithms.replay.running import Deadline, Invocation
from patches.algorithms.replay.timeline import Entry, Placed, Timeline
from patches.errors import ActionTooSlowError
from patches.model import codec
from patches.model.change import Change
from patches.model.json_values import Json, Op, json_equal
from patches.rows.row_ops import State, apply_row_ops, diff_rows, parse_row_ops
from patches.rows.schema import AUDIENCE
from patches.rows.working_copy import WorkingCopy
from patches.runtime import Millis
from patches_server.replay.store import LoadedDoc, Logged

_log = logging.getLogger("patches_server.replay")

_START: Final[Key] = (0, 0, "", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """An action that was judged and may be placed."""

    id: str
    action: Action
    args: dict[str, Json]
    clock: Clock
    created_at: Millis
    author: str | None
    rights: frozenset[str] | None
    metadata: Mapping[str, Json] = field(default_factory=dict)  # what else came with it


class LiveDoc:
    """Owned by the server, which orders the calls about one document."""

    def __init__(
        self,
        loaded: LoadedDoc,
        actions: Actions,
        new_id: Callable[[], str],
        deadline: Deadline | None = None,
    ) -> None:
        self.token = loaded.token
        self.floor = loaded.floor
        self.log: list[Logged] = list(loaded.log)
        self._actions, self._new_id, self._deadline = actions, new_id, deadline
        self._start: State = codec.decode(loaded.state)
        self._start_clock = loaded.clock
        #: Revisions by the ids of all committed changes.
        self.revs: dict[str, int] = dict(loaded.folded_ids)
        #: Whose each client id in a clock is.
        self.clients: dict[str, str | None] = {}
        self.clock = loaded.clock
        self._last_key = _START
        for entry in self.log:
            self._note(entry)
        self._timeline = Timeline(WorkingCopy(actions.schema), deadline=deadline)
        self._copy.load(self._folded())
        #: The last key of the part of the log that the timeline does not have.
        self._unrun_key = self._last_key

    def close(self) -> None:
        """Release the rows."""
        self._copy.close()

    @property
    def _copy(self) -> WorkingCopy:
        return self._timeline.copy

    @property
    def rev(self) -> int:
        """The head."""
        return self.log[-1].change.rev if self.log else self.floor

    @property
    def state(self) -> State:
        """The rows at the head."""
        return self._copy.state

    @property
    def last_id(self) -> str | None:
        """The id of the change at the head, if it is still there."""
        return self.log[-1].change.id if self.log else None

    def id_at(self, rev: int) -> str | None:
        """The id of the change at a revision, if it is still there."""
        place = rev - self.floor - 1
        return self.log[place].change.id if 0 <= place < len(self.log) else None

    def since(self, rev: int) -> list[Change]:
        """The changes after a revision that is not below the floor."""
        return [entry.change for entry in self.log[max(rev - self.floor, 0) :]]

    def at(self, rev: int) -> Change:
        """The change at a revision; without its operations if it was folded."""
        if rev > self.floor:
            return self.log[rev - self.floor - 1].change
        change_id = next(id for id, found in self.revs.items() if found == rev)
        return Change(id=change_id, ops=[], base_rev=rev - 1, rev=rev, created_at=0, committed_at=1)

    # ---- committing ------------------------------------------------------------------------------

    def place(self, submitted: Submitted, now: Millis) -> list[Logged]:
        """Run an action at its place: the change that it becomes, and the sync change, if any.

        They are part of this document from now on: drop it if they cannot be stored. Raises
        `ActionRefusedError` for one that takes too long; nothing is left of it then.
        """
        key = submitted.clock.key(submitted.id)
        if key < self._unrun_key:
            self._run_all()
        placed = self._timeline.place(self._entry(submitted))
        if isinstance(placed.failure, ActionTooSlowError):
            self._timeline.remove({submitted.id})
            raise placed.failure
        made = [self._committed(submitted, placed, now)]
        if placed.sync or placed.failed:
            made.append(self._sync(placed, made[0].change.rev, now))
        for entry in made:
            self.log.append(entry)
            self._note(entry)
        return made

    def fold(self, rev: int) -> tuple[bytes, tuple[int, int]]:
        """Put a snapshot in the place of the changes up to `rev`: its state and its clock."""
        folded = [entry for entry in self.log if entry.change.rev <= rev]
        ops = [op for entry in folded for op in parse_row_ops(entry.change.ops)]
        self._start = apply_row_ops(self._start, ops)
        clocks = [clock for entry in folded if (clock := clock_of(entry.change)) is not None]
        self._start_clock = max([self._start_clock, *((clock.ms, clock.n) for clock in clocks)])
        self.log = self.log[len(folded) :]
        self.floor = rev
        # What is left may have been run before what is gone: it is run anew when that is needed.
        self._timeline.fold(len(self._timeline.entries))
        keys = [clock.key(e.change.id) for e in self.log if (clock := clock_of(e.change))]
        self._unrun_key = max(keys, default=_START)
        return codec.encode(self._start), self._start_clock

    # ---- inside ----------------------------------------------------------------------------------

    def _note(self, entry: Logged) -> None:
        change = entry.change
        self.revs[change.id] = change.rev
        clock = clock_of(change)
        if clock is not None:
            author = change.metadata.get("author")
            self.clients.setdefault(clock.client, author if isinstance(author, str) else None)
            self._last_key = max(self._last_key, clock.key(change.id))
            self.clock = max(self.clock, (clock.ms, clock.n))

    def _folded(self) -> State:
        ops = [op for entry in self.log for op in parse_row_ops(entry.change.ops)]
        return apply_row_ops(self._start, ops)

    def _run_all(self) -> None:
        """Run the log in the order of the clocks, to have what can be undone."""
        head = self._copy.state
        self._timeline = Timeline(self._copy, deadline=self._deadline)
        self._copy.load(self._start)
        entries = [made for entry in self.log if (made := self._entry_of(entry)) is not None]
        for each in sorted(entries, key=lambda entry: entry.key):
            self._timeline.place(each)
        again = self._copy.state
        if not json_equal(again, head):
            # Actions were changed under their names, or are gone: what was committed is right.
            ops = diff_rows(_places(again), _places(head))
            _log.warning("running the log again gives %d other operations than before", len(ops))
            self._timeline.patch("head", ops)
        self._unrun_key = _START

    def _entry_of(self, entry: Logged) -> Entry | None:
        change = entry.change
        call, clock = call_of(change), clock_of(change)
        if call is None or clock is None:
            return None  # a sync change: what it says comes of running the others
        action = self._actions.find(call[0])
        if action is None:
            return None
        rights = None if entry.rights is None else frozenset(entry.rights)
        author = change.metadata.get("author")
        return self._entry(
            Submitted(
                id=change.id,
                action=action,
                args=call[1],
                clock=clock,
                created_at=change.created_at,
                author=author if isinstance(author, str) else None,
                rights=rights,
            )
        )

    def _entry(self, submitted: Submitted) -> Entry:
        return Entry(
            id=submitted.id,
            key=submitted.clock.key(submitted.id),
            invocation=Invocation(
                change_id=submitted.id,
                action=submitted.action,
                args=submitted.args,
                now=submitted.created_at,
                author=submitted.author,
                rights=submitted.rights,
            ),
        )

    def _committed(self, submitted: Submitted, placed: Placed, now: Millis) -> Logged:
        rev = self.rev
        metadata: dict[str, Any] = {
            **submitted.metadata,
            "kind": ACTION,
            "action": {"name": submitted.action.wire_name, "args": submitted.args},
            "clock": submitted.clock.to_wire(),
        }
        if submitted.author is not None:
            metadata["author"] = submitted.author
        if placed.failure is not None:
            metadata["error"] = str(placed.failure) or type(placed.failure).__name__
        change = Change(
            id=submitted.id,
            ops=self._with_audiences(placed.own),
            base_rev=rev,
            rev=rev + 1,
            created_at=submitted.created_at,
            committed_at=now,
            metadata=metadata,
        )
        rights = None if submitted.rights is None else sorted(submitted.rights)
        return Logged(change, rights)

    def _sync(self, placed: Placed, rev: int, now: Millis) -> Logged:
        metadata: dict[str, Any] = {"kind": SYNC, "corrects": list(placed.corrected)}
        if placed.failed:
            metadata["failed"] = [_failure(entry) for entry in placed.failed]
        change = Change(
            id=self._new_id(),
            ops=self._with_audiences(placed.sync),
            base_rev=rev,
            rev=rev + 1,
            created_at=now,
            committed_at=now,
            metadata=metadata,
        )
        return Logged(change)

    def _with_audiences(self, ops: list[Op]) -> list[Op]:
        """Operations with the audience of the row that each writes."""
        tables = self._actions.schema.tables
        marked = []
        for op, parsed in zip(ops, parse_row_ops(ops), strict=True):
            if tables[parsed.table].has_audience:
                audience = self._audience_of(parsed.table, parsed.key or "", parsed.value)
                op = {**op, OP_AUDIENCE: audience}
            marked.append(op)
        return marked

    def _audience_of(self, table: str, key: str, value: Json) -> Json:
        if isinstance(value, dict) and AUDIENCE in value:
            return value[AUDIENCE]
        return self._copy.audience_of(table, key)


def _places(state: State) -> dict[tuple[str, str], Json]:
    return {(table, key): row for table, rows in state.items() for key, row in rows.items()}


def _failure(entry: Entry) -> dict[str, Json]:
    assert entry.invocation is not None
    failure: dict[str, Json] = {
        "id": entry.id,
        "name": entry.invocation.action.wire_name,
        "message": entry.error,
    }
    if entry.invocation.author is not None:
        failure["author"] = entry.invocation.author
    return failure

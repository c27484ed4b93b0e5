"""`LiveDoc`: one document in the memory of a server that runs its actions.

An action that is the latest of all is run on the rows as they are. When one arrives late, what
comes after it is run again; what a process before has committed is taken back for that, as far as
the action lies behind.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from patches.algorithms.replay.actions import Action, Actions
from patches.algorithms.replay.changes import (
    ACTION,
    GROUP,
    OP_AUDIENCE,
    SYNC,
    call_of,
    clock_of,
    plain_ops,
    units_of,
)
from patches.algorithms.replay.clock import Clock
from patches.algorithms.replay.running import Deadline, Invocation
from patches.algorithms.replay.timeline import Entry, Placed, Timeline
from patches.errors import ActionTooSlowError
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches.rows.plain_rows import PlainRows
from patches.rows.row_ops import State, parse_row_ops
from patches.rows.schema import AUDIENCE
from patches.rows.working_copy import WorkingCopy
from patches.runtime import Millis
from patches_server.replay.logbook import START, Logbook
from patches_server.replay.store import LoadedDoc, Logged

_FEW: Final = 4

_log = logging.getLogger("patches_server.replay")


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


class LiveDoc(Logbook):
    """A `Logbook` with the rows and the timeline of its actions."""

    def __init__(
        self,
        loaded: LoadedDoc,
        actions: Actions,
        new_id: Callable[[], str],
        deadline: Deadline | None = None,
    ) -> None:
        super().__init__(loaded, new_id)
        self._actions = actions
        self._timeline = Timeline(
            WorkingCopy(actions.schema), deadline=deadline, diverged=self._report_divergence
        )
        self._copy.load(self._folded().state)
        #: The last key of the part of the log that the timeline does not know.
        self._unknown_key = self._last_key

    def close(self) -> None:
        self._copy.close()

    @property
    def _copy(self) -> WorkingCopy:
        return self._timeline.copy

    @property
    def state(self) -> State:
        return self._copy.state

    # ---- committing ------------------------------------------------------------------------------

    def is_much(self, submitted: Sequence[Submitted]) -> bool:
        """Whether placing them may take a while."""
        is_late = any(each.clock.key(each.id) < self._last_key for each in submitted)
        return is_late or len(submitted) > _FEW

    def place(
        self, submitted: Sequence[Submitted], now: Millis
    ) -> tuple[list[Logged], tuple[str, ActionTooSlowError] | None]:
        """Run actions, each at its place: the changes that they become, and the sync change, if
        any. One that takes too long is not committed, nor is what follows it; it is named.

        They are part of this document from now on: drop it if they cannot be stored.
        """
        if min(each.clock.key(each.id) for each in submitted) < self._unknown_key:
            self._learn_past()
        entries = [self._entry(each) for each in submitted]
        placed = self._timeline.place_all(entries)
        slow = None
        for count, each in enumerate(submitted):
            failure = placed.failures.get(each.id)
            if isinstance(failure, ActionTooSlowError):
                slow = (each.id, failure)
                self._timeline.remove({entry.id for entry in entries})
                submitted, entries = submitted[:count], entries[:count]
                placed = self._timeline.place_all(entries)
                break
        made: list[Logged] = []
        for each, entry in zip(submitted, entries, strict=True):
            made.append(self._committed(each, entry, self.rev + len(made), now))
        if placed.sync or placed.failed:
            made.append(self._sync(placed, len(made), self.rev + len(made), now))
        elif placed.is_late and len(made) > 1:
            last = made[-1].change
            metadata = {**last.metadata, GROUP: len(made) - 1}
            made[-1] = replace(made[-1], change=last.replace(metadata=metadata))
        self._add(made)
        return made, slow

    def fold(self, rev: int) -> tuple[bytes, tuple[int, int]]:
        folded = super().fold(rev)
        # What is left may have been run before what is gone: it is run anew when that is needed.
        self._timeline.fold(len(self._timeline.entries))
        self._timeline.past.clear()
        keys = [clock.key(e.change.id) for e in self.log if (clock := clock_of(e.change))]
        self._unknown_key = max(keys, default=START)
        return folded

    # ---- inside ----------------------------------------------------------------------------------

    def _learn_past(self) -> None:
        """Let the timeline know the whole log, to take back as much of it as it needs."""
        timeline = self._timeline
        timeline.fold(len(timeline.entries))
        timeline.past.clear()
        rows = PlainRows(self._start)
        place = 0
        for unit in units_of([entry.change for entry in self.log]):
            logged = self.log[place : place + len(unit)]
            place += len(unit)
            back = rows.apply(op for each in unit for op in parse_row_ops(each.ops)).inverse()
            timeline.past.append(self._entries_of(logged), back)
        self._unknown_key = START

    def _entries_of(self, logged: Sequence[Logged]) -> Iterator[Entry]:
        for entry in logged:
            made = self._entry_of(entry)
            if made is not None:
                yield made

    def _report_divergence(self, ops: list[Op]) -> None:
        _log.warning("running the log again gives %d other operations than before", len(ops))

    def _entry_of(self, entry: Logged) -> Entry | None:
        change = entry.change
        call, clock = call_of(change), clock_of(change)
        if call is None or clock is None:
            return None  # a sync change: what it says comes of running the others
        action = self._actions.find(call[0])
        if action is None:
            key, ops = clock.key(change.id), plain_ops(change.ops)
            return Entry(id=change.id, key=key, invocation=None, ops=ops)
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

    def _committed(self, submitted: Submitted, entry: Entry, rev: int, now: Millis) -> Logged:
        metadata: dict[str, Any] = {
            **submitted.metadata,
            "kind": ACTION,
            "action": {"name": submitted.action.wire_name, "args": submitted.args},
            "clock": submitted.clock.to_wire(),
        }
        if submitted.author is not None:
            metadata["author"] = submitted.author
        if entry.error is not None:
            metadata["error"] = entry.error
        change = Change(
            id=submitted.id,
            ops=self._with_audiences(entry.ops),
            base_rev=rev,
            rev=rev + 1,
            created_at=submitted.created_at,
            committed_at=now,
            metadata=metadata,
        )
        rights = None if submitted.rights is None else sorted(submitted.rights)
        return Logged(change, rights)

    def _sync(self, placed: Placed, count: int, rev: int, now: Millis) -> Logged:
        metadata: dict[str, Any] = {
            "kind": SYNC,
            "corrects": list(placed.corrected),
            GROUP: count,
        }
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


def _failure(entry: Entry) -> dict[str, Json]:
    assert entry.invocation is not None
    failure: dict[str, Json] = {
        "id": entry.id,
        "name": entry.invocation.action.wire_name,
        "message": entry.error,
        "client": entry.key[2],
    }
    if entry.invocation.author is not None:
        failure["author"] = entry.invocation.author
    return failure

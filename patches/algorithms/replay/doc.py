"""`ReplayDoc`: an open document of rows, changed by actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NoReturn

from patches.aio.signals import Signal
from patches.algorithms.replay.actions import Actions
from patches.algorithms.replay.changes import (
    ActionOps,
    action_metadata,
    call_of,
    clock_of,
    in_order,
    key_of,
)
from patches.algorithms.replay.clock import Clock, Time
from patches.algorithms.replay.folding import parsed_ops
from patches.algorithms.replay.steps import Step, Work, stamped
from patches.algorithms.replay.tables import ClientRun, Head
from patches.algorithms.replay.working import Beyond, Maker, Working
from patches.documents.document import Document
from patches.errors import ActionsOnlyError
from patches.limits import Limits
from patches.model.change import Change, Snapshot
from patches.model.codec import json_size
from patches.model.json_values import Json, Op
from patches.rows.physical import whole_row
from patches.rows.row_ops import Row, State, apply_row_ops
from patches.rows.schema import Table


class ReplaySnapshot(Snapshot):
    """What `ReplayAlgorithm.load_doc` gives."""

    __slots__ = ("work",)

    def __init__(self, work: Work) -> None:
        super().__init__(state=work.state, rev=work.head.committed_rev, changes=work.pending)
        self.work: Work = work


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingAction:
    """An action that the server has not confirmed. `error`: it has no effect here now, and why."""

    id: str
    name: str
    args: dict[str, Json]
    clock: Clock
    error: str | None


class ReplayDoc(Document):
    """Rows, shown as `{table: {key: row}}`; `run` is the one way to change them."""

    algorithm: ClassVar[str] = "replay"
    on_change: Signal[[list[Op]]]

    #: `(change_id, name, message)`: an action of ours came to nothing when histories met.
    on_action_failed: Signal[[str, str, str]]
    #: `(ops)`: running again what was committed did not give what was committed; these operations
    #: make up for it. An action that is not pure, or is another one here under the same name.
    on_divergence: Signal[[list[Op]]]

    def __init__(
        self, doc_id: str, snapshot: Snapshot | None, maker: Maker, limits: Limits | None = None
    ) -> None:
        super().__init__(doc_id, state={}, committed_rev=0, limits=limits)
        self.on_action_failed = Signal("on_action_failed", spawn=self._spawned)
        self.on_divergence = Signal("on_divergence", spawn=self._spawned)
        self._maker = maker
        self._head = Head()
        self._committed: State = _all_tables(maker.actions, {})
        self._time = Time()
        self._saved: dict[str, Change] = {}  # pending and stored, in the order of their clocks
        #: Set where actions are run by who commits them; its units only until `_working` has them.
        self._client_run: ClientRun | None = None
        self._working: Working | None = None  # made when it is first needed
        self._shown.replace(self._committed)
        if snapshot is not None:
            self.import_snapshot(snapshot)

    # ---- actions ---------------------------------------------------------------------------------

    def run(self, action: Callable[..., Any] | str, /, **args: Json) -> Any:
        """Run an action and record it; its result. It is sent when there is a connection.

        If it raises, nothing has changed and nothing is recorded. Raises `TypeError` for arguments
        that it does not take.
        """
        self._check_open()
        found = self._maker.actions.action_of(action)
        plain = found.check_args(args)
        self._check_queue(json_size(plain))
        now = self._maker.now()
        time = self._time.tick(now)
        clock = time.clock(self._head.client)
        change = Change(
            id=self._maker.new_id(self.committed_rev + 1),
            ops=[],
            base_rev=self.committed_rev,
            rev=self.committed_rev + 1,
            created_at=now,
            metadata=action_metadata(found.wire_name, plain, clock),
        )
        placed = self._rows().run(change)
        self._time = time
        live = ActionOps(placed.own, change=change.replace(ops=placed.own))
        self.unsaved.append(live)
        self.mark_loaded()
        is_changed = self._show_all()
        # The owner queues the edit before any subscriber runs: one may run another at once.
        self.on_change.emit(live)
        if is_changed:
            self._notify()
        return placed.result

    def sql(self, query: str, *params: Json) -> list[dict[str, Json]]:
        """The rows of one SELECT over the tables. Booleans are 0 and 1, lists and objects JSON
        strings. Raises `WritesRefusedError` for anything that writes.
        """
        return self._rows().query(query, params)

    @property
    def pending(self) -> tuple[PendingAction, ...]:
        """What the server has not confirmed, in the order of the clocks."""
        errors = self._working.errors() if self._working is not None else {}
        found = []
        for change in self._unconfirmed():
            call, clock = call_of(change), clock_of(change)
            if call is not None and clock is not None:
                found.append(
                    PendingAction(
                        id=change.id,
                        name=call[0],
                        args=call[1],
                        clock=clock,
                        error=errors.get(change.id),
                    )
                )
        return tuple(found)

    def change(self, fn: Callable[[Any], object]) -> NoReturn:
        """Raises `ActionsOnlyError`."""
        raise ActionsOnlyError(self.id)

    def edit(self) -> NoReturn:
        """Raises `ActionsOnlyError`."""
        raise ActionsOnlyError(self.id)

    def apply(self, ops: Any) -> NoReturn:
        """Raises `ActionsOnlyError`."""
        raise ActionsOnlyError(self.id)

    def set(self, state: Json) -> NoReturn:
        """Raises `ActionsOnlyError`."""
        raise ActionsOnlyError(self.id)

    def take_ops(self, ops: list[Op], *, metadata_bytes: int = 0) -> list[Op]:
        """Run an action that is given as `ActionOps.of`. Raises `ActionsOnlyError` for others."""
        if not isinstance(ops, ActionOps) or ops.call is None:
            raise ActionsOnlyError(self.id)
        count = len(self.unsaved)
        silenced, self.on_change = self.on_change, Signal("on_change")
        try:
            self.run(ops.call[0], **ops.call[1])
        finally:
            self.on_change = silenced
        assert len(self.unsaved) == count + 1
        return self.unsaved[-1]

    @property
    def pending_count(self) -> int:
        return len(self._saved)

    def measure_pending(self) -> int:
        return sum(len(change.encoded) for change in self._saved.values())

    # ---- for the algorithm -----------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The version of the store that it follows."""
        return self._head.version

    def import_snapshot(self, snapshot: Snapshot) -> None:
        """Replace committed and pending parts, keep what is unsaved. An older one does nothing."""
        if isinstance(snapshot, ReplaySnapshot):
            if snapshot.work.head.version >= self._head.version:
                self.install(snapshot.work)
        elif snapshot.rev >= self.committed_rev:
            head = Head(committed_rev=snapshot.head)
            self.install(Work(head=head, state=snapshot.state, pending=snapshot.changes))

    def install(self, work: Work) -> None:
        """Show what is stored, with what is unsaved on top."""
        self._head = work.head
        self._committed = _all_tables(self._maker.actions, work.state)
        self._time = max(self._time, work.head.time, key=lambda time: (time.ms, time.n))
        self._saved = {change.id: change for change in work.pending}
        for ops in list(self.unsaved):
            if isinstance(ops, ActionOps) and ops.change and ops.change.id in self._saved:
                self.unsaved.remove(ops)  # another call has stored it
        self.committed_rev = work.head.committed_rev
        self.has_pending = bool(self._saved)
        self._client_run = work.client_run
        self._release_rows()
        if self._show_all():
            self._notify()

    def restamped(self, work: Work) -> None:
        """Pending actions have other clocks, from the server's time on; so have those unsaved."""
        time = work.head.time
        for ops in self.unsaved:
            if isinstance(ops, ActionOps) and ops.change is not None:
                time = time.tick(0)
                ops.change = stamped(ops.change, time.clock(self._head.client))
        self._time = time
        self.install(work)

    def saved(self, step: Step) -> None:
        """Unsaved actions are stored now."""
        ids = {change.id for change in step.saved}
        for ops in list(self.unsaved):
            if isinstance(ops, ActionOps) and ops.change is not None and ops.change.id in ids:
                self.unsaved.remove(ops)
                self._saved[ops.change.id] = ops.change
        self._head = step.head
        self.has_pending = bool(self._saved)

    def follow(self, step: Step) -> None:
        """Apply what the server committed, below what is pending."""
        if self._client_run is not None and self._client_run.partial:
            self._rows()  # what others run may have an effect here that they do not see
        self._head = step.head
        for change_id in step.confirmed:
            self._saved.pop(change_id, None)
        for ops in list(self.unsaved):  # sent by another process that shares the store
            if isinstance(ops, ActionOps) and ops.change and ops.change.id in step.confirmed:
                self.unsaved.remove(ops)
                ops.clear()
        for change in step.new:
            clock = clock_of(change)
            if clock is not None:
                self._time = self._time.observe(clock)
        schema = self._maker.actions.schema
        written = [op for change in step.new for op in parsed_ops(self.id, change, schema)]
        self._committed = apply_row_ops(self._committed, written)
        if (step.client_run is None) != (self._client_run is None):
            self._client_run = step.client_run
            self._release_rows()
        elif self._working is not None:
            self._working.advance(step.new, written, self._unconfirmed())
        elif self._client_run is not None and step.client_run is not None:
            units = [*self._client_run.units, *step.client_run.units]
            self._client_run = replace(self._client_run, units=units)
        self.committed_rev = step.head.committed_rev
        self.has_pending = bool(self._saved)
        if self._show_all():
            self._notify()
        self._report_failures(step.new)

    def rollback_unsaved(self) -> None:
        """Forget unsaved actions: empty their lists in place, show the rest."""
        ids = set()
        for ops in self.unsaved:
            if isinstance(ops, ActionOps) and ops.change is not None:
                ids.add(ops.change.id)
            ops.clear()
        self.unsaved.clear()
        if self._working is not None:
            self._working.remove(ids)
        if self._show_all():
            self._notify()

    def mark_closed(self) -> None:
        super().mark_closed()
        self._release_rows()

    def outgoing(self, most: int, most_bytes: int | None) -> list[Change]:
        """The first stored actions, with what they do, as they are to be committed next."""
        unsaved = [ops.change for ops in self.unsaved if isinstance(ops, ActionOps) and ops.change]
        return self._rows().outgoing(
            in_order(self._saved.values()), unsaved, self.committed_rev, most, most_bytes
        )

    def take_beyond(self) -> Beyond | None:
        """What is to be added to the effect of actions that others have run, once."""
        if self._working is None:
            return None
        found, self._working.beyond = self._working.beyond, None
        return found

    def report_failure(self, change: Change, reason: str) -> None:
        """An action of ours was refused, and undone."""
        call = call_of(change)
        if call is not None:
            self.on_action_failed.emit(change.id, call[0], reason)

    # ---- inside ----------------------------------------------------------------------------------

    def _unconfirmed(self) -> list[Change]:
        unsaved = [ops.change for ops in self.unsaved if isinstance(ops, ActionOps) and ops.change]
        return sorted([*self._saved.values(), *unsaved], key=key_of)

    def _rows(self) -> Working:
        """The rows with all that is pending, made on first use."""
        if self._working is None:
            self._working = Working(
                self._maker,
                self._committed,
                self._client_run,
                self._unconfirmed(),
                self.on_divergence.emit,
            )
            if self._client_run is not None:
                self._client_run = replace(self._client_run, units=())
        return self._working

    def _release_rows(self) -> None:
        if self._working is not None:
            self._working.close()
            self._working = None

    def _show_all(self) -> bool:
        """Show committed rows with all that is pending; whether anything differs."""
        if self._working is not None or self._saved or self.unsaved:
            state: State = self._rows().state
        else:
            state = self._committed
        shown: State = self._shown.state
        is_same = all(rows is shown.get(name) for name, rows in state.items())
        return not is_same and self._shown.replace(state)

    def _report_failures(self, new: Sequence[Change]) -> None:
        for change in new:
            error, call, clock = change.metadata.get("error"), call_of(change), clock_of(change)
            if isinstance(error, str) and call is not None and clock is not None:
                if self._is_ours(clock.client):
                    self.on_action_failed.emit(change.id, call[0], error)
            failed = change.metadata.get("failed")
            for each in failed if isinstance(failed, list) else ():
                match each:
                    case {"id": str(change_id), "name": str(name), "message": str(message)}:
                        if self._is_ours(each.get("client")):
                            self.on_action_failed.emit(change_id, name, message)

    def _is_ours(self, client: object) -> bool:
        """Whether the action of a clock is this user's. The server says what fails to its author
        alone; of those that are not signed in all are one to it.
        """
        return self._maker.author is not None or client in (None, self._head.client)


def _all_tables(actions: Actions, state: State) -> State:
    """Every table of the schema; columns that a row was stored without have their defaults."""
    return {
        name: _whole_rows(table, state.get(name, {}))
        for name, table in actions.schema.tables.items()
    }


def _whole_rows(table: Table, rows: Mapping[str, Row]) -> Mapping[str, Row]:
    columns = table.columns.keys()
    if all(row.keys() == columns for row in rows.values()):
        return rows
    return {key: whole_row(table, row) for key, row in rows.items()}

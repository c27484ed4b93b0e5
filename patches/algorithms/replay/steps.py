"""What the algorithm does to a document's tables: each function is one transaction. Pure.

They read, decide and write; the store keeps all or nothing. A document that does not hold the
version before has missed a write of another process, and takes the `work` instead.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from patches.algorithms.replay.changes import (
    CLIENT,
    RUNNER,
    SYNC,
    clock_of,
    key_of,
)
from patches.algorithms.replay.clock import Clock, Time, parse_clock
from patches.algorithms.replay.folding import fold_committed, parsed_ops, take_needless
from patches.algorithms.replay.ids import effect_id
from patches.algorithms.replay.tables import ClientRun, DocTables, Head
from patches.errors import (
    MissingChangesError,
    PendingChangeError,
    SchemaTooOldError,
)
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.history import History, history_in
from patches.model.json_values import Op
from patches.rows.row_ops import State, apply_row_ops
from patches.rows.schema import Schema
from patches.runtime import Millis


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """All that is stored of a document."""

    head: Head
    state: State
    pending: Sequence[Change]
    client_run: ClientRun | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a transaction did, for the open document to follow."""

    before: int  # the version that the document has to have
    head: Head
    new: Sequence[Change] = ()
    confirmed: frozenset[str] = frozenset()
    saved: Sequence[Change] = ()
    client_run: ClientRun | None = None  # with the units of `new`
    work: Work | None = None


def load(tables: DocTables) -> Work | None:
    """All of a document, `None` if it is not tracked, or deleted."""
    head = tables.head()
    if head is None or head.deleted:
        return None
    return _work(tables)


def _work(tables: DocTables) -> Work:
    return Work(
        head=tables.head() or Head(),
        state=tables.state(),
        pending=tables.pending(),
        client_run=tables.client_run(),
    )


# ---- tracking ------------------------------------------------------------------------------------


def track(tables: DocTables, client: str) -> None:
    """Know the document from now on, under this name in its clocks; a deleted one starts again."""
    head = tables.head()
    if head is None or head.deleted:
        tables.put_head(Head(client=client))


def untrack(tables: DocTables) -> None:
    """Forget all but the quarantine."""
    tables.remove_head()


def mark_deleted(tables: DocTables) -> None:
    """Leave a record of the deletion and nothing else."""
    rev = committed_rev(tables)
    tables.clear()
    tables.discard_quarantined()
    tables.put_head(Head(committed_rev=rev, deleted=True))


def confirm_deleted(tables: DocTables) -> None:
    """Drop the record of a deletion."""
    head = tables.head()
    if head is not None and head.deleted:
        tables.remove_head()


def committed_rev(tables: DocTables) -> int:
    """The last revision known here."""
    head = tables.head()
    return 0 if head is None else head.committed_rev


# ---- actions made here ---------------------------------------------------------------------------


def save(tables: DocTables, changes: Sequence[Change], known: int | None) -> Step:
    """Make actions durable, and the clock with them. Those that are stored already are not again.

    `known` is the version of the open document.
    """
    head = tables.head() or Head()
    before, time = head.version, head.time
    for change in changes:
        if not tables.has_change(change.id):
            tables.put_pending(change.replace(base_rev=head.committed_rev))
        clock = clock_of(change)
        if clock is not None:
            time = time.observe(clock)
    if changes:
        head = tables.put_head(replace(head, time=time))
    return _step(tables, before, head, known, saved=changes)


def _step(
    tables: DocTables,
    before: int,
    head: Head,
    known: int | None,
    *,
    new: Sequence[Change] = (),
    confirmed: frozenset[str] = frozenset(),
    saved: Sequence[Change] = (),
    client_run: ClientRun | None = None,
) -> Step:
    missed = known is not None and known != before
    return Step(
        before=before,
        head=head,
        new=new,
        confirmed=confirmed,
        saved=saved,
        client_run=client_run,
        work=_work(tables) if missed else None,
    )


# ---- what the server committed -------------------------------------------------------------------


def receive(
    tables: DocTables,
    doc_id: str,
    changes: Sequence[Change],
    sent: Collection[str],
    schema: Schema,
    known: int | None,
) -> Step:
    """Apply committed changes to the rows, and confirm what is pending by its id.

    Raises `MissingChangesError`, `ApplyChangesError`, `SchemaTooOldError` before it has written.
    """
    head = tables.head() or Head()
    new = _new(changes, head.committed_rev)
    parsed = {change.id: parsed_ops(doc_id, change, schema) for change in new}
    ids = {change.id for change in changes}
    confirmed = frozenset(change_id for change_id in ids if tables.has_change(change_id))
    for change_id in (ids & set(sent)) - confirmed:  # ejected meanwhile, and committed all the same
        tables.discard_quarantined(change_id)
    if not new and not confirmed:
        return _step(tables, head.version, head, known)
    before = head.version
    client_run = fold_committed(tables, head, new, parsed)
    tables.take_pending(confirmed)
    if client_run is not None and client_run.units:
        confirmed |= take_needless(tables)
    time, history = head.time, tables.history()
    for change in new:
        time = _observed(time, change)
        history = history.after(change.rev, change.id)
    rev = new[-1].rev if new else head.committed_rev
    if new:
        tables.put_history(history)
    head = tables.put_head(replace(head, committed_rev=rev, time=time))
    return _step(tables, before, head, known, new=new, confirmed=confirmed, client_run=client_run)


def _new(changes: Sequence[Change], cursor: int) -> list[Change]:
    """Those of the changes that follow on from a revision. Raises `MissingChangesError`."""
    new = []
    for change in changes:
        if change.rev <= cursor:
            continue
        if change.base_rev > cursor:
            raise MissingChangesError(expected_rev=cursor + 1, got_rev=change.rev, since_rev=cursor)
        new.append(change)
        cursor = change.rev
    return new


def _observed(time: Time, change: Change) -> Time:
    clock = clock_of(change)
    return time if clock is None else time.observe(clock)


def install(
    tables: DocTables,
    doc_id: str,
    snapshot: Snapshot,
    resolved: Collection[str],
    schema: Schema,
) -> Work:
    """Replace the committed rows by the server's. Pending actions keep their ids, and get clocks
    above the snapshot's where theirs are not.
    """
    ops = [op for change in snapshot.changes for op in parsed_ops(doc_id, change, schema)]
    state: State = snapshot.state or {}
    for table, rows in state.items():
        known = schema.tables.get(table)
        if known is None:
            raise SchemaTooOldError(doc_id, table, None)
        for row in rows.values():
            if unknown := row.keys() - known.columns.keys():
                raise SchemaTooOldError(doc_id, table, min(unknown))
    head = tables.head() or Head()
    tables.put_state(apply_row_ops(state, ops))
    tables.take_pending(set(resolved) | {change.id for change in snapshot.changes})
    floor = parse_clock([*_list(snapshot.metadata.get("clock")), "-"])
    time = head.time if floor is None else head.time.observe(floor)
    lowest = Time() if floor is None else Time(floor.ms, floor.n)
    for change in tables.pending():
        ms, n, _, _ = key_of(change)
        if (ms, n) <= (lowest.ms, lowest.n):
            time = time.tick(0)
            change = stamped(change, time.clock(head.client))
            ms, n = time.ms, time.n
        tables.put_pending(change.replace(base_rev=snapshot.head))
        lowest = Time(ms, n)
    last_id = snapshot.changes[-1].id if snapshot.changes else None
    tables.put_history(history_in(snapshot.metadata, snapshot.head, last_id))
    if snapshot.metadata.get(RUNNER) == CLIENT:
        tables.begin_client_run(snapshot.head, partial=snapshot.metadata.get("view") == "partial")
    else:
        tables.end_client_run()
    tables.put_head(replace(head, committed_rev=snapshot.head, time=time))
    return _work(tables)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def put_token(tables: DocTables, token: str | None) -> None:
    """Replace the token of the copy's history."""
    known = tables.history()
    if tables.head() is not None and known.token != token:
        tables.put_history(History(token, known.last_rev, known.last_id))


# ---- actions that the server refuses -------------------------------------------------------------


def eject(
    tables: DocTables, doc_id: str, change_id: str, reason: str, now: Millis
) -> tuple[QuarantinedChange, Work] | None:
    """Move a pending action into quarantine; `None` if there is no such action."""
    found = next((change for change in tables.pending() if change.id == change_id), None)
    if found is None:
        return None
    entry = QuarantinedChange(
        doc_id=doc_id, change_id=change_id, change=found, reason=reason, quarantined_at=now
    )
    tables.take_pending([change_id])
    tables.put_quarantined(entry)
    tables.put_head(tables.head() or Head())
    return entry, _work(tables)


def retry(tables: DocTables, doc_id: str, change_id: str, now: Millis) -> tuple[Change, Work]:
    """Make a quarantined action pending again, as if it were made now.

    Raises `PendingChangeError` if it is not in quarantine.
    """
    entry = tables.quarantined(change_id)
    if entry is None:
        raise PendingChangeError(f"document {doc_id!r} has no change {change_id!r} in quarantine")
    head = tables.head() or Head()
    time = head.time.tick(now)
    change = stamped(entry.change, time.clock(head.client)).replace(base_rev=head.committed_rev)
    tables.discard_quarantined(change_id)
    tables.put_pending(change)
    tables.put_head(replace(head, time=time))
    return change, _work(tables)


def add_effect(
    tables: DocTables, doc_id: str, change_ids: Sequence[str], ops: Sequence[Op], now: Millis
) -> Work | None:
    """Have operations sent that belong to the effect of somebody's actions; `None` if they are
    under way.
    """
    head = tables.head() or Head()
    change_id = effect_id(doc_id, change_ids, ops)
    if tables.has_change(change_id) or tables.quarantined(change_id) is not None:
        return None
    time = head.time.tick(now)
    change = Change(
        id=change_id,
        ops=list(ops),
        base_rev=head.committed_rev,
        rev=head.committed_rev + 1,
        created_at=now,
        metadata={
            "kind": SYNC,
            "corrects": list(change_ids),
            "clock": time.clock(head.client).to_wire(),
        },
    )
    tables.put_pending(change)
    tables.put_head(replace(head, time=time))
    return _work(tables)


def restamp(tables: DocTables, change_id: str, server_time: Millis) -> Work | None:
    """Give all pending actions clocks from the server's time on, in their order: the clock here is
    ahead of it. Ids stay. `None` if that of this change is not.
    """
    pending = tables.pending()
    found = next((clock_of(change) for change in pending if change.id == change_id), None)
    if found is None or found.ms <= server_time:
        return None
    head = tables.head() or Head()
    time = Time(server_time, 0)
    for change in pending:
        created_at = min(change.created_at, server_time)
        tables.put_pending(stamped(change, time.clock(head.client)).replace(created_at=created_at))
        time = time.tick(0)
    tables.put_head(replace(head, time=time))
    return _work(tables)


def stamped(change: Change, clock: Clock) -> Change:
    """An action with another clock."""
    return change.replace(metadata={**change.metadata, "clock": clock.to_wire()})

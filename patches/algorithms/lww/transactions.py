"""What the algorithm does to a document's tables: each function is one transaction.

They read, decide and write; the store keeps all or nothing. Each that an open document follows
returns what the document needs to follow it, and the versions of the tables before and after. A
document that does not hold the version before has missed a write of another process and takes the
`work` instead, which is read in the same transaction.

At each moment a write is in exactly one of: pending ops, pieces being sent, committed rows,
quarantine.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from patches.algorithms.histories import check_not_outdated
from patches.algorithms.lww.consolidate import consolidate_field_op
from patches.algorithms.lww.quarantine import set_unappliable_aside
from patches.algorithms.lww.reading import (
    committed_rev,
    rebased,
    taken,
    version_of,
    work_if_missed,
    work_of,
)
from patches.algorithms.lww.receive import (
    accepted_changes,
    check_timed,
    receive_rows,
    rows_of,
    since_reset,
)
from patches.algorithms.lww.steps import Step, Work
from patches.algorithms.lww.tables import DocTables, Head
from patches.algorithms.lww.units import bare, bare_change
from patches.errors import OutdatedAnswerError
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.history import History, history_in
from patches.model.json_values import Op
from patches.runtime import Millis


def confirm(tables: DocTables, sent: Sequence[Change], known: int | None) -> Step:
    """Make the ops of sent pieces committed rows, guarded (`docs/internals/lww.md` 10.2).

    For an answer that is applied in a later transaction, if ever: the rows must not hold what the
    server refused, so what a row beats or changes is a correction.
    """
    before = version_of(tables)
    confirmed, left = taken(tables, {change.id for change in sent})
    if not confirmed:
        return Step(before=before, after=before, committed_rev=committed_rev(tables))
    corrections = [
        correction
        for piece in confirmed
        for op in piece.ops
        if (correction := _confirm_op(tables, bare(op))) is not None
    ]
    tables.put_sending(left)
    head = tables.put_head(committed_rev=committed_rev(tables))
    return Step(
        before=before,
        after=head.version,
        committed_rev=head.committed_rev,
        corrections=corrections,
        work=None if known is None else work_of(tables),
    )


def _confirm_op(tables: DocTables, op: Op) -> Op | None:
    row = tables.committed.get(op["path"])
    result = op if row is None else consolidate_field_op(row, op)
    if result is None:
        return row
    for path in tables.committed.below(op["path"]):
        tables.committed.discard(path)
    tables.committed.write(result)
    return None if result is op else result


def fold_answer(
    tables: DocTables,
    doc_id: str,
    sent: Sequence[Change],
    committed: Sequence[Change],
    known: int | None,
    asked: int | None = None,
) -> Step:
    """Confirm sent pieces by id and apply the answer's rows, in one.

    The rows hold the server's resolution of every sent path, so the local values are not stored
    in between. `asked`: the installation that the answer is about. Raises `OutdatedAnswerError`,
    `MissingChangesError`, `AlgorithmMismatchError` before anything is written.
    """
    check_is_asked_about(tables.head(), doc_id, asked)
    sent_ids = {change.id for change in sent}
    check_timed(doc_id, committed)
    accepted_changes(committed, committed_rev(tables), sent_ids)
    held = {piece.id for piece in tables.sending()}
    for change_id in sent_ids - held:  # ejected while it was under way, and committed all the same
        tables.discard_quarantined(change_id)
    if not any(change.id in sent_ids for change in committed):
        # An answer without our change does not have the sent ops: they become rows here.
        confirm(tables, sent, None)
    return fold_changes(tables, doc_id, committed, sent_ids, known, asked, confirms=True)


def check_is_asked_about(head: Head | None, doc_id: str, asked: int | None) -> None:
    """Raise `OutdatedAnswerError` if what the server says is about another copy."""
    if asked is None or head is None or not head.committed_rev:
        return  # nothing is here that it could be mistaken for
    if head.installation != asked:
        raise OutdatedAnswerError(doc_id, rev=head.committed_rev, is_replaced=True)


def fold_changes(
    tables: DocTables,
    doc_id: str,
    changes: Sequence[Change],
    expected_ids: Collection[str],
    known: int | None,
    asked: int | None = None,
    *,
    confirms: bool = False,
) -> Step:
    """Apply committed changes to the rows; `confirms`: pieces with an expected id are done."""
    check_timed(doc_id, changes)
    head = tables.head()
    if changes:
        check_is_asked_about(head, doc_id, asked)
    before = 0 if head is None else head.version
    cursor = 0 if head is None or head.deleted else head.committed_rev
    accepted = accepted_changes(changes, cursor, expected_ids)
    # What another process that shares the store has sent comes as a broadcast, under its id.
    own_ids = {change.id for change in changes}
    own_ids.update(expected_ids if confirms else ())
    confirmed, left = taken(tables, own_ids)
    if not accepted and not confirmed:
        work = work_if_missed(tables, before, known)
        return Step(before=before, after=before, committed_rev=cursor, before_rev=cursor, work=work)
    rows = _receive(tables, accepted)
    rev, newest = cursor, _newest(head, accepted)
    for change in accepted:
        rev = max(rev, change.rev)
    if confirmed:
        left = rebased(left, rev)
        tables.put_sending(left)
    head = tables.put_head(committed_rev=rev, newest_ts=newest)
    history = _follow_history(tables, accepted, confirms=confirms)
    missed = rows is None and known is not None
    return Step(
        before=before,
        after=head.version,
        committed_rev=rev,
        rows=rows or (),
        confirmed=confirmed,
        sending=[bare_change(piece) for piece in left] if confirmed else None,
        accepted=accepted,
        before_rev=cursor,
        work=work_of(tables) if missed else work_if_missed(tables, before, known),
        history=history,
    )


def _follow_history(
    tables: DocTables, accepted: Sequence[Change], *, confirms: bool
) -> History | None:
    """Note the newest change of the copy."""
    history = tables.history()
    for change in accepted:
        if change.rev >= history.last_rev:
            history = history.after(change.rev, made_by(change, is_answer=confirms))
    if accepted:
        tables.put_history(history)
    return history if accepted else None


def made_by(change: Change, *, is_answer: bool) -> str | None:
    """The id of the change that made a revision, `None` if that is not known.

    What a server makes up of rows has an id that says nothing; ours names the head beside it. A
    broadcast has the id of what was committed.
    """
    if "head" in change.metadata:
        named = change.metadata["head"]
        return named if isinstance(named, str) else None
    return None if is_answer else change.id


def _receive(tables: DocTables, accepted: Sequence[Change]) -> list[Op] | None:
    """Put the changes' rows into the tables; as `receive_rows`."""
    changes, reset = since_reset(accepted)
    if reset is None:
        return receive_rows(tables.committed, rows_of(changes), tables.snapshot().rev)
    head = changes[0].rev
    for op in tables.committed.ops():
        if op.get("rev", 0) <= head:  # what came later than the reset was made stays
            tables.committed.discard(op["path"])
    tables.put_snapshot(Snapshot(state=reset["value"], rev=0))
    receive_rows(tables.committed, [row for row in rows_of(changes) if row["rev"]], 0)
    return None


def _newest(head: Head | None, changes: Sequence[Change]) -> Millis:
    """The time of the newest write that was seen here, these changes included."""
    newest = 0 if head is None else head.newest_ts
    for change in changes:
        for op in change.ops:
            newest = max(newest, op.get("ts") or 0)
    return newest


# ---- the server's snapshot -----------------------------------------------------------------------


def install(
    tables: DocTables,
    doc_id: str,
    snapshot: Snapshot,
    resolved: Collection[str] = (),
    *,
    now: Millis = 0,
    is_new_history: bool = False,
    asked_at: int | None = None,
    asked: int | None = None,
) -> tuple[Work, list[QuarantinedChange]]:
    """Replace the committed part by the server's; pending ops and pieces stay.

    On a new history the pieces stand on the snapshot, since their revisions meant other changes,
    and those that do not apply to it are set aside. `asked_at` and `asked`: the revision and the
    installation that the server was asked about. Raises `OutdatedAnswerError` before anything is
    written if the rows are others by now, or have received more than the snapshot holds.
    """
    check_timed(doc_id, snapshot.changes)
    check_is_asked_about(tables.head(), doc_id, asked)
    head = max(snapshot.rev, snapshot.head)
    if not is_new_history:
        check_not_outdated(doc_id, asked_at=asked_at, head=head, rev=committed_rev(tables))
    base = snapshot.changes[0].base_rev if snapshot.changes else snapshot.rev
    tables.put_snapshot(Snapshot.from_encoded(snapshot.encoded_state, rev=base))
    tables.committed.clear()
    if snapshot.changes:
        _receive(tables, snapshot.changes)
    if resolved:
        tables.put_sending(taken(tables, resolved)[1])
    aside: list[QuarantinedChange] = []
    if is_new_history:
        tables.put_sending(rebased(tables.sending(), head))
        aside = set_unappliable_aside(tables, doc_id, now)
    newest = _newest(tables.head(), snapshot.changes)
    tables.put_head(committed_rev=head, newest_ts=newest, is_installed=True)
    last_id = made_by(snapshot.changes[-1], is_answer=True) if snapshot.changes else None
    tables.put_history(history_in(snapshot.metadata, head, last_id))
    return work_of(tables), aside


def put_token(tables: DocTables, token: str | None, asked: int | None = None) -> None:
    """Replace the token of the copy's history, if that is the copy that was asked about."""
    head = tables.head()
    if head is not None and asked in (None, head.installation):
        known = tables.history()
        tables.put_history(History(token, known.last_rev, known.last_id))


# ---- tracking ------------------------------------------------------------------------------------


def track(tables: DocTables) -> None:
    """Know the document from now on; a deleted one starts again at revision 0."""
    head = tables.head()
    if head is None or head.deleted:
        tables.put_head(committed_rev=0, newest_ts=0)


def untrack(tables: DocTables) -> None:
    """Forget all but the quarantine."""
    tables.clear()
    tables.remove_head()


def mark_deleted(tables: DocTables) -> None:
    """Leave a record of the deletion and nothing else."""
    tables.clear()
    tables.discard_quarantined()
    tables.put_head(committed_rev=committed_rev(tables), deleted=True)


def confirm_deleted(tables: DocTables) -> None:
    """Drop the record of a deletion."""
    head = tables.head()
    if head is not None and head.deleted:
        tables.remove_head()

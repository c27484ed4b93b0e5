"""What the algorithm does to a document's tables: each function is one transaction.

They read, decide and write; the store keeps all or nothing. Each that an open document follows
returns what the document needs to follow it, and the versions of the tables before and after. A
document that does not hold the version before has missed a write of another process and takes the
`work` instead, which is read in the same transaction.

At each moment a write is in exactly one of: pending ops, pieces being sent, committed rows,
quarantine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import count

from patches.algorithms.lww.bases import with_bases
from patches.algorithms.lww.consolidate import consolidate_field_op, consolidate_ops
from patches.algorithms.lww.field_table import is_below, put_consolidated
from patches.algorithms.lww.receive import (
    accepted_changes,
    check_timed,
    receive_rows,
    rows_of,
    since_reset,
)
from patches.algorithms.lww.split import split_change
from patches.algorithms.lww.state import committed_state, in_commit_order
from patches.algorithms.lww.steps import Step, Work
from patches.algorithms.lww.tables import DocTables
from patches.model.change import Change, Snapshot
from patches.model.history import History, history_in
from patches.model.ids import IdSource
from patches.model.json_values import Json, Op
from patches.options import DocOptions
from patches.runtime import Millis


def load(tables: DocTables) -> Work | None:
    """Everything, or `None` for a document that is unknown or deleted."""
    head = tables.head()
    if head is None or head.deleted:
        return None
    return Work(
        state=committed_of(tables),
        committed_rev=head.committed_rev,
        sending=tables.sending(),
        pending=tables.pending.ops(),
        version=head.version,
    )


def committed_rev(tables: DocTables) -> int:
    """The last revision known here, 0 if none."""
    head = tables.head()
    return 0 if head is None or head.deleted else head.committed_rev


def has_pending(tables: DocTables) -> bool:
    """Whether a piece is being sent or an op is pending."""
    return bool(tables.pending.any() or tables.sending())


def committed_of(tables: DocTables) -> Json:
    """The state of the server's rows alone."""
    return committed_state(tables.snapshot().state, in_commit_order(tables.committed.ops()))


# ---- local edits ---------------------------------------------------------------------------------


def add_edit(
    tables: DocTables,
    ops: Sequence[Op],
    now: Millis,
    known: int | None,
    edit_id: str | None = None,
) -> Step:
    """Fold a local edit into the pending ops, all of it at one time.

    The time is later than that of every row that was seen here, whatever the clock says: what an
    author has read, the author's write replaces. An edit whose id was noted is stored already, by a
    try that seemed to fail.
    """
    if edit_id is not None:
        if tables.has_edit(edit_id):
            return _stored_before(tables, ops, known)
        tables.note_edit(edit_id)
    head = tables.head()
    newest = 0 if head is None else head.newest_ts
    held = (tables.pending.get(op["path"]) for op in ops)
    ts = max([now, newest + 1, *(op["ts"] for op in held if op is not None)])
    return _add_pending(tables, [{**op, "ts": ts} for op in ops], known, edit_id)


def _stored_before(tables: DocTables, ops: Sequence[Op], known: int | None) -> Step:
    version = _version(tables)
    return Step(
        before=version,
        after=version,
        committed_rev=committed_rev(tables),
        local=ops,
        work=None if known is None else work_of(tables),
    )


def _add_pending(
    tables: DocTables, ops: Sequence[Op], known: int | None, edit_id: str | None
) -> Step:
    before = _version(tables)
    # The ops are sent under the id of their first edit, also from a copy of the file that has the
    # edit and not what came of it: then a server that has seen it counts it once.
    pending_id = None if tables.pending.any() else edit_id or ""
    existing: dict[str, Op] = {}
    for op in ops:  # a pending op above is not looked at: the server corrects a write below it
        for path in (op["path"], *tables.pending.below(op["path"])):
            held = tables.pending.get(path)
            if held is not None:
                existing[path] = held
    result = consolidate_ops(existing.values(), ops)
    # A row that removes a parent is done with once a child is written; a pending removal still has
    # to reach the server, before the child.
    removed_paths = [
        path
        for path in result.paths_to_delete
        if existing.get(path, {}).get("op") != "remove"
        or any(is_below(path, op["path"]) for op in result.ops_to_save)
    ]
    put_consolidated(tables.pending, result.ops_to_save, removed_paths)
    rev = committed_rev(tables)
    head = tables.put_head(committed_rev=rev, pending_id=pending_id)
    return Step(
        before=before,
        after=head.version,
        committed_rev=rev,
        local=ops,
        saved=result.ops_to_save,
        removed_paths=removed_paths,
        work=_work_if_missed(tables, before, known),
    )


# ---- sending -------------------------------------------------------------------------------------


def next_piece(
    tables: DocTables,
    options: DocOptions | None,
    *,
    new_id: IdSource,
    now: Millis,
    doc_id: str,
    known: int | None,
    max_ops: int | None = None,
) -> tuple[Change | None, Step | None]:
    """The piece to send next, with its id in the store, and the step if that took a write.

    Pending ops become pieces when none is left. Without `options` they are sent as they are: not
    divided, and without what deltas start from.
    """
    sending, rev = tables.sending(), committed_rev(tables)
    pending = [] if sending else tables.pending.ops()
    if not sending and not pending:
        return None, _catch_up(tables, known)
    head = tables.head()
    if sending:
        first = sending[0]
    else:
        ops = pending if options is None else with_bases(tables, pending)
        piece_id = head.pending_id if head is not None else ""
        first = _piece(ops, rev, piece_id or new_id(rev + 1), now)
    pieces = [first]
    if options is not None:
        names = _derived_ids(first.id, {piece.id for piece in sending})
        pieces = split_change(
            first, options, new_id=lambda _: next(names), doc_id=doc_id, max_ops=max_ops
        )
    if sending and len(pieces) == 1:
        return first, _catch_up(tables, known)
    before = _version(tables)
    pieces = [*pieces, *sending[1:]]
    tables.put_sending(pieces)
    if not sending:
        tables.pending.clear()
    head = tables.put_head(committed_rev=rev, pending_id=None if sending else "")
    step = Step(
        before=before,
        after=head.version,
        committed_rev=rev,
        sending=pieces,
        removed_paths=[op["path"] for op in pending],
        work=_work_if_missed(tables, before, known),
    )
    return pieces[0], step


def _piece(ops: list[Op], rev: int, piece_id: str, now: Millis) -> Change:
    return Change(id=piece_id, ops=ops, base_rev=rev, rev=rev + 1, created_at=now)


def _derived_ids(change_id: str, taken_ids: Collection[str]) -> Iterator[str]:
    """Ids for what is cut off a piece: the same ones, if the same piece is cut again."""
    names = (f"{change_id}.{number}" for number in count(1))
    return (name for name in names if name not in taken_ids)


def _catch_up(tables: DocTables, known: int | None) -> Step | None:
    """What a document has to take that has missed a write of another process."""
    version = _version(tables)
    work = _work_if_missed(tables, version, known)
    if work is None:
        return None
    return Step(before=version, after=version, committed_rev=work.committed_rev, work=work)


def confirm(tables: DocTables, sent: Sequence[Change], known: int | None) -> Step:
    """Make the ops of sent pieces committed rows, guarded (`docs/internals/lww.md` 10.2).

    For an answer that is applied in a later transaction, if ever: the rows must not hold what the
    server refused, so what a row beats or changes is a correction.
    """
    before = _version(tables)
    confirmed, left = taken(tables, {change.id for change in sent})
    if not confirmed:
        return Step(before=before, after=before, committed_rev=committed_rev(tables))
    corrections = [
        correction
        for piece in confirmed
        for op in piece.ops
        if (correction := _confirm_op(tables, op)) is not None
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
) -> Step:
    """Confirm sent pieces by id and apply the answer's rows, in one.

    The rows hold the server's resolution of every sent path, so the local values are not stored
    in between. Raises `MissingChangesError`, `AlgorithmMismatchError` before anything is written.
    """
    sent_ids = {change.id for change in sent}
    check_timed(doc_id, committed)
    accepted_changes(committed, committed_rev(tables), sent_ids)
    held = {piece.id for piece in tables.sending()}
    for change_id in sent_ids - held:  # ejected while it was under way, and committed all the same
        tables.discard_quarantined(change_id)
    if not any(change.id in sent_ids for change in committed):
        # An answer without our change tells nothing about the sent ops: they become rows here.
        confirm(tables, sent, None)
    return fold_changes(tables, doc_id, committed, sent_ids, known, confirms=True)


def fold_changes(
    tables: DocTables,
    doc_id: str,
    changes: Sequence[Change],
    expected_ids: Collection[str],
    known: int | None,
    *,
    confirms: bool = False,
) -> Step:
    """Apply committed changes to the rows; `confirms`: pieces with an expected id are done."""
    check_timed(doc_id, changes)
    before, cursor = _version(tables), committed_rev(tables)
    accepted = accepted_changes(changes, cursor, expected_ids)
    # What another process that shares the store has sent comes as a broadcast, under its id.
    own_ids = {change.id for change in changes}
    own_ids.update(expected_ids if confirms else ())
    confirmed, left = taken(tables, own_ids)
    if not accepted and not confirmed:
        work = _work_if_missed(tables, before, known)
        return Step(before=before, after=before, committed_rev=cursor, before_rev=cursor, work=work)
    rows = _receive(tables, accepted)
    rev = max([cursor, *(change.rev for change in accepted)])
    if confirmed:
        left = rebased(left, rev)
        tables.put_sending(left)
    head = tables.put_head(committed_rev=rev, newest_ts=_newest(tables, accepted))
    history = _follow_history(tables, accepted, confirms=confirms)
    missed = rows is None and known is not None
    return Step(
        before=before,
        after=head.version,
        committed_rev=rev,
        rows=rows or (),
        confirmed=confirmed,
        sending=left if confirmed else None,
        accepted=accepted,
        before_rev=cursor,
        work=work_of(tables) if missed else _work_if_missed(tables, before, known),
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


def _newest(tables: DocTables, changes: Sequence[Change]) -> Millis:
    """The time of the newest write that was seen here, these changes included."""
    head = tables.head()
    seen = 0 if head is None else head.newest_ts
    return max([seen, *(op.get("ts") or 0 for change in changes for op in change.ops)])


def taken(tables: DocTables, ids: Collection[str]) -> tuple[list[Change], list[Change]]:
    """The pieces being sent that have one of the ids, and the others."""
    sending = tables.sending()
    return (
        [piece for piece in sending if piece.id in ids],
        [piece for piece in sending if piece.id not in ids],
    )


def rebased(pieces: Sequence[Change], rev: int) -> list[Change]:
    """Pieces that nobody has sent yet, so that their answers hold no more than they must."""
    return [piece.replace(base_rev=rev, rev=rev + 1) for piece in pieces]


# ---- the server's snapshot -----------------------------------------------------------------------


def install(
    tables: DocTables,
    doc_id: str,
    snapshot: Snapshot,
    resolved: Collection[str] = (),
    *,
    is_new_history: bool = False,
) -> Work:
    """Replace the committed part by the server's; pending ops and pieces stay.

    On a new history the pieces stand on the snapshot: their revisions meant other changes.
    """
    check_timed(doc_id, snapshot.changes)
    base = snapshot.changes[0].base_rev if snapshot.changes else snapshot.rev
    tables.put_snapshot(Snapshot.from_encoded(snapshot.encoded_state, rev=base))
    tables.committed.clear()
    if snapshot.changes:
        _receive(tables, snapshot.changes)
    if resolved:
        tables.put_sending(taken(tables, resolved)[1])
    head = max(snapshot.rev, snapshot.head)
    if is_new_history:
        tables.put_sending(rebased(tables.sending(), head))
    tables.put_head(committed_rev=head, newest_ts=_newest(tables, snapshot.changes))
    last_id = made_by(snapshot.changes[-1], is_answer=True) if snapshot.changes else None
    tables.put_history(history_in(snapshot.metadata, head, last_id))
    return work_of(tables)


def put_token(tables: DocTables, token: str | None) -> None:
    """Replace the token of the copy's history."""
    if tables.head() is not None:
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


def _version(tables: DocTables) -> int:
    head = tables.head()
    return 0 if head is None else head.version


def work_of(tables: DocTables) -> Work:
    """Everything of a document that is there."""
    work = load(tables)
    assert work is not None
    return work


def _work_if_missed(tables: DocTables, before: int, known: int | None) -> Work | None:
    """What a document that knows another version than the one before has to take."""
    return None if known is None or known == before else load(tables)

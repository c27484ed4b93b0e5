"""What the algorithm does to a document's tables: each function is one transaction.

They read, decide and write; the store keeps all or nothing. At each moment a write is in exactly
one of: pending, the synced rows, quarantine. Rows of on-demand tables are held by the open document
alone (`subsets.py`), so `is_stored` says which tables are written.

Each that an open document follows returns a `Step`. A document that does not hold the version
before it has missed a write of another process, and takes `work` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from patches.algorithms.collections.cursor import following
from patches.algorithms.collections.tables import DocTables, Head, Work
from patches.errors import ApplyChangesError, PatchError, PendingChangeError
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.json_values import Json, Op
from patches.rows.row_ops import Row, RowOp, parse_row_ops
from patches.runtime import Millis

#: Whether the rows of a table are stored.
IsStored = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A write to the tables, as an open document follows it."""

    before: int
    after: int
    committed_rev: int
    accepted: Sequence[Change] = ()
    confirmed: Sequence[str] = ()
    work: Work | None = None


@dataclass(frozen=True, slots=True)
class NewWrite:
    """A local edit to be stored. `action`: the name and arguments of a called action."""

    id: str
    ops: list[Op]
    metadata: Mapping[str, Json]


# ---- reading -------------------------------------------------------------------------------------


def load(tables: DocTables) -> Work | None:
    """Everything, or `None` for a document that is unknown or deleted."""
    head = tables.head()
    if head is None or head.deleted:
        return None
    return Work(
        rows=tables.rows(),
        committed_rev=head.committed_rev,
        pending=tables.pending(),
        version=head.version,
        schema_version=head.schema_version,
    )


def committed_rev(tables: DocTables) -> int:
    """The last revision known here, 0 if none."""
    head = tables.head()
    return 0 if head is None or head.deleted else head.committed_rev


def token_of(tables: DocTables) -> str | None:
    """The token of the copy's history."""
    head = tables.head()
    return None if head is None else head.token


def sendable(tables: DocTables) -> list[Change]:
    """The pending changes, as they are sent from the revision here."""
    rev = committed_rev(tables)
    return [
        change.replace(base_rev=rev, rev=rev + place)
        for place, change in enumerate(tables.pending(), start=1)
    ]


# ---- local edits ---------------------------------------------------------------------------------


def add_writes(
    tables: DocTables, writes: Sequence[NewWrite], now: Millis, known: int | None
) -> tuple[list[Change], Step]:
    """Store local edits as pending changes. One whose id is stored already is left as it is."""
    head = _head(tables)
    stored: list[Change] = []
    for write in writes:
        change = Change(
            id=write.id,
            ops=write.ops,
            base_rev=head.committed_rev,
            rev=head.committed_rev + 1,
            created_at=now,
            metadata=write.metadata,
        )
        if tables.find_pending(write.id) is None and tables.quarantined(write.id) is None:
            tables.add_pending(change)
        stored.append(change)
    return stored, _written(tables, head, head, known)


def remove_write(tables: DocTables, change_id: str, known: int | None) -> Step | None:
    """Take one pending change back; `None` if there is none."""
    head = _head(tables)
    if not tables.remove_pending([change_id]):
        return None
    return _written(tables, head, head, known)


# ---- receiving -----------------------------------------------------------------------------------


def receive(
    tables: DocTables, changes: Sequence[Change], is_stored: IsStored, known: int | None
) -> Step:
    """Apply committed changes by the cursor rule; their ids confirm pending changes, also those of
    changes that are known already. Raises `MissingChangesError` before anything is written.
    """
    head = _head(tables)
    accepted = following(changes, head.committed_rev)
    ops = [op for change in accepted for op in row_ops_of(change)]
    ids = [change.id for change in changes]
    confirmed = tables.remove_pending(ids)
    for change_id in ids:  # ejected while it was under way, and committed all the same
        if tables.quarantined(change_id) is not None:
            tables.discard_quarantined(change_id)
    if not accepted and not confirmed:
        return _unwritten(tables, head, known)
    for op in ops:
        if is_stored(op.table):
            _apply(tables, op)
    rev = accepted[-1].rev if accepted else head.committed_rev
    step = _written(tables, head, replace(head, committed_rev=rev), known)
    return replace(step, accepted=accepted, confirmed=confirmed)


def row_ops_of(change: Change) -> list[RowOp]:
    """A committed change's operations. Raises `ApplyChangesError`."""
    try:
        return parse_row_ops(change.ops)
    except PatchError as exc:
        raise ApplyChangesError(change.id, rev=change.rev, index=0, cause=exc) from exc


def _apply(tables: DocTables, op: RowOp) -> None:
    if op.key is None:
        tables.clear_rows(op.table)
    elif op.kind == "remove":
        tables.remove_row(op.table, op.key)
    elif op.kind == "add" and isinstance(op.value, dict):
        tables.put_row(op.table, op.key, op.value)
    elif op.column is not None:
        row = tables.row(op.table, op.key)
        if row is not None:
            tables.put_row(op.table, op.key, {**row, op.column: op.value})


def install(
    tables: DocTables,
    snapshot: Snapshot,
    resolved: Collection[str],
    is_stored: IsStored,
    schema_version: int,
) -> Work:
    """Put the server's snapshot in the place of the synced rows. Pending changes stay, without
    those that are known to be committed. The `Work` has all rows of the snapshot.
    """
    rows = rows_of(snapshot)
    tables.replace_rows({name: table for name, table in rows.items() if is_stored(name)})
    tables.remove_pending(resolved)
    head = _head(tables)
    token = snapshot.metadata.get("token")
    head = replace(
        head,
        committed_rev=snapshot.head,
        version=head.version + 1,
        token=token if isinstance(token, str) else None,
        schema_version=schema_version,
    )
    tables.put_head(head)
    return Work(
        rows=rows,
        committed_rev=snapshot.head,
        pending=tables.pending(),
        version=head.version,
        schema_version=schema_version,
    )


def rows_of(snapshot: Snapshot) -> dict[str, dict[str, Row]]:
    """The rows of a server's snapshot, with the changes that come with it."""
    state = snapshot.state if isinstance(snapshot.state, dict) else {}
    rows = {name: dict(table) for name, table in state.items() if isinstance(table, dict)}
    for change in snapshot.changes:
        for op in row_ops_of(change):
            table = rows.setdefault(op.table, {})
            if op.key is None:
                table.clear()
            elif op.kind == "remove":
                table.pop(op.key, None)
            elif op.kind == "add" and isinstance(op.value, dict):
                table[op.key] = op.value
            elif op.column is not None and op.key in table:
                table[op.key] = {**table[op.key], op.column: op.value}
    return rows


def put_token(tables: DocTables, token: str | None) -> None:
    """Replace the token of the copy's history."""
    head = tables.head()
    if head is not None and head.token != token:
        tables.put_head(replace(head, token=token))


def complete_rows(
    tables: DocTables, complete: Callable[[str, Row], Row], schema_version: int
) -> None:
    """Rows that were received with another declaration take its columns with their defaults."""
    head = tables.head()
    if head is None or head.deleted or head.schema_version == schema_version:
        return
    for name, rows in tables.rows().items():
        for key, row in rows.items():
            completed = complete(name, row)
            if completed != row:
                tables.put_row(name, key, completed)
    tables.put_head(replace(head, schema_version=schema_version))


# ---- changes that the server refuses -------------------------------------------------------------


def eject(
    tables: DocTables, doc_id: str, change_id: str, reason: str, now: Millis, known: int | None
) -> tuple[QuarantinedChange, Step] | None:
    """Move a pending change into quarantine; `None` if there is none."""
    change = tables.find_pending(change_id)
    if change is None:
        return None
    head = _head(tables)
    entry = QuarantinedChange(
        doc_id=doc_id, change_id=change_id, change=change, reason=reason, quarantined_at=now
    )
    tables.remove_pending([change_id])
    tables.put_quarantined(entry)
    return entry, _written(tables, head, head, known)


def retry(tables: DocTables, doc_id: str, change_id: str, known: int | None) -> tuple[Change, Step]:
    """Make a quarantined change pending again, behind the others, under its own id.

    Raises `PendingChangeError` if it is not in quarantine.
    """
    entry = tables.quarantined(change_id)
    if entry is None:
        raise PendingChangeError(f"document {doc_id!r}: no change {change_id!r} in quarantine")
    head = _head(tables)
    tables.discard_quarantined(change_id)
    tables.add_pending(entry.change)
    return entry.change, _written(tables, head, head, known)


# ---- tracking ------------------------------------------------------------------------------------


def track(tables: DocTables) -> None:
    """Know the document from now on; a deleted one starts again at revision 0."""
    head = tables.head()
    if head is None or head.deleted:
        tables.put_head(Head(committed_rev=0, version=0 if head is None else head.version + 1))


def untrack(tables: DocTables) -> None:
    """Forget all but the quarantine."""
    tables.remove_head()


def mark_deleted(tables: DocTables) -> None:
    """Leave a record of the deletion and nothing else."""
    rev, head = committed_rev(tables), tables.head()
    tables.remove_head()
    tables.discard_quarantined()
    version = 0 if head is None else head.version + 1
    tables.put_head(Head(committed_rev=rev, version=version, deleted=True))


def confirm_deleted(tables: DocTables) -> None:
    """Drop the record of a deletion."""
    head = tables.head()
    if head is not None and head.deleted:
        tables.remove_head()


# ---- inside --------------------------------------------------------------------------------------


def _head(tables: DocTables) -> Head:
    head = tables.head()
    return Head(committed_rev=0, version=0) if head is None or head.deleted else head


def _written(tables: DocTables, before: Head, after: Head, known: int | None) -> Step:
    head = replace(after, version=before.version + 1)
    tables.put_head(head)
    return Step(
        before=before.version,
        after=head.version,
        committed_rev=head.committed_rev,
        work=_if_missed(tables, before, known),
    )


def _unwritten(tables: DocTables, head: Head, known: int | None) -> Step:
    return Step(
        before=head.version,
        after=head.version,
        committed_rev=head.committed_rev,
        work=_if_missed(tables, head, known),
    )


def _if_missed(tables: DocTables, before: Head, known: int | None) -> Work | None:
    return None if known is None or known == before.version else load(tables)

"""How what the server committed becomes a document's rows. Pure.

These are parts of a transaction: they read and write the document's tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from patches.algorithms.replay.changes import ACTION, RIGHTS, SYNC, is_client_run, units_of
from patches.algorithms.replay.tables import ClientRun, DocTables, Head, Unit
from patches.errors import ApplyChangesError, NotARowOperationError, SchemaTooOldError
from patches.model.change import Change
from patches.rows.journal import Journal
from patches.rows.plain_rows import PlainRows
from patches.rows.row_ops import Row, RowOp, parse_row_ops
from patches.rows.schema import Schema


def parsed_ops(doc_id: str, change: Change, schema: Schema) -> list[RowOp]:
    """The operations of a committed change.

    Raises `ApplyChangesError` if they are none of rows, `SchemaTooOldError` for a table or a column
    that is not known here.
    """
    try:
        ops = parse_row_ops(change.ops)
    except NotARowOperationError as error:
        raise ApplyChangesError(change.id, rev=change.rev, index=0, cause=error) from error
    unknown = schema.unknown_part(ops)
    if unknown is not None:
        raise SchemaTooOldError(doc_id, *unknown)
    return ops


def fold_committed(
    tables: DocTables, head: Head, new: Sequence[Change], parsed: Mapping[str, list[RowOp]]
) -> ClientRun | None:
    """Fold what was committed. If its actions are run by who commits them, it is kept, too, with
    what leads back; `None` if they are not.
    """
    _begin_or_end(tables, head, new)
    if not tables.is_client_run():
        for change in new:
            _fold(tables, parsed[change.id])
        return None
    units: list[Unit] = []
    for changes in units_of(new):
        journal = Journal()
        for change in changes:
            _fold(tables, parsed[change.id], journal)
        unit = Unit(changes, journal.inverse())
        tables.add_unit(unit)
        units.append(unit)
    return ClientRun(partial=tables.is_partial(), units=units)


def _begin_or_end(tables: DocTables, head: Head, new: Sequence[Change]) -> None:
    """Whoever runs the actions, every change that it makes says so."""
    made = [change for change in new if change.metadata.get("kind") == ACTION]
    if not made:
        return
    if not is_client_run(made[-1]):
        tables.end_client_run()
    elif not tables.is_client_run():
        partial = any(RIGHTS in change.metadata for change in made)
        tables.begin_client_run(head.committed_rev, partial=partial)


def take_needless(tables: DocTables) -> frozenset[str]:
    """Remove what was to be added to the effect of somebody's action, if it is there by now."""
    needless = set()
    for change in tables.pending() if tables.has_pending() else ():
        if change.metadata.get("kind") == SYNC and not _is_needed(tables, change):
            needless.add(change.id)
    tables.take_pending(needless)
    return frozenset(needless)


def _is_needed(tables: DocTables, change: Change) -> bool:
    rows: dict[str, dict[str, Row]] = {}
    for op in parse_row_ops(change.ops):
        if op.key is not None:
            row = tables.row(op.table, op.key)
            if row is not None:
                rows.setdefault(op.table, {})[op.key] = row
    return bool(PlainRows(rows).apply(parse_row_ops(change.ops)).ops())


def _fold(tables: DocTables, ops: Sequence[RowOp], journal: Journal | None = None) -> None:
    for op in ops:
        if journal is not None and op.key is not None:
            row = tables.row(op.table, op.key)
            after = PlainRows({op.table: {} if row is None else {op.key: row}})
            after.apply([op])
            journal.note(op.table, op.key, row, after.row(op.table, op.key))
        if op.key is None:
            tables.clear_rows(op.table)
        elif op.kind == "add":
            tables.put_row(op.table, op.key, op.value)
        elif op.kind == "remove":
            tables.put_row(op.table, op.key, None)
        else:
            row = tables.row(op.table, op.key)
            if row is not None and op.column is not None:
                tables.put_row(op.table, op.key, {**row, op.column: op.value})

"""A local edit becomes part of the pending ops, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from patches.algorithms.lww.consolidate import consolidate_ops
from patches.algorithms.lww.field_table import is_below, put_consolidated
from patches.algorithms.lww.reading import committed_rev, version_of, work_if_missed, work_of
from patches.algorithms.lww.steps import Step
from patches.algorithms.lww.tables import DocTables
from patches.model.json_values import Op
from patches.runtime import Millis


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
    version = version_of(tables)
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
    before = version_of(tables)
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
        work=work_if_missed(tables, before, known),
    )

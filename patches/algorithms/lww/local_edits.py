"""A local edit becomes part of the pending ops, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from patches.algorithms.lww.consolidate import consolidate_ops
from patches.algorithms.lww.field_table import is_below, put_consolidated
from patches.algorithms.lww.reading import load
from patches.algorithms.lww.steps import Step, Work
from patches.algorithms.lww.tables import DocTables, Head
from patches.algorithms.lww.units import bare, in_unit, join
from patches.model.json_values import Op
from patches.runtime import Millis


def add_edits(
    tables: DocTables,
    edits: Sequence[tuple[Sequence[Op], str | None]],
    now: Millis,
    known: int | None,
) -> tuple[list[Step | None], Work | None]:
    """Fold local edits, each with its id, into the pending ops, all of them at one time.

    The time is later than that of every row that was seen here, whatever the clock says: what an
    author has read, the author's write replaces. It is not earlier than that of any write that was
    stored here before: another process that shares the store may have another clock. An edit whose
    id was noted is stored already, by a try that seemed to fail. Gives a step for each edit that
    has operations, and everything if the steps are not enough for an open document.
    """
    head = tables.head()
    is_behind = known is not None and known != (0 if head is None else head.version)
    steps: list[Step | None] = []
    for ops, edit_id in edits:
        if not ops:
            steps.append(None)
        elif edit_id is not None and tables.has_edit(edit_id):
            is_behind = known is not None
            steps.append(_stored_before(head, ops))
        else:
            if edit_id is not None:
                tables.note_edit(edit_id)
            step, head = _add_pending(tables, head, _timed(tables, head, ops, now), edit_id)
            steps.append(step)
    return steps, load(tables) if is_behind else None


def _timed(tables: DocTables, head: Head | None, ops: Sequence[Op], now: Millis) -> list[Op]:
    ts = now if head is None else max(now, head.newest_ts + 1)
    for op in ops:
        held = tables.pending.get(op["path"])
        if held is not None:
            ts = max(ts, held["ts"])
    return [{**op, "ts": ts} for op in ops]


def _stored_before(head: Head | None, ops: Sequence[Op]) -> Step:
    version = 0 if head is None else head.version
    return Step(before=version, after=version, committed_rev=_rev_of(head), local=ops)


def _rev_of(head: Head | None) -> int:
    return 0 if head is None or head.deleted else head.committed_rev


def _add_pending(
    tables: DocTables, head: Head | None, ops: Sequence[Op], edit_id: str | None
) -> tuple[Step, Head]:
    before, rev = 0 if head is None else head.version, _rev_of(head)
    # The ops are sent under the id of their first edit, also from a copy of the file that has the
    # edit and not what came of it: then a server that has seen it counts it once.
    pending_id = None if tables.pending.any() else edit_id or ""
    existing: dict[str, Op] = {}  # as they are stored
    for op in ops:  # a pending op above is not checked: the server corrects a write below it
        for path in (op["path"], *tables.pending.below(op["path"])):
            held = tables.pending.get(path)
            if held is not None:
                existing[path] = held
    result = consolidate_ops([bare(op) for op in existing.values()], ops)
    # A row that removes a parent is done with once a child is written; a pending removal still has
    # to reach the server, before the child.
    removed_paths: list[str] = []
    for path in result.paths_to_delete:
        is_removal = existing.get(path, {}).get("op") == "remove"
        if not is_removal or any(is_below(path, op["path"]) for op in result.ops_to_save):
            removed_paths.append(path)
    unit = before + 1
    if existing:
        replaced = {*removed_paths, *(op["path"] for op in result.ops_to_save)}
        unit, moved = join(
            tables.pending,
            result.ops_to_save,
            [op for path, op in existing.items() if path in replaced],
            unit,
        )
        for op in moved:
            tables.pending.put(in_unit(op, unit))
    put_consolidated(
        tables.pending, [in_unit(op, unit) for op in result.ops_to_save], removed_paths
    )
    newest = max([0 if head is None else head.newest_ts, *(op["ts"] - 1 for op in ops)])
    after = tables.put_head(committed_rev=rev, pending_id=pending_id, newest_ts=newest)
    step = Step(
        before=before,
        after=after.version,
        committed_rev=rev,
        local=ops,
        saved=result.ops_to_save,
        removed_paths=removed_paths,
    )
    return step, after

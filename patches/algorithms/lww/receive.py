"""Which committed changes to take, and what their rows do to the rows held here.

Answers and broadcasts overtake each other, so a row is compared by revision: an older one never
replaces a newer one (`docs/internals/sync.md` 12.2). A row without `rev` is a local write that was
confirmed but not echoed; any row of the server replaces it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from patches.algorithms.lww.field_table import Rows, ancestor_paths
from patches.algorithms.lww.state import in_commit_order
from patches.errors import AlgorithmMismatchError, MissingChangesError
from patches.model.change import Change
from patches.model.json_values import Op


def check_timed(doc_id: str, changes: Iterable[Change]) -> None:
    """Raise `AlgorithmMismatchError` if a committed op has no timestamp: LWW ops have one."""
    for change in changes:
        for op in change.ops:
            if op.get("ts") is None:
                raise AlgorithmMismatchError(doc_id, expected="ot", got="lww")


def accepted_changes(
    changes: Iterable[Change], cursor: int, expected_ids: Container[str] = ()
) -> list[Change]:
    """The changes to apply at revision `cursor`; stale ones are left out.

    The rules: `docs/internals/lww.md` 11.3.

    Those with an id in `expected_ids` answer our own commit and are always taken. Raises
    `MissingChangesError` when one starts beyond what is known.
    """
    accepted = []
    for change in changes:
        if change.id not in expected_ids:
            if change.rev <= cursor and change.base_rev < cursor:
                continue
            if change.base_rev > cursor:
                raise MissingChangesError(
                    expected_rev=cursor + 1, got_rev=change.rev, since_rev=cursor
                )
        accepted.append(change)
        cursor = max(cursor, change.rev)
    return accepted


def rows_of(changes: Iterable[Change]) -> list[Op]:
    """The rows of committed changes, in commit order, each with its revision."""
    rows = []
    for change in changes:
        rows += [
            op if op.get("rev") is not None else {**op, "rev": change.rev} for op in change.ops
        ]
    return in_commit_order(rows)


def is_reset(row: Op) -> bool:
    """Whether a row starts the document anew: the root, older than any row.

    A server sends it before all rows that it has, to who was away for longer than it remembers
    removals.
    """
    return row["path"] == "" and row.get("rev") == 0 and row["op"] == "replace"


def since_reset(changes: Sequence[Change]) -> tuple[Sequence[Change], Op | None]:
    """The changes from the last one that starts the document anew, and its first row."""
    for index in range(len(changes) - 1, -1, -1):
        for row in changes[index].ops:
            if is_reset(row):
                return changes[index:], row
    return changes, None


def receive_rows(table: Rows, rows: Sequence[Op], snapshot_rev: int) -> list[Op] | None:
    """Put the server's rows into the table.

    Returns what must be applied to the committed state for it to follow, or `None` if that state
    has to be built again from the table.
    """
    applied: list[Op] = []
    rebuild = False
    for row in rows:
        if row["rev"] <= snapshot_rev:  # in the snapshot already, or overwritten there
            rebuild |= _discard_unechoed(table, row["path"])
            continue
        age, is_newest, has_unechoed = _age(row), True, False
        for path in (row["path"], *ancestor_paths(row["path"]), ""):
            held = table.get(path)
            if held is not None:
                is_newest &= _age(held) <= age
                has_unechoed |= "rev" not in held
        if is_newest:
            rebuild |= has_unechoed  # it stays on top of the row
            applied += _write(table, row)
    return None if rebuild else applied


def _write(table: Rows, row: Op) -> list[Op]:
    newer = []
    for path in table.below(row["path"]):
        child = table.get(path)
        if child is not None and _age(child) > _age(row):
            newer.append(child)
        else:
            table.discard(path)
    table.write(row)
    return [row, *in_commit_order(newer)] if newer else [row]


def _discard_unechoed(table: Rows, path: str) -> bool:
    unechoed = [
        name
        for name in (path, *table.below(path))
        if (held := table.get(name)) is not None and "rev" not in held
    ]
    for name in unechoed:
        table.discard(name)
    return bool(unechoed)


def _age(row: Op) -> tuple[float, float]:
    """Where a row stands in commit order; one that is not echoed yet before all others."""
    return row.get("rev", -1), row.get("ts") or 0

"""The client's direction of the transform walk: pending changes onto newer committed ones."""

from __future__ import annotations

from collections.abc import Sequence

from patches.algorithms.ot.walk import walk_changes
from patches.change import Change
from patches.json_values import Op


def rebase_changes(
    server_changes: Sequence[Change], local_changes: Sequence[Change]
) -> list[Change]:
    """Pending changes, moved behind committed ones (`spec/ot.md` 4.1).

    A committed change with the id of a local one confirms it, and it leaves the queue. What has
    no operations left is dropped. The rest stands on the last server revision, numbered upwards
    from it.
    """
    if not server_changes or not local_changes:
        return list(local_changes)
    local_ids = {change.id for change in local_changes}
    left, _ = walk_changes(local_changes, server_changes, lambda change: change.id in local_ids)
    base_rev = server_changes[-1].rev
    survivors = [(change, ops) for change, ops in left if ops]
    return [
        _moved(change, ops, base_rev, base_rev + place)
        for place, (change, ops) in enumerate(survivors, start=1)
    ]


def _moved(change: Change, ops: list[Op], base_rev: int, rev: int) -> Change:
    return change.replace(ops=ops, base_rev=base_rev, rev=rev)

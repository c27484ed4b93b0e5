"""The client's direction of the transform walk: pending changes onto newer committed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patches.algorithms.ot.walk import walk_changes
from patches.model.change import Change
from patches.model.json_values import Op


def rebase_changes(
    server_changes: Sequence[Change], local_changes: Sequence[Change]
) -> list[Change]:
    """Pending changes, moved behind committed ones (`docs/internals/ot.md` 4.1).

    A committed change with the id of a local one confirms it, and it leaves the queue. What has
    no operations left is dropped. The rest stands on the last server revision, numbered upwards
    from it.
    """
    return rebased(server_changes, local_changes).changes


@dataclass(frozen=True, slots=True)
class Rebased:
    """A queue behind committed changes."""

    changes: list[Change]
    #: The committed operations of others, advanced over the queue: what follows the queue is moved
    #: behind these. `None` where parts of the queue were made on different revisions.
    advanced: list[list[Op]] | None


def rebased(server_changes: Sequence[Change], local_changes: Sequence[Change]) -> Rebased:
    """As `rebase_changes`, with the committed operations advanced over the queue."""
    if not server_changes or not local_changes:
        return Rebased(list(local_changes), [change.ops for change in server_changes])
    local_ids = {change.id for change in local_changes}
    left, advanced = walk_changes(
        local_changes, server_changes, lambda change: change.id in local_ids
    )
    base_rev = server_changes[-1].rev
    survivors = [(change, ops) for change, ops in left if ops]
    return Rebased(
        [
            _moved(change, ops, base_rev, base_rev + place)
            for place, (change, ops) in enumerate(survivors, start=1)
        ],
        advanced,
    )


def rebase_queue(
    server_changes: Sequence[Change], pending: Sequence[Change], frame: int
) -> Rebased:
    """`rebased` for a queue in which some changes were made on an older revision.

    `frame` is the committed revision that the queue sits on. A change with a smaller `base_rev`
    was made by a process that lagged behind, for a state that is not at hand: it keeps its
    operations and its `base_rev`, which the server can transform, and leaves the queue only when it
    is confirmed (`docs/internals/ot.md` 9.5).
    """
    if not server_changes or not pending or all(c.base_rev >= frame for c in pending):
        return rebased(server_changes, pending)
    in_frame = [change for change in pending if change.base_rev >= frame]
    moved = {change.id: change for change in rebase_changes(server_changes, in_frame)}
    echoed = {change.id for change in server_changes}
    queue: list[Change] = []
    for change in pending:
        if change.base_rev < frame:
            if change.id not in echoed:
                queue.append(change)
        elif change.id in moved:
            queue.append(moved[change.id])
    return Rebased(renumbered(queue, server_changes[-1].rev), None)


def renumbered(queue: Sequence[Change], after_rev: int) -> list[Change]:
    """The changes with revisions that count upwards from `after_rev`."""
    return [
        change if change.rev == rev else change.replace(rev=rev)
        for rev, change in enumerate(queue, start=after_rev + 1)
    ]


def _moved(change: Change, ops: list[Op], base_rev: int, rev: int) -> Change:
    if ops is change.ops and (change.base_rev, change.rev) == (base_rev, rev):
        return change  # it keeps its encoded bytes
    return change.replace(ops=ops, base_rev=base_rev, rev=rev)

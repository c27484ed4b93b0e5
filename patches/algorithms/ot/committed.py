"""Receiving committed changes, as a function of snapshots."""

from __future__ import annotations

from collections.abc import Sequence

from patches.algorithms.ot.apply import apply_changes
from patches.algorithms.ot.rebase import rebase_changes
from patches.errors import MissingChangesError
from patches.model.change import Change, Snapshot


def apply_committed_changes(snapshot: Snapshot, server_changes: Sequence[Change]) -> Snapshot:
    """A client's snapshot with newer committed changes in it (`docs/internals/ot.md` 5).

    Changes at or below the snapshot's revision are a redelivery: they only confirm pending changes
    by id. Raises `MissingChangesError` if the first newer one does not follow on, unless it
    replaces the whole document; interior holes are not detected. Raises `ApplyChangesError`.
    """
    new = [change for change in server_changes if change.rev > snapshot.rev]
    confirmed = {change.id for change in server_changes if change.rev <= snapshot.rev}
    pending = [change for change in snapshot.changes if change.id not in confirmed]
    if not new:
        return _snapshot(snapshot, pending)
    first = new[0]
    if first.rev != snapshot.rev + 1 and not is_root_replace(first):
        raise MissingChangesError(
            expected_rev=snapshot.rev + 1, got_rev=first.rev, since_rev=snapshot.rev
        )
    return Snapshot(
        state=apply_changes(snapshot.state, new),
        rev=new[-1].rev,
        changes=rebase_changes(new, pending),
    )


def is_root_replace(change: Change) -> bool:
    """Whether the change replaces the whole document, so that no earlier revision is needed."""
    if len(change.ops) != 1:
        return False
    op = change.ops[0]
    return op.get("op") == "replace" and op.get("path") == ""


def find_gap(
    base_rev: int, changes: Sequence[Change], *, allow_root_replace: bool = True
) -> MissingChangesError | None:
    """The hole before or inside a delivery that should follow on from `base_rev`, if any."""
    expected = base_rev + 1
    for index, change in enumerate(changes):
        if change.rev != expected and not (
            index == 0 and allow_root_replace and is_root_replace(change)
        ):
            return MissingChangesError(
                expected_rev=expected, got_rev=change.rev, since_rev=base_rev
            )
        expected = change.rev + 1
    return None


def _snapshot(snapshot: Snapshot, pending: list[Change]) -> Snapshot:
    if len(pending) == len(snapshot.changes):
        return snapshot
    return Snapshot(state=snapshot.state, rev=snapshot.rev, changes=pending)

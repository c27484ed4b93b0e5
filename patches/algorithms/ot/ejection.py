"""Taking one change out of a pending queue, as a function of the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patches.algorithms.ot.apply import apply_changes, create_state_from_snapshot
from patches.algorithms.ot.walk import TransformWalk
from patches.errors import ApplyChangesError, PatchError, PendingChangeError
from patches.json_patch import apply_patch, invert_patch
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op


@dataclass(frozen=True, slots=True)
class PendingEjection:
    """What leaves the queue, and the queue without it."""

    ejected: Change
    new_pending: list[Change]


def compute_pending_ejection(
    committed_state: Json, committed_rev: int, pending: Sequence[Change], change_id: str
) -> PendingEjection | None:
    """Remove one change from a pending queue; `None` if it is not in it (`docs/internals/ot.md` 6).

    What follows it is transformed over its inverse. Every change keeps its own `base_rev`; the
    revisions are numbered upwards from the committed one. Raises `PendingChangeError` when the
    change has successors and cannot be applied itself, because then it has no inverse to trust, and
    `ApplyChangesError` when what precedes it cannot be applied.
    """
    at = next((place for place, change in enumerate(pending) if change.id == change_id), None)
    if at is None:
        return None
    ejected, successors = pending[at], pending[at + 1 :]
    if successors:
        before = apply_changes(committed_state, pending[:at])
        successors = _without(ejected, before, successors)
    queue = [*pending[:at], *successors]
    return PendingEjection(
        ejected,
        [change.replace(rev=committed_rev + place) for place, change in enumerate(queue, start=1)],
    )


def applies_in_queue(snapshot: Snapshot, change_id: str) -> bool:
    """Whether a pending change applies; true also if it is unknown or cannot be judged."""
    at = next((at for at, c in enumerate(snapshot.changes) if c.id == change_id), None)
    if at is None:
        return True
    try:
        before = apply_changes(snapshot.state, snapshot.changes[:at])
    except ApplyChangesError:
        return True  # a change before it is at fault
    try:
        apply_patch(before, snapshot.changes[at].ops, strict=True)
    except PatchError:
        return False
    return True


def check_applies_on_top(doc_id: str, snapshot: Snapshot, change: Change) -> None:
    """Raise `PendingChangeError` if a change does not apply after all that is pending."""
    try:
        apply_patch(create_state_from_snapshot(snapshot), change.ops, strict=True)
    except (ApplyChangesError, PatchError) as exc:
        raise PendingChangeError(
            f"document {doc_id!r}: the quarantined change {change.id!r} does not apply to the "
            f"document as it is now: {exc}"
        ) from exc


def _without(ejected: Change, before: Json, successors: Sequence[Change]) -> list[Change]:
    inverse = _inverse(ejected, before)
    # A change made on another revision was not written over the ejected: it stays as it is.
    above = [change for change in successors if change.base_rev == ejected.base_rev]
    walk = TransformWalk([change.ops for change in above])
    walk.follow(inverse)
    rebased = {id(change): ops or [] for change, ops in zip(above, walk.programs(), strict=True)}
    kept: list[Change] = []
    for change in successors:
        ops = rebased.get(id(change), change.ops)
        if ops:
            kept.append(change.replace(ops=ops))
        elif id(change) not in rebased:
            kept.append(change)
    return kept


def _inverse(ejected: Change, before: Json) -> list[Op]:
    try:
        apply_patch(before, ejected.ops, strict=True)
    except PatchError as exc:
        raise PendingChangeError(
            f"Cannot eject change {ejected.id}: it does not apply cleanly to its own frame, so its "
            f"inverse cannot be trusted"
        ) from exc
    inverse: list[Op] = invert_patch(before, ejected.ops)
    return inverse

"""Taking one change out of a pending queue, as a function of the queue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from patches.algorithms.ot.apply import apply_changes, create_state_from_snapshot
from patches.algorithms.ot.walk import TransformWalk
from patches.errors import ApplyChangesError, PatchError, PendingChangeError
from patches.json_patch import apply_patch, invert_patch
from patches.json_patch.handlers import delta_of
from patches.json_patch.pointer import escape, parse, value_at
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op


@dataclass(frozen=True, slots=True)
class PendingEjection:
    """What leaves the queue, and the queue without it.

    `lost` are the changes behind it that write something into what only the ejected one has made:
    they are not in the new queue, or not as a whole.
    """

    ejected: Change
    new_pending: list[Change]
    lost: list[Change] = field(default_factory=list)


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
    lost: list[Change] = []
    if successors:
        before = apply_changes(committed_state, pending[:at])
        rebased = _without(ejected, before, successors)
        lost = _lost(successors, rebased)
        successors = rebased
    queue = [*pending[:at], *successors]
    return PendingEjection(
        ejected,
        [change.replace(rev=committed_rev + place) for place, change in enumerate(queue, start=1)],
        lost,
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


def _lost(before: Sequence[Change], after: Sequence[Change]) -> list[Change]:
    left = {change.id: change.ops for change in after}
    return [change for change in before if _written(left.get(change.id, ())) < _written(change.ops)]


def _written(ops: Iterable[Op]) -> int:
    """How many operations bring something; what only takes away is not missed."""
    return sum(op["op"] not in ("remove", "test") and not _only_deletes(op) for op in ops)


def _only_deletes(op: Op) -> bool:
    if op["op"] != "@txt":
        return False
    parts = delta_of(op.get("value"))
    return parts is not None and not any("insert" in part for part in parts)


def _inverse(ejected: Change, before: Json) -> list[Op]:
    try:
        ops, after = _with_containers(before, ejected.ops)
        inverse: list[Op] = invert_patch(before, ops)
        apply_patch(after, inverse, strict=True)
    except PatchError as exc:
        raise PendingChangeError(
            f"Cannot eject change {ejected.id}: it does not apply cleanly to its own frame, so its "
            f"inverse cannot be trusted"
        ) from exc
    return inverse


def _with_containers(state: Json, ops: Sequence[Op]) -> tuple[list[Op], Json]:
    """`ops` with a write of each container that an operation makes on its way, and the state after
    them. Those have an inverse of their own; a write into nothing has none.
    """
    written: list[Op] = []
    for op in ops:
        after = apply_patch(state, [op], strict=True)
        above = ""
        for key in parse(op["path"])[:-1]:
            above = f"{above}/{escape(key)}"
            made = value_at(after, above)
            if isinstance(made, dict | list) and not isinstance(value_at(state, above), type(made)):
                container: Json = {} if isinstance(made, dict) else []
                written.append({"op": "replace", "path": above, "value": container})
        written.append(op)
        state = after
    return written, state

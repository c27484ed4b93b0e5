"""What received changes do to a document's queue, as functions of what was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from patches.algorithms.ot.apply import without_absent
from patches.algorithms.ot.committed import find_gap
from patches.algorithms.ot.rebase import rebase_queue, renumbered
from patches.algorithms.ot.store import PendingQueue
from patches.errors import AlgorithmMismatchError, PatchError
from patches.json_patch import apply_patch
from patches.model.change import Change
from patches.model.json_values import Json, Op

_BROKEN: Final = "it does not apply to the document, whose history was replaced on the server"
_BEHIND: Final = "a change before it does not apply: the history was replaced on the server"

#: About how many microseconds it takes to apply a change, or to encode it.
STEPS_TO_APPLY: Final = 12


@dataclass(frozen=True, slots=True)
class Reception:
    """What a delivery of committed changes comes to."""

    #: The changes that are not stored yet.
    new: list[Change]
    #: The whole queue behind the delivery.
    pending: list[Change]
    #: What others committed, advanced over the queue as it was, for edits that follow it; `None` if
    #: that is not known.
    advanced: list[list[Op]] | None


def plan_reception(queue: PendingQueue, changes: Sequence[Change], resolved: set[str]) -> Reception:
    """Decide about committed changes.

    `resolved`: sent changes that came to nothing. Raises `MissingChangesError` for a hole before or
    between the changes.
    """
    base = queue.committed_rev
    new = [change for change in changes if change.rev > base]
    gap = find_gap(base, new)
    if gap is not None:
        raise gap
    left = queue.pending
    if left and len(new) < len(changes):
        confirmed = {change.id for change in changes if change.rev <= base}
        left = [change for change in left if change.id not in confirmed]
    rebased = rebase_queue(new, left, base)
    pending = rebased.changes
    if resolved:
        # Only now: until here they stood in the queue, and what follows was written over them.
        pending = [change for change in pending if change.id not in resolved]
        pending = renumbered(pending, max(base, changes[-1].rev))
    return Reception(new, pending, rebased.advanced if len(left) == len(queue.pending) else None)


def reception_steps(queue: PendingQueue, changes: Sequence[Change]) -> int:
    """About how many steps of a microsecond it takes to plan a reception and to apply it."""
    return len(queue.pending) * (len(changes) + 4) + STEPS_TO_APPLY * len(changes)


def plan_encoded_reception(
    queue: PendingQueue, changes: Sequence[Change], resolved: set[str]
) -> Reception:
    """As `plan_reception`, for a thread: with the bytes that the store is going to ask for."""
    reception = plan_reception(queue, changes, resolved)
    for change in reception.pending:
        _ = change.encoded
    return reception


@dataclass(frozen=True, slots=True)
class Installation:
    """What becomes of a queue when a snapshot is installed."""

    #: The queue on the snapshot.
    pending: list[Change]
    #: What cannot stay in it, and why.
    aside: list[tuple[Change, str]]


def plan_install(
    queue: PendingQueue,
    tail: Sequence[Change],
    state: Json,
    head: int,
    gone: set[str],
    *,
    is_new: bool = False,
) -> Installation:
    """The queue on a snapshot of this state, whose last revision is `head`.

    `tail`: what was committed since the local revision, as far as it is known. `gone`: changes
    known to be committed. `is_new`: the snapshot is of another history, in which the revisions
    that the queue stands on mean other changes.
    """
    left = [
        change
        for change in reconciled(queue.committed_rev, queue.pending, tail)
        if change.id not in gone
    ]
    stay = [
        change.replace(base_rev=head) if is_new or _means_nothing(change.base_rev, head) else change
        for change in left
    ]
    aside: list[tuple[Change, str]] = []
    if any(one is not other for one, other in zip(left, stay, strict=True)):
        # Nothing has moved these onto the snapshot: they may not apply to it.
        stay, aside = _judged(state, stay, head)
    return Installation(renumbered(stay, head), aside)


def _judged(
    state: Json, queue: Sequence[Change], head: int
) -> tuple[list[Change], list[tuple[Change, str]]]:
    """What of a queue can stay, and what cannot.

    What follows a change that does not apply was written over it, and goes with it.
    """
    for at, change in enumerate(queue):
        if change.base_rev < head:
            continue  # it was made for another state, and the server transforms it
        try:
            state = without_absent(apply_patch(state, change.ops, strict=True))
        except PatchError:
            behind = [(later, _BEHIND) for later in queue[at + 1 :]]
            return list(queue[:at]), [(change, _BROKEN), *behind]
    return list(queue), []


def _means_nothing(base_rev: int, head: int) -> bool:
    """Whether a server at `head` would refuse what stands on a revision, as often as it is sent.

    Above the head: it was set back. 0: it takes that for the rest of an upload which it never saw.
    A change can stand on 0 behind a committed revision if its document was opened, or lives in
    another process, while the first revision was stored; the empty document that it was made on has
    nothing to transform it over.
    """
    return base_rev > head or base_rev == 0


def reconciled(
    committed_rev: int, pending: Sequence[Change], tail: Sequence[Change]
) -> list[Change]:
    """A queue behind a tail of committed changes, of which it may stand on some already."""
    if not tail:
        return list(pending)
    frame = max(tail[0].rev - 1, committed_rev)
    confirmed = {change.id for change in tail if change.rev <= frame}
    left = [change for change in pending if change.id not in confirmed]
    return rebase_queue([change for change in tail if change.rev > frame], left, frame).changes


def refuse_lww(doc_id: str, changes: Sequence[Change]) -> None:
    """Raise `AlgorithmMismatchError` for operations with a `ts`: only LWW writes them."""
    for change in changes:
        for op in change.ops:
            if "ts" in op:
                raise AlgorithmMismatchError(doc_id, expected="lww", got="ot")

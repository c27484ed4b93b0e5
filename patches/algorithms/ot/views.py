"""What an open document shows of a stored queue, as functions of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from patches.algorithms.ot.apply import apply_changes, apply_pending_for_view, without_absent
from patches.errors import ApplyChangesError, PatchError, PatchesError
from patches.json_patch import ABSENT, apply_patch
from patches.model.change import Change
from patches.model.json_values import Json, json_equal


@dataclass(frozen=True, slots=True)
class Preview:
    """What receiving committed changes will do to a document."""

    #: They only confirm what is shown.
    is_shown: bool
    #: All are changes of its own; some not as they are shown.
    is_echo: bool = True
    committed_state: Json = None
    #: The committed state with the pending queue on top; `ABSENT` if it was not computed.
    view: Json = ABSENT


def preview_of(rev: int, pending: Sequence[Change], committed: Sequence[Change]) -> Preview:
    """What committed changes do to a document at `rev`, as far as that needs no state."""
    if not pending:
        return Preview(is_shown=not committed, is_echo=not committed)
    own = {change.id for change in pending}
    is_echo = all(change.id in own for change in committed)
    return Preview(is_shown=is_echo and _confirms_front(rev, pending, committed), is_echo=is_echo)


def _confirms_front(rev: int, pending: Sequence[Change], committed: Sequence[Change]) -> bool:
    """Whether these are the first pending changes, just as they were made."""
    front = pending[: len(committed)]
    return len(front) == len(committed) and all(
        change.id == mine.id and mine.base_rev >= rev and json_equal(change.ops, mine.ops)
        for change, mine in zip(committed, front, strict=True)
    )


def preview_with_view(
    rev: int,
    before: Sequence[Change],
    state: Json,
    unfolded: Sequence[Change],
    committed: Sequence[Change],
    pending: Sequence[Change],
) -> Preview:
    """The preview with the states after it, for a document at `rev`.

    Its queue is `before`, and its committed state `state` with `unfolded`. `pending`: the queue
    behind `committed`.
    """
    preview = preview_of(rev, before, committed)
    if preview.is_shown:
        return preview
    after = apply_changes(apply_changes(state, unfolded), committed)
    view = view_or_absent(after, committed[-1].rev, pending)
    return replace(preview, committed_state=after, view=view)


def view_or_absent(state: Json, rev: int, pending: Sequence[Change]) -> Json:
    """The committed state with the queue on top; `ABSENT` if some of it cannot be applied."""
    try:
        return apply_pending_for_view(state, rev, pending)
    except ApplyChangesError:
        return ABSENT  # the document finds out which one it is


def view_above(
    state: Json, unfolded: Sequence[Change], rev: int, pending: Sequence[Change]
) -> Json:
    """As `view_or_absent`, for a committed state `unfolded` is still to be applied to."""
    return view_or_absent(apply_changes(state, unfolded), rev, pending)


def hydrated(
    state: Json, rev: int, pending: Sequence[Change]
) -> tuple[list[Change], Json, list[Change]]:
    """The queue that can be kept, the state it shows, and the changes that cannot be applied."""
    try:
        return list(pending), apply_pending_for_view(state, rev, pending), []
    except ApplyChangesError:
        pass
    kept: list[Change] = []
    dropped: list[Change] = []
    for change in pending:
        if change.base_rev < rev:
            kept.append(change)  # made for another state: it is the server's to transform
            continue
        try:
            state = without_absent(apply_patch(state, change.ops, strict=True))
            kept.append(change)
        except PatchError:
            dropped.append(change)
    return kept, state, dropped


def is_same_queue(a: Sequence[Change], b: Sequence[Change]) -> bool:
    """Whether two queues hold the same changes at the same revisions."""
    return len(a) == len(b) and all(
        one.id == other.id and one.rev == other.rev and one.encoded == other.encoded
        for one, other in zip(a, b, strict=True)
    )


def was_taken_out(queue: Sequence[Change], stored: Sequence[Change]) -> bool:
    """Whether a change of a queue is not among those that are stored now, committed or pending."""
    kept = {change.id for change in stored}
    return any(change.id not in kept for change in queue)


def has_hole(changes: Sequence[Change]) -> bool:
    """Whether some revision between the changes is missing."""
    return any(after.rev != before.rev + 1 for before, after in pairwise(changes))


def shown(state: Json) -> Json:
    """A state as a document shows it."""
    return {} if state is None else state


def check_follows(rev: int, committed: Sequence[Change]) -> None:
    """Raise `PatchesError` unless committed changes follow on from a revision."""
    if committed[0].rev != rev + 1:
        raise PatchesError(
            "Cannot apply committed changes to a doc that is not at the correct revision"
        )
    for before, after in pairwise(committed):
        if after.rev != before.rev + 1:
            raise PatchesError(
                f"Cannot apply committed changes with a gap at rev {before.rev} → {after.rev}"
            )

"""Changes onto states: strictly, for a view of settled history, or with unsent changes on top."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from patches.errors import ApplyChangesError, PatchError
from patches.json_patch import ABSENT, apply_patch
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json


@dataclass(frozen=True, slots=True)
class SkippedChange:
    """A change that a reconstruction left out, its place in the list, and why."""

    change: Change
    index: int
    error: Exception


def without_absent(state: Json) -> Json:
    """A state as it is kept: one whose root was removed is `null`, as on the wire."""
    return None if state is ABSENT else state


def apply_changes(state: Json, changes: Sequence[Change]) -> Json:
    """The state after all changes, each applied strictly.

    Raises `ApplyChangesError` for the first that fails; nothing is skipped. Without changes it is
    the same state object.
    """
    if len(changes) > 1:
        # As one patch, so that a container that many changes write to is copied once.
        try:
            ops = [op for change in changes for op in change.ops]
            return without_absent(apply_patch(state, ops, strict=True))
        except PatchError:
            pass  # the loop below finds out which change it is
    for index, change in enumerate(changes):
        try:
            state = apply_patch(state, change.ops, strict=True)
        except PatchError as exc:
            raise ApplyChangesError(change.id, rev=change.rev, index=index, cause=exc) from exc
    return without_absent(state)


def apply_changes_for_reconstruction(
    state: Json,
    changes: Sequence[Change],
    *,
    on_skipped_change: Callable[[SkippedChange], object] | None = None,
    legacy_text_overrun_padding: bool = False,
) -> Json:
    """The state after all changes, leaving out whole those that fail.

    For replaying settled history only: version states, history views, branch seeds. Each change
    left out is given to `on_skipped_change`. `legacy_text_overrun_padding` pads a text edit beyond
    the end with spaces as old peers did: on for replays that render a log, off for those that seed
    a document.
    """
    try:
        ops = [op for change in changes for op in change.ops]
        return without_absent(
            apply_patch(
                state, ops, strict=True, legacy_text_overrun_padding=legacy_text_overrun_padding
            )
        )
    except PatchError:
        pass  # some change is to be left out
    for index, change in enumerate(changes):
        try:
            state = apply_patch(
                state,
                change.ops,
                strict=True,
                legacy_text_overrun_padding=legacy_text_overrun_padding,
            )
        except PatchError as exc:
            if on_skipped_change is not None:
                on_skipped_change(SkippedChange(change, index, exc))
    return without_absent(state)


def apply_pending_for_view(
    committed_state: Json, committed_rev: int, pending: Sequence[Change]
) -> Json:
    """What a document shows: the committed state with the pending changes on top.

    If they do not all apply, those made on an older revision (`docs/internals/ot.md` 9.5) are left
    out of the view: they were written for a state that is not at hand. Raises `ApplyChangesError`
    if the rest does not apply either.
    """
    try:
        return apply_changes(committed_state, pending)
    except ApplyChangesError:
        current = [change for change in pending if change.base_rev >= committed_rev]
        if len(current) == len(pending):
            raise
    return apply_changes(committed_state, current)


def create_state_from_snapshot(snapshot: Snapshot) -> Json:
    """The state that a client's snapshot shows, pending changes included."""
    return apply_pending_for_view(snapshot.state, snapshot.rev, snapshot.changes)

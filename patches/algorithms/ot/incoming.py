"""The server's direction of the transform walk: incoming changes onto what was committed since."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from patches.algorithms.ot.walk import walk_changes
from patches.model.change import Change
from patches.model.json_values import Op


@dataclass(frozen=True, slots=True)
class TransformedIncoming:
    """Incoming changes ready to commit, and the history as it stands behind them."""

    changes: list[Change]
    #: The operations of each committed change that was not the sender's own, advanced over the
    #: incoming ones; what came to nothing is left out. A branch merge keeps them as its frame.
    advanced_foreign: list[list[Op]]


def transform_incoming_changes(
    changes: Sequence[Change],
    committed: Sequence[Change],
    current_rev: int,
    *,
    force_commit: bool = False,
    is_own_committed: Callable[[Change], bool] | None = None,
    checkpoint: Callable[[], object] | None = None,
) -> list[Change]:
    """Incoming changes, moved behind committed ones and numbered upwards from `current_rev`.

    `is_own_committed` says which committed changes are the sender's own come back: each of them
    takes the incoming change with its id out of the queue. What has no operations left is dropped
    unless `force_commit`. `base_rev` is left as it was claimed. `checkpoint` is called every few
    thousand steps at most; what it raises ends the transform.
    """
    return transform_incoming_changes_with_frame(
        changes,
        committed,
        current_rev,
        force_commit=force_commit,
        is_own_committed=is_own_committed,
        checkpoint=checkpoint,
    ).changes


def transform_incoming_changes_with_frame(
    changes: Sequence[Change],
    committed: Sequence[Change],
    current_rev: int,
    *,
    force_commit: bool = False,
    is_own_committed: Callable[[Change], bool] | None = None,
    checkpoint: Callable[[], object] | None = None,
) -> TransformedIncoming:
    """As `transform_incoming_changes`, with the committed operations advanced over the result."""
    left, advanced = walk_changes(
        changes, committed, is_own_committed or _never, checkpoint=checkpoint
    )
    kept = [(change, ops) for change, ops in left if ops or force_commit]
    return TransformedIncoming(
        [
            change.replace(ops=ops, rev=current_rev + place)
            for place, (change, ops) in enumerate(kept, start=1)
        ],
        [ops for ops in advanced if ops],
    )


def _never(_: Change) -> bool:
    return False

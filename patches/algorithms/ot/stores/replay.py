"""The state that committed changes add up to, as every store of OT documents has it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from patches.algorithms.ot.apply import SkippedChange, apply_changes_for_reconstruction
from patches.model.change import Change
from patches.model.json_values import Json

_log = logging.getLogger("patches.stores")

#: Committed changes that gather on a state before they are folded into it.
SNAPSHOT_INTERVAL: Final = 200
#: Committed changes that a shared file keeps behind that, for other processes that have yet to move
#: unsaved edits behind them.
KEPT_CHANGES: Final = 1_000


def replayed(doc_id: str, state: Json, changes: Sequence[Change]) -> Json:
    """The state after committed changes. One that cannot be applied is left out, and logged."""

    def log_skipped(skipped: SkippedChange) -> None:
        _log.warning(
            "document %r: committed change %s (rev %d) cannot be applied and was left out: %s",
            doc_id,
            skipped.change.id,
            skipped.change.rev,
            skipped.error,
        )

    return apply_changes_for_reconstruction(state, changes, on_skipped_change=log_skipped)

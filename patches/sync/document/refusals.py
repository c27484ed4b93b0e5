"""Setting aside a pending change that the server refuses for good, whatever it takes."""

from __future__ import annotations

from patches.algorithms.base import Algorithm
from patches.documents.document import Document
from patches.errors import (
    ChangeRefusedError,
    PendingChangeError,
    StatusError,
    UnsplittableChangeError,
)
from patches.model.change import QuarantinedChange


def refusal_of(error: BaseException, change_id: str) -> Exception:
    """What is reported for a change: a `ChangeRefusedError` that names it, with all that the server
    says. An operation that cannot be divided is reported as it is.
    """
    if isinstance(error, UnsplittableChangeError | ChangeRefusedError):
        return error
    code = error.code if isinstance(error, StatusError) else 413  # a frame that was too large
    refusal = ChangeRefusedError(change_id, str(error), code=code)
    if isinstance(error, StatusError):
        refusal.data = {**(error.data or {}), **(refusal.data or {})}
    refusal.__cause__ = error
    return refusal


async def set_aside(
    algorithm: Algorithm, doc_id: str, change_id: str, reason: str, doc: Document | None
) -> list[QuarantinedChange]:
    """Move a pending change into quarantine, and with it those that cannot do without it.

    Returns the new entries; none if there is no such change. Raises as the algorithm does; what
    was moved until then stays moved.
    """
    before = {entry.change_id for entry in await algorithm.list_quarantined_changes(doc_id)}
    if not await _eject(algorithm, doc_id, change_id, reason, doc):
        return []
    return [
        entry
        for entry in await algorithm.list_quarantined_changes(doc_id)
        if entry.change_id not in before
    ]


async def _eject(
    algorithm: Algorithm, doc_id: str, change_id: str, reason: str, doc: Document | None
) -> bool:
    try:
        return await algorithm.eject_pending_change(doc_id, change_id, reason, doc) is not None
    except PendingChangeError:
        # What was made on top of it cannot be separated from it: that goes first, the last one
        # at the beginning, until the refused change has nothing on top.
        pending = [change.id for change in await algorithm.list_pending(doc_id, doc)]
        later = pending[pending.index(change_id) + 1 :] if change_id in pending else []
        if not later:
            raise
    for other in reversed(later):
        why = f"made on top of change {change_id}, which was refused: {reason}"
        await algorithm.eject_pending_change(doc_id, other, why, doc)
    return await algorithm.eject_pending_change(doc_id, change_id, reason, doc) is not None

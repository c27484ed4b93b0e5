"""What becomes of unsent work when the server has another history of the document."""

from __future__ import annotations

from collections.abc import Callable

from patches.algorithms.base import Algorithm
from patches.documents.document import Document
from patches.errors import PendingChangeError
from patches.model.change import QuarantinedChange

_BROKEN = "it does not apply to the document, whose history was replaced on the server"
_BEHIND = "a change before it does not apply: the history was replaced on the server"


async def set_aside_unappliable(
    doc_id: str,
    algorithm: Algorithm,
    doc: Document | None,
    quarantined: Callable[[str, QuarantinedChange], None],
) -> None:
    """Take out of the queue what does not apply to the document any more."""

    async def set_aside(change_id: str, reason: str, *, only_if_unappliable: bool = True) -> None:
        entry = await algorithm.eject_pending_change(
            doc_id, change_id, reason, doc, only_if_unappliable=only_if_unappliable
        )
        if entry is not None:
            quarantined(doc_id, entry)

    pending = [change.id for change in await algorithm.list_pending(doc_id, doc)]
    for at, change_id in enumerate(pending):
        if await algorithm.verify_pending_change(doc_id, change_id):
            continue
        try:
            await set_aside(change_id, _BROKEN)
        except PendingChangeError:
            # What follows cannot be written without it: that is set aside too, from the end.
            for later in reversed(pending[at + 1 :]):
                await set_aside(later, _BEHIND, only_if_unappliable=False)
            await set_aside(change_id, _BROKEN)
            return

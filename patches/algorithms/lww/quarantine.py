"""Changes that the server refuses: each function is one transaction, as in `transactions.py`."""

from __future__ import annotations

from patches.algorithms.lww.reading import committed_of, committed_rev, rebased, taken, work_of
from patches.algorithms.lww.steps import Work
from patches.algorithms.lww.tables import DocTables
from patches.errors import PatchError, PendingChangeError
from patches.json_patch import apply_patch
from patches.model.change import Change, QuarantinedChange
from patches.model.ids import IdSource
from patches.runtime import Millis


def applies_cleanly(tables: DocTables, change_id: str) -> bool:
    """Whether a piece applies strictly to the committed state; true if there is no such piece."""
    confirmed, _ = taken(tables, (change_id,))
    if not confirmed:
        return True
    try:
        apply_patch(committed_of(tables), confirmed[0].ops, strict=True)
    except PatchError:
        return False
    return True


def eject(
    tables: DocTables,
    doc_id: str,
    change_id: str,
    reason: str,
    now: Millis,
    *,
    only_if_unappliable: bool,
) -> tuple[QuarantinedChange, Work] | None:
    """Move a piece into quarantine; `None` if there is none, or it applies after all."""
    ejected, left = taken(tables, (change_id,))
    if not ejected or (only_if_unappliable and applies_cleanly(tables, change_id)):
        return None
    quarantined = QuarantinedChange(
        doc_id=doc_id, change_id=change_id, change=ejected[0], reason=reason, quarantined_at=now
    )
    tables.put_quarantined(quarantined)
    tables.put_sending(left)
    tables.put_head(committed_rev=committed_rev(tables))
    return quarantined, work_of(tables)


def divide(tables: DocTables, change_id: str, *, new_id: IdSource) -> Work | None:
    """Make two pieces of one, by operations; `None` if there is none, or it is one operation.

    The first keeps the id: the server has refused the whole piece, so it knows neither.
    """
    sending = tables.sending()
    for index, piece in enumerate(sending):
        if piece.id == change_id and len(piece.ops) > 1:
            middle = len(piece.ops) // 2
            halves = [
                piece.replace(ops=piece.ops[:middle]),
                piece.replace(id=new_id(piece.rev), ops=piece.ops[middle:]),
            ]
            tables.put_sending([*sending[:index], *halves, *sending[index + 1 :]])
            tables.put_head(committed_rev=committed_rev(tables))
            return work_of(tables)
    return None


def retry(tables: DocTables, doc_id: str, change_id: str) -> tuple[Change, Work]:
    """Make a quarantined change a piece again, behind those that are being sent.

    Under its own id: if it was committed after all, the server is told so by that, and an increment
    counts once. Raises `PendingChangeError` if there is no such change.
    """
    quarantined = tables.quarantined(change_id)
    if quarantined is None:
        raise PendingChangeError(f"document {doc_id!r}: no change {change_id!r} in quarantine")
    tables.discard_quarantined(change_id)
    rev = committed_rev(tables)
    pieces = rebased([quarantined.change], rev)
    tables.put_sending([*tables.sending(), *pieces])
    tables.put_head(committed_rev=rev)
    return pieces[0], work_of(tables)

"""Pending ops become the pieces that are sent, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from patches.algorithms.lww.bases import with_bases
from patches.algorithms.lww.reading import catch_up, work_if_missed
from patches.algorithms.lww.split import split_change
from patches.algorithms.lww.steps import Step
from patches.algorithms.lww.tables import DocTables
from patches.algorithms.lww.units import as_parts, as_stored, bare, bare_change, grouped
from patches.model.change import Change
from patches.model.ids import IdSource
from patches.model.json_values import Op
from patches.options import DocOptions
from patches.runtime import Millis


def next_piece(
    tables: DocTables,
    options: DocOptions | None,
    *,
    new_id: IdSource,
    now: Millis,
    doc_id: str,
    known: int | None,
    max_ops: int | None = None,
) -> tuple[Change | None, Step | None]:
    """The piece to send next, with its id in the store, and the step if that took a write.

    A piece holds whole units (`units.py`), but for a unit that alone is too large.
    Pending ops become pieces when none is left. Without `options` they are sent as they are: not
    divided, and without what deltas start from.
    """
    sending, head = tables.sending(), tables.head()
    rev = 0 if head is None or head.deleted else head.committed_rev
    units = [] if sending else grouped(tables.pending.ops())
    pending = [op for unit in units for op in unit]
    if len(units) == 1:  # most often: a number adds nothing
        pending = [bare(op) for op in pending]
    if not sending and not pending:
        return None, catch_up(tables, known)
    if sending:
        first = sending[0]
    else:
        ops = pending if options is None else with_bases(tables, pending)
        piece_id = head.pending_id if head is not None else ""
        first = _piece(ops, rev, piece_id or new_id(rev + 1), now)
    pieces = [first]
    if options is not None:
        names = _derived_ids(first.id, sending)
        pieces = split_change(
            first, options, new_id=lambda _: next(names), doc_id=doc_id, max_ops=max_ops
        )
    if sending and len(pieces) == 1:
        return bare_change(first), catch_up(tables, known)
    before = 0 if head is None else head.version
    pieces = as_stored([*as_parts(pieces, before + 1), *sending[1:]])
    tables.put_sending(pieces)
    if not sending:
        tables.pending.clear()
    head = tables.put_head(committed_rev=rev, pending_id=None if sending else "")
    sent = [bare_change(piece) for piece in pieces]
    step = Step(
        before=before,
        after=head.version,
        committed_rev=rev,
        sending=sent,
        removed_paths=[op["path"] for op in pending],
        work=work_if_missed(tables, before, known),
    )
    return sent[0], step


def _piece(ops: list[Op], rev: int, piece_id: str, now: Millis) -> Change:
    return Change(id=piece_id, ops=ops, base_rev=rev, rev=rev + 1, created_at=now)


def _derived_ids(change_id: str, sending: Sequence[Change]) -> Iterator[str]:
    """Ids for what is cut off a piece: the same ones, if the same piece is cut again."""
    taken_ids = {piece.id for piece in sending}
    for number in count(1):
        name = f"{change_id}.{number}"
        if name not in taken_ids:
            yield name

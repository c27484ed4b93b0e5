"""Changes that the server refuses: each function is one transaction, as in `transactions.py`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from patches.algorithms.lww.field_table import ancestor_paths
from patches.algorithms.lww.reading import committed_of, committed_rev, rebased, taken, work_of
from patches.algorithms.lww.state import holds_container
from patches.algorithms.lww.steps import Work
from patches.algorithms.lww.tables import DocTables
from patches.algorithms.lww.units import NO_UNIT, as_stored, bare, grouped, halves, unit_of
from patches.errors import PatchError, PendingChangeError
from patches.json_patch import apply_patch
from patches.model.change import Change, QuarantinedChange
from patches.model.ids import IdSource
from patches.model.json_values import Json, Op
from patches.runtime import Millis

_BROKEN: Final = "it does not apply to the document, whose history was replaced on the server"


def applies_cleanly(tables: DocTables, change_id: str) -> bool:
    """Whether a piece applies strictly to the committed state; true if there is no such piece."""
    confirmed, _ = taken(tables, (change_id,))
    return not confirmed or _applies(committed_of(tables), confirmed[0])


def set_unappliable_aside(tables: DocTables, doc_id: str, now: Millis) -> list[QuarantinedChange]:
    """Move the pieces into quarantine that do not apply to the committed state: it is that of
    another history. The record is the caller's to put.
    """
    state, sending = committed_of(tables), tables.sending()
    aside = [
        QuarantinedChange(
            doc_id=doc_id, change_id=piece.id, change=piece, reason=_BROKEN, quarantined_at=now
        )
        for piece in sending
        if not _applies(state, piece)
    ]
    for entry in aside:
        tables.put_quarantined(entry)
    if aside:
        gone = {entry.change_id for entry in aside}
        tables.put_sending([piece for piece in sending if piece.id not in gone])
    return aside


def _applies(state: Json, piece: Change) -> bool:
    try:
        apply_patch(state, piece.ops, strict=True)
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
    """Move a piece into quarantine, together with what cannot do without it.

    `None` if there is no such piece, or it applies after all.
    """
    ejected, _ = taken(tables, (change_id,))
    if not ejected or (only_if_unappliable and applies_cleanly(tables, change_id)):
        return None
    ops = [*ejected[0].ops, *_withdraw(tables, ejected[0])]
    quarantined = QuarantinedChange(
        doc_id=doc_id,
        change_id=change_id,
        change=ejected[0].replace(ops=[bare(op) for op in ops]),
        reason=reason,
        quarantined_at=now,
    )
    tables.put_quarantined(quarantined)
    pending_id = None if tables.pending.any() else ""
    tables.put_head(committed_rev=committed_rev(tables), pending_id=pending_id)
    return quarantined, work_of(tables)


def _withdraw(tables: DocTables, refused: Change) -> list[Op]:
    """Take a piece off those being sent, and return what goes with it, which is taken off too.

    That is the rest of its edit, if that was too large for one piece, and each later edit that
    writes into an object which only the piece makes: it would make a part of that object.
    """
    sending = tables.sending()
    index = [piece.id for piece in sending].index(refused.id)
    dependents = _Dependents(tables, refused.ops)
    later: list[Change] = []
    for piece in sending[index + 1 :]:
        kept = dependents.without(grouped(piece.ops))
        later += [piece.replace(ops=kept)] if kept else []
    in_pieces = len(dependents.ops)
    dependents.without(grouped(tables.pending.ops()))
    for op in dependents.ops[in_pieces:]:
        tables.pending.discard(op["path"])
    tables.put_sending([*sending[:index], *later])
    return dependents.ops


class _Dependents:
    """Finds, among later edits in order, those that go with a refused one."""

    def __init__(self, tables: DocTables, refused: Sequence[Op]) -> None:
        self.ops: list[Op] = []
        self._tables = tables
        self._units = {unit_of(op) for op in refused} - {NO_UNIT}
        self._missing: set[str] = set()  # objects that are not made now
        self._miss(refused)

    def without(self, units: Iterable[Sequence[Op]]) -> list[Op]:
        """The writes of the edits that can do without the refused one; the others go with it."""
        kept: list[Op] = []
        for unit in units:
            if unit_of(unit[0]) in self._units or self._rests_on_missing(unit):
                self.ops += unit
                self._miss(unit)
            else:
                kept += unit
                made = {op["path"] for op in unit if "value" in op}
                self._missing = {
                    path
                    for path in self._missing
                    if made.isdisjoint((path, *ancestor_paths(path), ""))
                }
        return kept

    def _rests_on_missing(self, unit: Iterable[Op]) -> bool:
        return bool(self._missing) and any(
            not self._missing.isdisjoint((*ancestor_paths(op["path"]), "")) for op in unit
        )

    def _miss(self, ops: Iterable[Op]) -> None:
        made = [op["path"] for op in ops if isinstance(op.get("value"), dict | list)]
        if made:
            state = committed_of(self._tables)
            self._missing.update(path for path in made if not holds_container(state, path))


def divide(tables: DocTables, change_id: str, *, new_id: IdSource) -> Work | None:
    """Make two pieces of one, between units; `None` if there is none, or it is one unit.

    The first keeps the id: the server has refused the whole piece, so it knows neither.
    """
    sending = tables.sending()
    for index, piece in enumerate(sending):
        if piece.id == change_id and (parts := halves(piece.ops)) is not None:
            pieces = [
                piece.replace(ops=parts[0]),
                piece.replace(id=new_id(piece.rev), ops=parts[1]),
            ]
            tables.put_sending(as_stored([*sending[:index], *pieces, *sending[index + 1 :]]))
            tables.put_head(committed_rev=committed_rev(tables))
            return work_of(tables)
    return None


def retry(tables: DocTables, doc_id: str, change_id: str) -> tuple[Change, Work]:
    """Make a quarantined change a piece again, behind those that are being sent.

    Under its own id: if it was committed after all, the server recognises it, and an increment
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

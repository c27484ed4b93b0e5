"""What a commit comes to: one pure function of the call and of the rows that were read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patches.errors import ChangeRefusedError, OpsRefusedError
from patches.limits import Limits
from patches.model.checks import check_ops
from patches.runtime import Millis
from patches_server.documents.authors import author_of
from patches_server.documents.context import Reviewer
from patches_server.documents.history import KnownHistory
from patches_server.lww.commit import (
    AnyChange,
    Decision,
    answer_rows,
    check_lww_ops,
    decide,
    fresh_changes,
    new_rows,
)
from patches_server.lww.encoding import reset_row
from patches_server.lww.rows import Row, RowTable
from patches_server.lww.store import LoadedRows
from patches_server.lww.structural import as_field_writes, has_structural_ops


@dataclass(frozen=True, slots=True)
class CommitCall:
    """What a caller asks to commit, and when. `known`: what it says of its copy's history.

    `review` judges the states that it makes. `expected_rev`: the only head that it may follow.
    """

    doc_id: str
    changes: Sequence[AnyChange]
    now: Millis
    known: KnownHistory | None = None
    review: Reviewer | None = None
    expected_rev: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """A commit as it was stored: the head after it, its rows, and the rows of the answer."""

    rev: int
    stored: Sequence[Row]
    answer: Sequence[bytes]
    head_id: str | None
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a commit comes to, from its call and what was read."""

    fresh: Sequence[AnyChange]
    decision: Decision
    stored: Sequence[Row]
    answer: Sequence[bytes]


def check(changes: Sequence[AnyChange], limits: Limits) -> None:
    """Raise `ChangeRefusedError` naming a change that no last-write-wins document can take."""
    for change in changes:
        try:
            check_ops(change.ops, limits, where=f"change {change.id!r}: ops")
            check_lww_ops(change)
        except OpsRefusedError as exc:
            raise ChangeRefusedError(change.id, str(exc), code=exc.code) from exc


def decided(
    call: CommitCall,
    loaded: LoadedRows,
    paths: Sequence[str],
    client_rev: int | None,
    limits: Limits,
) -> Decided:
    """What a call stores and what it is answered. `loaded` is what was read for it, `paths` those
    that it names, `client_rev` the revision that it stands on."""
    is_behind = client_rev is not None and client_rev < loaded.floor
    fresh = fresh_changes(call.changes, loaded.seen)
    if has_structural_ops(fresh):
        fresh = as_field_writes(loaded, fresh, limits)
    decision = decide(RowTable(loaded.rows), fresh, call.now)
    stored = new_rows(loaded, decision, author_of(call.changes[0]))
    rows = answer_rows(loaded, stored, decision, paths, 0 if is_behind else client_rev)
    first = [reset_row(loaded)] if is_behind else []
    return Decided(
        fresh=fresh,
        decision=decision,
        stored=stored,
        answer=first + [row.encoded for row in rows],
    )

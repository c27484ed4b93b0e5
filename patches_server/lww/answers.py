"""What readers, subscribers and senders get of the rows of an LWW document. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from patches.model import codec
from patches.model.change import Change
from patches.runtime import Millis
from patches_server.documents.history import HistoryMark
from patches_server.documents.records import CommitResult
from patches_server.lww.commit import AnyChange, client_rev_of
from patches_server.lww.decided import Committed
from patches_server.lww.encoding import change_of_rows, join_rows, newest
from patches_server.lww.rows import commit_order
from patches_server.lww.store import LoadedRows


@dataclass(frozen=True, slots=True)
class Joined:
    """Rows as the operations of one change. `mark`: of the head that they were read at."""

    mark: HistoryMark
    floor: int
    base_rev: int
    ops: codec.Encoded
    rev: int
    committed_at: Millis


def joined(loaded: LoadedRows, base_rev: int, first: bytes | None) -> Joined | None:
    """What a reader at a revision is sent. `None`: nothing. `first` replaces all that it has."""
    reader_rev = base_rev if first is None else 0
    rows = [row for row in loaded.rows if not row.hidden or row.concerns(reader_rev)]
    if not rows and first is None:
        return None
    rev = max(base_rev, loaded.floor, *(row.rev for row in rows))
    encoded = [row.encoded for row in commit_order(rows)]
    ops = join_rows(encoded if first is None else [first, *encoded])
    return Joined(mark_of(loaded), loaded.floor, base_rev, ops, rev, newest(rows))


def snapshot_rev(loaded: LoadedRows) -> int:
    """The revision of the saved snapshot that rows are on top of; 0 without one."""
    return loaded.snapshot.rev if loaded.snapshot else 0


def mark_of(loaded: LoadedRows) -> HistoryMark:
    """The history and the head that rows were read at."""
    return HistoryMark(loaded.token, loaded.rev, loaded.head_id)


def broadcast_of(changes: Sequence[AnyChange], done: Committed, now: Millis) -> Change:
    """What the subscribers of a document are sent of a commit."""
    rows = [row.encoded for row in done.stored]
    return change_of_rows(changes[0].id, rows, done.rev - 1, done.rev, now)


def result_of(
    changes: Sequence[AnyChange], done: Committed, now: Millis, *, has_head: bool
) -> CommitResult:
    """The answer to a commit. `has_head`: with the id of the change at the head."""
    base_rev = client_rev_of(changes[0]) or 0
    extra = {"head": done.head_id} if has_head else None
    answer = change_of_rows(changes[0].id, done.answer, base_rev, done.rev, now, extra=extra)
    return CommitResult(changes=[answer], token=done.token)

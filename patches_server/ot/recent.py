"""`RecentLogs`: the ends of the logs that were written last, so that a live commit reads nothing.

A cached end is a guess: another process may have written since. It is only ever used for a commit
that stores something, and the store's transaction checks that the head is the one cached, by
revision and change id. Whatever does not end in a save is decided again on what the store has.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from patches.model.change import Change
from patches_server.documents.history import (
    KnownHistory,
    require_same_change,
    require_same_history,
)
from patches_server.documents.measure import Bounds
from patches_server.ot.rows import head_after, stored
from patches_server.ot.store import DocHead

MAX_DOCS: Final = 10_000
MAX_BYTES: Final = 32 * 1024 * 1024
#: Per document: a client that is further behind has its commit decided on the store's rows, which
#: takes a millisecond more. Up to twice as many are kept.
MAX_CHANGES: Final = 128


@dataclass(slots=True)
class RecentLog:
    """The end of one log: its head, and the changes up to it that are at hand."""

    head: DocHead
    changes: list[Change]
    size: int

    def since(self, rev: int) -> Sequence[Change] | None:
        """The changes after `rev`, `None` if not all of them are at hand."""
        behind = self.head.rev - rev
        if behind <= 0:
            return ()
        # By place: revisions are dense but for what an import has claimed.
        if behind > len(self.changes) or self.changes[-behind].rev != rev + 1:
            return None
        return self.changes[-behind:]

    def id_at(self, rev: int) -> str | None:
        """The id of the change that made a revision, `None` if it is not at hand."""
        after = self.since(rev - 1)
        return after[0].id if after else None


class RecentLogs:
    """The ends of the most recently written logs, within a number of documents and of bytes."""

    def __init__(self, *, max_docs: int = MAX_DOCS, max_bytes: int = MAX_BYTES) -> None:
        self._logs: OrderedDict[str, RecentLog] = OrderedDict()
        self._max_docs, self._max_bytes = max_docs, max_bytes
        self._size = 0

    def __len__(self) -> int:
        return len(self._logs)

    def get(self, doc_id: str) -> RecentLog | None:
        """The end of a document's log, if it is kept."""
        return self._logs.get(doc_id)

    def saved(
        self,
        doc_id: str,
        changes: Sequence[Change],
        bounds: Bounds,
        *,
        expected: DocHead,
        rows: Sequence[Change] | None = None,
    ) -> None:
        """Changes were stored after the head `expected`, and are the new end. `rows`: the same as
        the store keeps them, where it gives them away."""
        log = self._logs.get(doc_id)
        kept = changes[-MAX_CHANGES:]
        moved = log is None or (log.head is not expected and log.head != expected)
        if log is None or moved or len(kept) < len(changes):
            self.forget(doc_id)
            log = self._logs[doc_id] = RecentLog(expected, [], 0)
        log.head = head_after(changes, bounds, token=expected.token)
        # As bytes: the operations of the objects are the caller's, who might change them.
        log.changes.extend(map(stored, kept) if rows is None else rows[-MAX_CHANGES:])
        added = 0
        for change in kept:
            added += len(change.encoded)
        log.size += added
        self._size += added
        if len(log.changes) > 2 * MAX_CHANGES:  # cut seldom, and then by half
            self._cut(log)
        self._logs.move_to_end(doc_id)
        while len(self._logs) > self._max_docs or self._size > self._max_bytes:
            self.forget(next(iter(self._logs)))

    def forget(self, doc_id: str) -> None:
        """Keep nothing of a document."""
        log = self._logs.pop(doc_id, None)
        if log is not None:
            self._size -= log.size

    def _cut(self, log: RecentLog) -> None:
        gone = log.changes[:-MAX_CHANGES]
        del log.changes[:-MAX_CHANGES]
        size = sum(len(change.encoded) for change in gone)
        log.size -= size
        self._size -= size


def shows_history(log: RecentLog, doc_id: str, known: KnownHistory, base_rev: int) -> bool:
    """Whether the log shows that a copy is of its history. Raises `OtherHistoryError`."""
    head = log.head
    if head.token is None:
        return False
    require_same_history(doc_id, known, token=head.token, head_rev=head.rev, rev=base_rev)
    if known.last_id is None or (known.last_rev, known.last_id) == (head.rev, head.change_id):
        return True
    change_id = log.id_at(known.last_rev)
    require_same_change(doc_id, known, change_id)
    return change_id is not None

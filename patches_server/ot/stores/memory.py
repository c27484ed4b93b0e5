"""`OTMemoryServerStore`: OT documents in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import itemgetter
from typing import Final, TypeAlias

from patches.errors import RevConflictError
from patches.model.change import Change
from patches.runtime import Millis
from patches_server.documents.branch_store import MemoryBranches
from patches_server.documents.measure import Bounds
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import MemoryDocuments, require_algorithm
from patches_server.documents.version_store import MemoryVersions
from patches_server.ot.rows import (
    ALGORITHM,
    check_follows,
    check_ids_new,
    head_after,
    within,
)
from patches_server.ot.store import NO_DOC, DocHead, StoredSnapshot
from patches_server.stores.memory.store import MemoryStore

#: A change as it is kept: its bytes, revision, id, creation time, batch and client. No `Change`,
#: which would keep its operations once somebody has read them.
_Row: TypeAlias = tuple[bytes, int, str, Millis, str | None, str | None]


@dataclass(slots=True)
class _Log:
    """One document. `ids` outlive the changes that were pruned."""

    head: DocHead = NO_DOC
    rows: list[_Row] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)


class OTMemoryServerStore(MemoryStore):
    """An `OTServerStore` in memory. Keeps the bytes of changes, not the objects of callers."""

    saves_at_once = True

    def __init__(
        self,
        documents: MemoryDocuments | None = None,
        versions: MemoryVersions | None = None,
        branches: MemoryBranches | None = None,
    ) -> None:
        super().__init__(documents, versions, branches)
        self._logs: dict[str, _Log] = {}

    async def get_head(self, doc_id: str) -> DocHead:
        head = self._read(doc_id).head
        return replace(head, token=self._documents.token_of(doc_id)) if head.rev else head

    async def save_changes(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> None:
        self.save_changes_at_once(doc_id, changes, expected=expected, now=now, bounds=bounds)

    def save_changes_at_once(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> list[Change]:
        """`save_changes`, which waits for nothing here; the rows as they are kept."""
        self._documents.check_writable(doc_id, ALGORITHM)
        log = self._logs.get(doc_id) or _Log()
        if expected.token is not None and expected.token != self._documents.token_of(doc_id):
            raise RevConflictError
        check_follows(changes, expected=expected, head=log.head)
        check_ids_new(doc_id, changes, log.ids)
        rows = [_row(change) for change in changes]  # may raise: before anything is written
        self._documents.written(doc_id, ALGORITHM, now=now)
        log.rows.extend(rows)
        for row in rows:
            log.ids.add(row[2])
        log.head = head_after(changes, bounds or log.head.bounds)
        self._logs[doc_id] = log
        return [_change(row) for row in rows]

    async def list_changes(
        self,
        doc_id: str,
        *,
        start_after: int | None = None,
        end_before: int | None = None,
        limit: int | None = None,
        max_bytes: int | None = None,
    ) -> list[Change]:
        rows = self._read(doc_id).rows
        start = 0 if start_after is None else bisect_right(rows, start_after, key=_rev)
        end = len(rows) if end_before is None else bisect_left(rows, end_before, key=_rev)
        if limit is not None:
            end = min(end, start + max(0, limit))
        return within(map(_change, islice(rows, start, end)), max_bytes)

    async def load_snapshot(self, doc_id: str, *, rev: int | None = None) -> StoredSnapshot:
        log = self._read(doc_id)
        through = log.head.rev if rev is None else min(rev, log.head.rev)
        found = self.versions.newest_main(doc_id, through_rev=through)
        version, state = found or (None, None)
        start = bisect_right(log.rows, version.end_rev if version else 0, key=_rev)
        end = bisect_right(log.rows, through, key=_rev)
        changes = [_change(row) for row in log.rows[start:end]]
        return StoredSnapshot(version=version, state=state, changes=changes)

    async def prune_changes(self, doc_id: str, *, through_rev: int) -> None:
        rows = self._read(doc_id).rows
        del rows[: bisect_right(rows, through_rev, key=_rev)]

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        require_algorithm(doc_id, self._documents.algorithm_of(doc_id), ALGORITHM)
        log = self._logs.pop(doc_id, None)
        self.versions.delete_versions(doc_id)
        self._documents.forget_document(doc_id)
        if tombstone is None:
            return
        if log is not None or self._documents.get_tombstone(doc_id) is None:
            last_rev = log.head.rev if log else 0
            self._documents.put_tombstone(replace(tombstone, last_rev=last_rev))

    def _read(self, doc_id: str) -> _Log:
        self._documents.check_not_deleted(doc_id)
        return self._logs.get(doc_id) or _Log()


_rev: Final = itemgetter(1)


def _row(change: Change) -> _Row:
    return (
        change.encoded,
        change.rev,
        change.id,
        change.created_at,
        change.batch_id,
        change.client_id,
    )


def _change(row: _Row) -> Change:
    encoded, rev, id, created_at, batch_id, client_id = row
    return Change.from_encoded(
        encoded, rev=rev, id=id, created_at=created_at, batch_id=batch_id, client_id=client_id
    )

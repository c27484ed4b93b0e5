"""`LWWMemoryServerStore`: an LWW server's documents in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from patches.algorithms.lww import FieldTable
from patches.algorithms.lww.field_table import ancestor_paths
from patches.errors import RevConflictError
from patches.runtime import Millis
from patches_server.documents.branch_store import MemoryBranches
from patches_server.documents.records import Tombstone
from patches_server.documents.tombstones import MemoryDocuments, require_algorithm
from patches_server.documents.version_store import MemoryVersions
from patches_server.lww.rows import Row, stored_order
from patches_server.lww.store import Decide, LoadedRows, SavedSnapshot
from patches_server.stores.memory.store import MemoryStore


@dataclass(slots=True)
class _Doc:
    rev: int = 0
    floor: int = 0
    snapshot: SavedSnapshot | None = None
    rows: dict[str, Row] = field(default_factory=dict)  # the newest last
    stored_at: dict[str, Millis] = field(default_factory=dict)  # of removals that may be dropped
    tree: FieldTable = field(default_factory=FieldTable)  # the same paths; knows what is below
    change_ids: dict[str, Millis] = field(default_factory=dict)  # id -> expiry, the first first
    revs: dict[str, int] = field(default_factory=dict)  # what the ids made
    ids_floor: int = 0  # ids of revisions up to this one may be forgotten
    head_id: str | None = None


class LWWMemoryServerStore(MemoryStore):
    """An `LWWServerStore` in memory."""

    decides_at_once = True

    def __init__(
        self,
        documents: MemoryDocuments | None = None,
        versions: MemoryVersions | None = None,
        branches: MemoryBranches | None = None,
        *,
        keeps_change_ids: bool = True,
    ) -> None:
        super().__init__(documents, versions, branches)
        self.keeps_change_ids = keeps_change_ids
        self._docs: dict[str, _Doc] = {}

    async def load_rows(
        self,
        doc_id: str,
        *,
        now: Millis,
        paths: Sequence[str] | None = None,
        since_rev: int | None = None,
        change_ids: Sequence[str] = (),
    ) -> LoadedRows:
        return self._loaded(doc_id, now, paths, since_rev, change_ids)

    def _loaded(
        self,
        doc_id: str,
        now: Millis,
        paths: Sequence[str] | None,
        since_rev: int | None,
        change_ids: Sequence[str],
    ) -> LoadedRows:
        self._documents.check_not_deleted(doc_id)
        doc = self._docs.get(doc_id)
        if doc is None:
            return LoadedRows()
        if paths is None and since_rev is None:
            rows = list(doc.rows.values())
        else:
            rows = stored_order({**_near(doc, paths or ()), **_newer(doc, since_rev)}.values())
        return LoadedRows(
            rev=doc.rev,
            rows=rows,
            floor=doc.floor,
            snapshot=doc.snapshot,
            seen=frozenset(id for id in change_ids if doc.change_ids.get(id, 0) > now),
            head_id=doc.head_id,
            token=self._documents.token_of(doc_id),
        )

    async def save_rows(
        self,
        doc_id: str,
        rows: Sequence[Row],
        *,
        expected_rev: int,
        now: Millis,
        hide: Sequence[str] = (),
        change_ids: Sequence[str] = (),
        expires_at: Millis = 0,
        head_id: str | None = None,
        token: str | None = None,
    ) -> None:
        head = self._docs[doc_id].rev if doc_id in self._docs else 0
        if head != expected_rev or (
            token is not None and token != self._documents.token_of(doc_id)
        ):
            self._documents.check_not_deleted(doc_id)
            raise RevConflictError
        self._documents.require_writable(doc_id, "lww", now=now)
        doc = self._docs.setdefault(doc_id, _Doc())
        _write_revision(doc, rows, now, hide, change_ids, expires_at, head_id)

    def commit_at_once(
        self,
        doc_id: str,
        decide: Decide,
        *,
        now: Millis,
        paths: Sequence[str],
        since_rev: int | None,
        change_ids: Sequence[str],
    ) -> bool:
        doc = self._docs.get(doc_id)
        if doc is None:
            return False
        self._documents.check_writable(doc_id, "lww")
        loaded = self._loaded(doc_id, now, paths, since_rev, change_ids)
        made = decide(loaded, partial(_made_by, doc))
        if made is None:
            return False
        self._documents.written(doc_id, "lww", now=now)
        ids, expires_at = made.change_ids, made.expires_at
        _write_revision(doc, made.rows, now, made.hide, ids, expires_at, made.head_id)
        return True

    async def made_by(self, doc_id: str, rev: int, change_id: str) -> bool | None:
        return _made_by(self._docs.get(doc_id) or _Doc(), rev, change_id)

    async def get_current_rev(self, doc_id: str) -> int:
        doc = self._docs.get(doc_id)
        return doc.rev if doc else 0

    async def seed(self, doc_id: str, state: bytes, rows: Sequence[Row], *, now: Millis) -> None:
        if await self.get_current_rev(doc_id):
            raise RevConflictError
        await self.save_snapshot(doc_id, state, 0, now=now)
        if rows:
            await self.save_rows(doc_id, rows, expected_rev=0, now=now)

    async def save_snapshot(self, doc_id: str, state: bytes, rev: int, *, now: Millis) -> None:
        self._documents.require_writable(doc_id, "lww", now=now)
        doc = self._docs.setdefault(doc_id, _Doc())
        doc.snapshot = SavedSnapshot(rev=rev, state=state)
        for path in [row.path for row in doc.rows.values() if row.rev <= rev]:
            _drop(doc, path)

    async def drop_removals(self, doc_id: str, *, stored_before: Millis, limit: int) -> int:
        doc = self._docs.get(doc_id)
        if doc is None:
            return 0
        dropped = [path for path, at in doc.stored_at.items() if at < stored_before][:limit]
        for path in dropped:
            doc.floor = max(doc.floor, doc.rows[path].rev)
            _drop(doc, path)
        return len(dropped)

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        require_algorithm(doc_id, self._documents.algorithm_of(doc_id), "lww")
        self._docs.pop(doc_id, None)
        self._documents.forget_document(doc_id)
        if tombstone is not None:
            self._documents.put_tombstone(tombstone)


def _write_revision(
    doc: _Doc,
    rows: Sequence[Row],
    now: Millis,
    hide: Sequence[str],
    change_ids: Sequence[str],
    expires_at: Millis,
    head_id: str | None,
) -> None:
    doc.rev += 1
    for path in hide:
        if path in doc.rows:
            doc.rows[path] = doc.rows[path].as_hidden()
    for row in rows:
        _write(doc, row, now)
    _prune_ids(doc, now)
    for change_id in change_ids:
        doc.change_ids.pop(change_id, None)  # so that the order stays that of expiry
        doc.change_ids[change_id] = expires_at
        doc.revs[change_id] = doc.rev
    doc.head_id = head_id
    if not change_ids:
        doc.ids_floor = doc.rev


def _made_by(doc: _Doc, rev: int, change_id: str) -> bool | None:
    if rev == doc.rev and doc.head_id == change_id:
        return True
    if change_id in doc.revs:
        return doc.revs[change_id] == rev
    return None if rev <= doc.ids_floor else False


def _near(doc: _Doc, paths: Sequence[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for path in paths:
        for name in ("", path, *ancestor_paths(path), *doc.tree.below(path)):
            row = doc.rows.get(name)
            if row is not None:
                found[name] = row
    return found


def _newer(doc: _Doc, since_rev: int | None) -> dict[str, Row]:
    found: dict[str, Row] = {}
    if since_rev is not None:
        for row in reversed(doc.rows.values()):
            if row.rev <= since_rev:
                break
            found[row.path] = row
    return found


def _write(doc: _Doc, row: Row, now: Millis) -> None:
    for path in (*doc.tree.below(row.path), row.path):
        _drop(doc, path)
    doc.rows[row.path] = row
    doc.tree.put(row.op)
    if row.is_removal and not row.pinned:
        doc.stored_at[row.path] = now


def _drop(doc: _Doc, path: str) -> None:
    doc.rows.pop(path, None)
    doc.stored_at.pop(path, None)
    doc.tree.discard(path)


def _prune_ids(doc: _Doc, now: Millis) -> None:
    while doc.change_ids:
        oldest = next(iter(doc.change_ids))
        if doc.change_ids[oldest] > now:
            return
        del doc.change_ids[oldest]
        doc.ids_floor = max(doc.ids_floor, doc.revs.pop(oldest, 0))

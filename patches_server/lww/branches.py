"""`LWWBranchManager`: branches of last-write-wins documents (`spec/lww.md` 9).

A branch starts as a copy of its source's rows, with their times, in revisions of its own. Merging
sends what was written on the branch since the last merge to the source as one change: the times
decide, as between any two writers. Increments made on the branch have become numbers there: a merge
overwrites, it does not add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from patches.errors import BranchError, NotFoundError, PatchesError, RevConflictError
from patches.model.change import Change
from patches.model.ids import random_id
from patches.model.json_values import Json
from patches.model.records import check_branch_metadata, own_fields
from patches.runtime import Runtime
from patches_server.documents.branch_store import BranchStore
from patches_server.documents.context import CallContext, call_context
from patches_server.documents.offload import steps_of_encoded
from patches_server.documents.records import Branch
from patches_server.lww.commit import seed_rows
from patches_server.lww.rows import Row
from patches_server.lww.server import LWWServer
from patches_server.lww.state import build_state
from patches_server.lww.store import LoadedRows, SavedSnapshot

_MAX_ATTEMPTS: Final = 5


class LWWBranchManager:
    """Makes, lists, changes and merges branches over a server's store. Raises `BranchError`."""

    def __init__(self, server: LWWServer, *, runtime: Runtime | None = None) -> None:
        if server.store.branches is None:
            raise BranchError("branches need a store that keeps branch records")
        self._server = server
        self._branches: BranchStore = server.store.branches
        self._runtime = runtime or Runtime()

    async def list_branches(self, doc_id: str, *, since: float | None = None) -> list[Branch]:
        """The branches of a document; with `since` those modified after it, deleted ones too."""
        return await self._branches.list_branches(doc_id, since=since)

    async def create_branch(
        self, doc_id: str, rev: int, metadata: Mapping[str, Json] | None = None
    ) -> str:
        """Branch off the document as it is now; `rev` is only recorded. Returns the branch's id.

        `metadata["id"]` chooses it, and then asking again changes nothing. With
        `metadata["contentStartRev"]` the caller writes the branch's first content itself.
        """
        given = dict(metadata or {})
        branch_id = given.get("id") or random_id(self._runtime.random, 22)
        if not isinstance(branch_id, str):
            raise BranchError(f"A branch's id is text, not {branch_id!r}")
        existing = await self._branches.load_branch(branch_id)
        if existing is not None:
            if existing.doc_id != doc_id:
                raise BranchError(f"Branch {branch_id} already exists for a different document")
            return branch_id
        if await self._branches.load_branch(doc_id) is not None:
            raise BranchError("Cannot create a branch from another branch.")
        content_start_rev = given.get("contentStartRev") or None
        if content_start_rev is None:
            content_start_rev = await self._copy(doc_id, branch_id) + 1
        now = self._runtime.wall_ms()
        await self._branches.create_branch(
            Branch(
                id=branch_id,
                doc_id=doc_id,
                branched_at_rev=rev,
                content_start_rev=content_start_rev,
                created_at=now,
                modified_at=now,
                metadata=own_fields(given),
            )
        )
        return branch_id

    async def update_branch(self, branch_id: str, metadata: Mapping[str, Json]) -> None:
        """Merge keys into a branch's metadata. Raises `BranchError` for one that it may not set."""
        check_branch_metadata(metadata)
        fields = {"metadata": own_fields(metadata), "modified_at": self._runtime.wall_ms()}
        await self._branches.update_branch(branch_id, fields)

    async def delete_branch(self, branch_id: str) -> None:
        """Delete the record, leaving a trace for who lists changes. The branch document stays."""
        await self._branches.delete_branch(
            branch_id, modified_at=self._runtime.wall_ms(), keeps_origin=True
        )

    async def get_source_doc_id(self, branch_id: str) -> str:
        """The document that a branch belongs to. Raises `NotFoundError`."""
        branch = await self._branches.load_branch(branch_id)
        if branch is None or branch.deleted:
            raise NotFoundError(f"Branch {branch_id} not found")
        return branch.doc_id

    async def merge_branch(self, branch_id: str) -> Sequence[Change]:
        """Send to the source what the branch wrote since the last merge; the source's answer.

        `[]` if there was nothing. The branch stays and may be merged again.
        """
        branch = await self._branches.load_branch(branch_id)
        if branch is None:
            raise BranchError(f"Branch with ID {branch_id} not found.")
        if branch.deleted:
            raise BranchError(f"Branch {branch_id} has been deleted.")
        since = branch.last_merged_rev
        if since is None:
            since = (branch.content_start_rev or 1) - 1
        unmerged = await self._server.get_rows_since(branch_id, since)
        if not unmerged:
            return []
        try:
            with call_context(CallContext()):  # everybody is told, the caller too
                merged = await self._server.commit_changes(branch.doc_id, unmerged)
        except PatchesError as exc:
            if exc.code is not None:  # a status that the caller acts on
                raise
            raise BranchError(f"Merge failed: {exc}") from exc
        await self._advance(branch, unmerged[-1].rev)
        return merged.changes

    async def _copy(self, doc_id: str, branch_id: str) -> int:
        """Give the branch document its first content; its revision."""
        store, now = self._server.store, self._runtime.wall_ms()
        source = await store.load_rows(doc_id, now=now)
        state, rows = await self._server.aside(
            2 * steps_of_encoded(source.rows), lambda: (build_state(source), seed_rows(source))
        )
        try:
            await store.seed(branch_id, state, rows, now=now)
        except RevConflictError as exc:
            found = await store.load_rows(branch_id, now=now)
            if not _is_seed(found, state, rows):  # else: asked again after a crash half-way
                raise BranchError(f"Document {branch_id} already exists") from exc
        return 1 if rows else 0

    async def _advance(self, branch: Branch, merged_rev: int) -> None:
        """Note how far the branch is merged; a merge beside this one may have come further."""
        for _ in range(_MAX_ATTEMPTS):
            known = branch.last_merged_rev
            fields: dict[str, Any] = {
                "last_merged_rev": max(merged_rev, known or 0),
                "modified_at": self._runtime.wall_ms(),
            }
            if await self._branches.update_branch_if(branch.id, fields, {"last_merged_rev": known}):
                return
            now = await self._branches.load_branch(branch.id)
            if now is None or now.deleted:
                return
            branch = now
        raise BranchError(
            f"Failed to advance merge watermark for branch {branch.id} after concurrent merges."
        )


def _is_seed(found: LoadedRows, state: bytes, rows: Sequence[Row]) -> bool:
    return (
        found.rev == 1
        and found.snapshot == SavedSnapshot(rev=0, state=state)
        and [row.encoded for row in found.rows] == [row.encoded for row in rows]
    )

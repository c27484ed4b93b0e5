"""`LWWBranchManager`: branches of last-write-wins documents.

A branch starts as a copy of its source's rows, with their times, in revisions of its own. Merging
sends what was written on the branch since the last merge to the source as one change: the times
decide, as between any two writers. Increments made on the branch have become numbers there: a merge
overwrites, it does not add.
"""

from __future__ import annotations

from collections.abc import Sequence

from patches.errors import BranchError, PatchesError, RevConflictError
from patches.model import codec
from patches.model.change import Change
from patches.model.ids import random_id
from patches.model.json_values import Json
from patches.runtime import Millis, Runtime
from patches_server.documents.branches import BRANCH_ID_LENGTH, BranchManager, advance_watermark
from patches_server.documents.context import CallContext, call_context, current_context
from patches_server.documents.offload import steps_of_encoded
from patches_server.documents.records import Branch
from patches_server.lww.commit import seed_rows
from patches_server.lww.rows import Row
from patches_server.lww.server import LWWServer
from patches_server.lww.state import state_of
from patches_server.lww.store import LoadedRows


class LWWBranchManager(BranchManager):
    """Makes, lists, changes and merges branches over a server's store.

    A branch is always a copy of the document as it is now: `rev` is only recorded.
    """

    keeps_origin = True

    def __init__(self, server: LWWServer, *, runtime: Runtime | None = None) -> None:
        if server.store.branches is None:
            raise BranchError("branches need a store that keeps branch records")
        runtime = runtime or Runtime()
        super().__init__(
            server.store.branches,
            server.clock,
            lambda: random_id(runtime.random, BRANCH_ID_LENGTH),
        )
        self._server = server

    async def _merge(self, branch: Branch) -> Sequence[Change]:
        since = branch.last_merged_rev
        if since is None:
            since = (branch.content_start_rev or 1) - 1
        unmerged = await self._server.get_rows_since(branch.id, since)
        if not unmerged:
            return []
        try:
            # Notifies all subscribers, the caller too. The rules for the caller's commits apply.
            caller = current_context()
            with call_context(CallContext(principal=caller.principal, review=caller.review)):
                merged = await self._server.commit_changes(branch.doc_id, unmerged)
        except PatchesError as exc:
            if exc.code is not None:  # a status that the caller acts on
                raise
            raise BranchError(f"Merge failed: {exc}") from exc
        await advance_watermark(self._branches, self._clock, branch, unmerged[-1].rev)
        return merged.changes

    async def _seed(self, doc_id: str, rev: int, branch_id: str, *, now: Millis, name: Json) -> int:
        store = self._server.store
        source = await store.load_rows(doc_id, now=now)

        def made() -> tuple[Json, bytes, list[Row]]:
            value = state_of(source)
            return value, codec.encode(value), seed_rows(source)

        steps = 2 * steps_of_encoded(source.rows)
        value, state, rows = await self._server.offload(steps, made)
        await self._server.review_first(branch_id, value)
        try:
            await store.seed(branch_id, state, rows, now=now)
        except RevConflictError as exc:
            found = await store.load_rows(branch_id, now=now)
            if not _is_untouched_seed(found):
                raise BranchError(f"Document {branch_id} already exists") from exc
            # Left by a call that was cut before its record was written. The source may have been
            # changed since: begin anew, so that the branch is a copy of one moment.
            await store.delete_doc(branch_id, None, now=now)
            await store.seed(branch_id, state, rows, now=now)
        return 2 if rows else 1


def _is_untouched_seed(found: LoadedRows) -> bool:
    """Only a seed has a snapshot at revision 0, and its rows have revision 1."""
    return found.rev <= 1 and found.snapshot is not None and found.snapshot.rev == 0

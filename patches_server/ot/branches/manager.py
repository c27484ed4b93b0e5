"""`OTBranchManager`: copies of a document with a history of their own (`spec/ot.md` 17)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from patches.algorithms.ot import break_changes
from patches.errors import BranchError, MergeContentDuplicationError, NotFoundError
from patches.model.change import Change
from patches.model.ids import change_ids, random_id
from patches.model.json_values import Json
from patches.model.records import check_branch_metadata, own_fields
from patches.runtime import Millis, Runtime
from patches_server.documents.measure import Bounds
from patches_server.documents.records import Branch
from patches_server.ot.bounds import grown
from patches_server.ot.branches.duplication_guard import find_duplication
from patches_server.ot.branches.merge import Merge, MergeWindow, load_live
from patches_server.ot.branches.merge_frame import MergeFrame
from patches_server.ot.server import OTServer
from patches_server.ot.store import NO_DOC

_log = logging.getLogger("patches_server.ot")

GuardAction: TypeAlias = Literal["refuse", "warn", "off"]

_ID_LENGTH: Final = 22
#: Only merges set these; from a client they are left out without a word.


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentDuplicationGuard:
    """What to do about a merge that would double a text of `min_length` or more characters."""

    action: GuardAction
    min_length: int = 64


class OTBranchManager:
    """Makes, lists and merges the branches of an OT server's documents.

    A branch is an ordinary document with its source's state as its first change, and a record that
    names the source. It stays open after a merge and can be merged again. `store` is a backend or
    an `OTServerStore`, the one of `server`. `max_payload_bytes` splits a large first change.
    """

    def __init__(
        self,
        store: Any,
        server: OTServer,
        *,
        max_payload_bytes: int | None = None,
        content_duplication_guard: ContentDuplicationGuard | None = None,
        max_changes_per_merge: int = 2_000,
        max_bytes_per_merge_window: int = 4 * 1024 * 1024,
        new_branch_id: Callable[[], str] | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        runtime = runtime or Runtime()
        self._store = getattr(store, "ot", store)
        self._server = server
        self._max_payload_bytes = max_payload_bytes
        self._guard = content_duplication_guard or ContentDuplicationGuard(action="off")
        self._window = MergeWindow(
            max_changes=max_changes_per_merge, max_bytes=max_bytes_per_merge_window
        )
        self._new_branch_id = new_branch_id or (lambda: random_id(runtime.random, _ID_LENGTH))
        self._new_change_id = change_ids(runtime.random)

    async def get_source_doc_id(self, branch_id: str) -> str:
        """The document that a branch was made from; rights on a branch are rights on it.

        Raises `NotFoundError` for an unknown or deleted branch.
        """
        record = await self._store.branches.load_branch(branch_id)
        if record is None or record.deleted:
            raise NotFoundError(f"Branch {branch_id} not found")
        source: str = record.doc_id
        return source

    async def list_branches(self, doc_id: str, *, since: float | None = None) -> list[Branch]:
        """The branches of a document; with `since`, those modified after it, deleted ones too."""
        found = await self._store.branches.list_branches(
            doc_id, since=None if since is None else int(since)
        )
        return [replace(branch, merge_frame=None) for branch in found]

    async def create_branch(
        self, doc_id: str, rev: int, metadata: Mapping[str, Json] | None = None
    ) -> str:
        """Make a branch of a document at a revision; its id.

        `metadata` may hold the `id` of the branch: made again for the same document, nothing
        happens. With `contentStartRev` the client commits the first change itself. Raises
        `BranchError` for an id of another document's branch and for a branch of a branch.
        """
        given = dict(metadata or {})
        branch_id = given.pop("id", None) or self._new_branch_id()
        existing = await self._store.branches.load_branch(branch_id)
        if existing is not None:
            if existing.doc_id == doc_id:
                return branch_id
            raise BranchError(f"Branch {branch_id} already exists for a different document")
        if await self._store.branches.load_branch(doc_id) is not None:
            raise BranchError("Cannot create a branch from another branch.")
        now = await self._server.clock.now()
        content_start_rev = given.pop("contentStartRev", None)
        if not content_start_rev:
            content_start_rev = await self._seed(doc_id, rev, branch_id, now, given.get("name"))
        await self._store.branches.create_branch(
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
        """Merge keys into a branch's metadata. Raises `BranchError` naming a key that is fixed."""
        check_branch_metadata(metadata)
        now = await self._server.clock.now()
        await self._store.branches.update_branch(
            branch_id, {"metadata": own_fields(metadata), "modified_at": now}
        )

    async def delete_branch(self, branch_id: str) -> None:
        """Close a branch. Its record stays as a mark for clients; its document is not deleted."""
        await self._store.branches.delete_branch(
            branch_id, modified_at=await self._server.clock.now()
        )

    async def merge_branch(
        self, branch_id: str, *, content_duplication_guard: GuardAction | None = None
    ) -> list[Change]:
        """Commit what is new on a branch to its source.

        Returns the source's changes that were committed or met on the way, ascending; nothing if
        there was nothing to merge. Everybody is told of them, the caller too. Raises `BranchError`,
        `MergeContentDuplicationError`, `MergePartialProgressError` (merging again goes on), or
        whatever the commit was refused with.
        """
        record = await load_live(self._store.branches, branch_id)
        action = content_duplication_guard or self._guard.action
        if action != "off":
            await self._check_duplication(record, action)
        return await Merge(self._server, branch_id, self._window).run()

    async def _seed(self, doc_id: str, rev: int, branch_id: str, now: Millis, name: Json) -> int:
        """Commit the source's state as the branch's first change; the revision after it."""
        state, _ = await self._server.history.state_at(doc_id, rev)
        ops = [{"op": "replace", "path": "", "value": state}]
        seed = [
            Change(
                id=self._new_change_id(1),
                ops=ops,
                base_rev=0,
                rev=1,
                created_at=now,
                committed_at=now,
            )
        ]
        seed, bounds = await self._server.runtime.run_blocking(lambda: self._measured(seed))
        await self._store.save_changes(branch_id, seed, expected=NO_DOC, now=now, bounds=bounds)
        await self._server.history.create_version(
            branch_id,
            seed,
            now=now,
            group_id=branch_id,
            metadata={"name": name} if name else None,
        )
        return seed[-1].rev + 1

    def _measured(self, seed: list[Change]) -> tuple[list[Change], Bounds]:
        if self._max_payload_bytes:
            seed = break_changes(seed, self._max_payload_bytes, new_id=self._new_change_id)
        return seed, grown(NO_DOC.bounds, seed, self._server.limits)

    async def _check_duplication(self, record: Branch, action: GuardAction) -> None:
        base = record.merge_base_rev
        frame = MergeFrame.of(record, record.branched_at_rev if base is None else base)
        merged = await self._store.list_changes(record.doc_id, start_after=frame.source_rev)
        merged_ids = {change.id for change in merged}
        unmerged = await self._store.list_changes(record.id, start_after=frame.branch_rev)
        state, _ = await self._server.history.state_at(record.doc_id)
        changes = [change for change in unmerged if change.id not in merged_ids]
        found = await self._server.runtime.run_blocking(
            lambda: find_duplication(state, changes, self._guard.min_length)
        )
        if found is None:
            return
        error = MergeContentDuplicationError(
            record.doc_id, path=found.path, duplicated_chars=found.chars
        )
        if action == "refuse":
            raise error
        _log.warning("%s (the guard only warns)", error)

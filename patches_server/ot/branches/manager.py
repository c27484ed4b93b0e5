"""`OTBranchManager`: copies of a document with a history of their own.

The rules: `docs/internals/ot.md` 17.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from patches.algorithms.ot import break_changes
from patches.errors import BranchError, MergeContentDuplicationError, RevConflictError
from patches.model.change import Change
from patches.model.ids import change_ids, random_id
from patches.model.json_values import Json, json_equal
from patches.model.settings import check_function, check_integer, instance_or
from patches.runtime import Millis, Runtime
from patches_server.documents.backend import store_in
from patches_server.documents.branches import BRANCH_ID_LENGTH, BranchManager, load_live
from patches_server.documents.measure import Bounds
from patches_server.documents.records import Branch
from patches_server.ot.bounds import grown
from patches_server.ot.branches.duplication_guard import find_duplication
from patches_server.ot.branches.merge import Merge, MergeWindow
from patches_server.ot.branches.merge_frame import MergeFrame
from patches_server.ot.server import OTServer
from patches_server.ot.store import NO_DOC, OTServerStore
from patches_server.ot.stores.factory import OT_STORES

_log = logging.getLogger("patches_server.ot")

GuardAction: TypeAlias = Literal["refuse", "warn", "off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentDuplicationGuard:
    """What to do about a merge that would double a text of `min_length` or more characters."""

    action: GuardAction
    min_length: int = 64


class OTBranchManager(BranchManager):
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
        if max_payload_bytes is not None:
            check_integer("max_payload_bytes", max_payload_bytes)
        check_integer("max_changes_per_merge", max_changes_per_merge)
        check_integer("max_bytes_per_merge_window", max_bytes_per_merge_window)
        check_function("new_branch_id", new_branch_id)
        runtime = instance_or(Runtime, "runtime", runtime, Runtime)
        self._store: OTServerStore = store_in(store, OT_STORES)
        super().__init__(
            self._store.branches,
            server.clock,
            new_branch_id or (lambda: random_id(runtime.random, BRANCH_ID_LENGTH)),
        )
        self._server = server
        self._max_payload_bytes = max_payload_bytes
        self._guard = content_duplication_guard or ContentDuplicationGuard(action="off")
        self._window = MergeWindow(
            max_changes=max_changes_per_merge, max_bytes=max_bytes_per_merge_window
        )
        self._new_change_id = change_ids(runtime.random)

    async def merge_branch(
        self, branch_id: str, *, content_duplication_guard: GuardAction | None = None
    ) -> list[Change]:
        """Commit what is new on a branch to its source.

        Returns the source's changes that were committed or met on the way, ascending; nothing if
        there was nothing to merge. All subscribers are notified, the caller too. Raises
        `BranchError`, `MergeContentDuplicationError`, `MergePartialProgressError` (merging again
        goes on), or why the commit was refused.
        """
        record = await load_live(self._branches, branch_id)
        action = content_duplication_guard or self._guard.action
        if action != "off":
            await self._check_duplication(record, action)
        return await self._merge(record)

    async def _merge(self, branch: Branch) -> list[Change]:
        return await Merge(self._server, branch.id, self._window).run()

    async def _seed(self, doc_id: str, rev: int, branch_id: str, *, now: Millis, name: Json) -> int:
        """Commit the source's state as the branch's first change; the revision after it."""
        state, _ = await self._server.history.state_at(doc_id, rev)
        await self._server.review_first(branch_id, state)
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
        try:
            await self._store.save_changes(branch_id, seed, expected=NO_DOC, now=now, bounds=bounds)
        except RevConflictError as exc:
            found = await self._store.list_changes(branch_id, limit=len(seed) + 1)
            if not _is_that_seed(found, seed):
                raise BranchError(f"Document {branch_id} already exists") from exc
            seed = found  # of a call that was cut before its record was written
        if await self._server.history.newest_version(branch_id) is None:
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


def _is_that_seed(found: Sequence[Change], seed: Sequence[Change]) -> bool:
    """Whether a branch's log is what the same call has written before. A client's commit is not:
    it carries who sent it."""
    return len(found) == len(seed) and all(
        there.client_id is None
        and there.created_at == there.committed_at
        and json_equal(list(there.ops), list(made.ops))
        for there, made in zip(found, seed, strict=True)
    )

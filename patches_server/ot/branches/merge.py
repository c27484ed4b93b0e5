"""One merge of a branch into its source, window by window (`docs/internals/ot.md` 17.2-17.6).

Each window reads the source from where the frame stands, lifts a bounded slice of the branch over
what it found there, commits it, and writes down how far it has come. Only the commits matter: the
watermark and the frame are a shortcut that a later merge takes instead of reading the source's log
again, so losing them loses nothing, and two merges of one branch at a time do no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from patches.errors import (
    BranchError,
    MergeFrameAlignmentError,
    MergePartialProgressError,
    StatusError,
)
from patches.model.change import Change
from patches_server.documents.branches import advance_watermark, load_live
from patches_server.documents.context import CallContext, current_context
from patches_server.documents.records import Branch, ListVersionsOptions, Version
from patches_server.ot.branches.merge_frame import (
    MergeFrame,
    after_commit,
    follow,
    lift,
)
from patches_server.ot.server import OTServer

T = TypeVar("T")

_log = logging.getLogger("patches_server.ot")

_MAX_WINDOWS: Final = 500
_PAGE: Final = 500
_STEPS_PER_ROW: Final = 40  # it is decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeWindow:
    """How much of a branch is lifted and committed at a time."""

    max_changes: int = 2_000
    max_bytes: int = 4 * 1024 * 1024


class Merge:
    """One run of merging a branch. `seen` are the source rows that it has met or committed."""

    def __init__(self, server: OTServer, branch_id: str, window: MergeWindow) -> None:
        self._server = server
        self._store = server.store
        self._branch_id = branch_id
        self._window = window
        #: All subscribers are notified, the caller too. The rules for the caller's commits apply.
        self._caller = CallContext(
            principal=current_context().principal, review=current_context().review
        )
        self._seen: dict[str, Change] = {}
        self._has_merged = False
        self._through_rev = 0

    async def run(self) -> list[Change]:
        """Merge until nothing is left; the source rows met, ascending, `[]` if nothing was."""
        try:
            await self._run()
        except Exception as exc:
            if not self._seen:
                raise
            raise MergePartialProgressError(
                self._branch_id,
                committed_changes=self._rows(),
                merged_through_rev=self._through_rev,
                cause=exc,
            ) from exc
        return self._rows() if self._has_merged else []

    async def _run(self) -> None:
        carried: MergeFrame | None = None
        for _ in range(_MAX_WINDOWS):
            record = await load_live(self._store.branches, self._branch_id)
            if carried is None or record.last_merged_rev != carried.branch_rev:
                base = await self._merge_base(record)
                carried = MergeFrame.of(record, base)
                self._through_rev = max(self._through_rev, carried.branch_rev)
            frame = await self._caught_up(record, carried)
            changes = await self._store.list_changes(
                self._branch_id,
                start_after=frame.branch_rev,
                limit=self._window.max_changes,
                max_bytes=self._window.max_bytes,
            )
            if not changes:
                await self._keep(record, frame)
                return
            if changes[0].rev != frame.branch_rev + 1:
                raise BranchError(
                    f"Branch {record.id} can not be merged: its log no longer has revision "
                    f"{frame.branch_rev + 1}"
                )
            carried = await self._commit(record, frame, changes)
            if carried is not None:
                await self._keep(record, carried)
        raise BranchError(f"branch {self._branch_id} was not merged in {_MAX_WINDOWS} windows")

    async def _commit(
        self, record: Branch, frame: MergeFrame, changes: Sequence[Change]
    ) -> MergeFrame | None:
        """Commit one slice; the frame after it, `None` if it has to be found in the source."""
        steps = len(changes) * (len(frame.programs) + 4)
        lifted, after = await self._apart(steps, lambda: self._lifted(frame, changes))
        await self._copy_versions(record, frame, changes, lifted)
        rows: list[Change] = []
        if lifted:
            try:
                result = await self._server.commit_as(self._caller, record.doc_id, lifted)
            except Exception as exc:
                raise _failed(exc) from exc
            rows = sorted(result.changes, key=_rev)
        self._see(rows)
        self._has_merged = True
        self._through_rev = changes[-1].rev
        steps = len(rows) * (len(frame.programs) + 4)
        return await self._apart(
            steps, lambda: after_commit(frame, after, rows, self._branch_id, changes)
        )

    async def _caught_up(self, record: Branch, frame: MergeFrame) -> MergeFrame:
        """The frame after all rows that the source has."""
        while True:
            rows = await self._store.list_changes(
                record.doc_id, start_after=frame.source_rev, limit=_PAGE
            )
            if not rows:
                return frame
            own_ids = [row.id for row in rows if row.batch_id == self._branch_id]
            passed = await self._branch_changes(frame, own_ids) if own_ids else []
            before = frame
            frame = await self._apart(
                len(passed) * (len(frame.programs) + len(rows)) + _STEPS_PER_ROW * len(rows),
                partial(follow, before, rows, self._branch_id, passed),
            )
            self._see(rows)
            if (
                frame.branch_rev > before.branch_rev
            ):  # an earlier merge committed this and did not note it
                self._has_merged = True
                self._through_rev = frame.branch_rev

    async def _branch_changes(self, frame: MergeFrame, ids: Sequence[str]) -> list[Change]:
        """The branch's changes from the frame to the last of those with these ids."""
        wanted = set(ids)
        found: list[Change] = []
        end = 0
        after_rev = frame.branch_rev
        while wanted:
            page = await self._store.list_changes(
                self._branch_id, start_after=after_rev, limit=_PAGE
            )
            if not page:
                break  # the rest are no changes of this branch, whatever their batch says
            if page[0].rev > after_rev + 1:
                raise MergeFrameAlignmentError(
                    self._branch_id,
                    log_rev=page[0].rev,
                    frame_rev=after_rev,
                    missing_ids=ids,
                )
            for change in page:
                found.append(change)
                if change.id in wanted:
                    wanted.discard(change.id)
                    end = len(found)
            after_rev = page[-1].rev
        return found[:end]

    async def _merge_base(self, record: Branch) -> int:
        """The source revision that the branch was made from, pinned if it was beyond the log."""
        if record.merge_base_rev is not None:
            return record.merge_base_rev
        head = await self._store.get_head(record.doc_id)
        if record.branched_at_rev <= head.rev:
            return record.branched_at_rev
        _log.warning(
            "branch %.128r was made from revision %d, but its source ends at %d; merging onto that",
            record.id,
            record.branched_at_rev,
            head.rev,
        )
        pinned = await self._store.branches.update_branch_if(
            record.id, {"merge_base_rev": head.rev}, {"merge_base_rev": None}
        )
        if pinned:
            return head.rev
        fresh = await load_live(self._store.branches, record.id)
        return fresh.merge_base_rev if fresh.merge_base_rev is not None else head.rev

    async def _keep(self, record: Branch, frame: MergeFrame) -> None:
        """Write down how far the branch is merged, unless somebody has come further."""
        await advance_watermark(
            self._store.branches,
            self._server.clock,
            record,
            frame.branch_rev,
            {"merge_frame": frame.to_record()},
        )

    async def _copy_versions(
        self,
        record: Branch,
        frame: MergeFrame,
        changes: Sequence[Change],
        lifted: Sequence[Change],
    ) -> None:
        """The branch's versions that end in this slice become versions of the source, under the
        same ids (`docs/internals/ot.md` 17.4)."""
        versions = self._store.versions
        found = await versions.list_versions(
            self._branch_id,
            ListVersionsOptions(
                origin="main", start_after=frame.branch_rev, end_before=changes[-1].rev + 1
            ),
        )
        new = [v for v in found if await versions.load_version(record.doc_id, v.id) is None]
        if not new:
            return
        parent_id = await self._parent_of_copies(record, _mapped(new[0].start_rev, frame, changes))
        copies: list[tuple[Version, list[Change]]] = []
        branch_revs = {change.id: change.rev for change in changes}
        for version in new:
            copy = replace(
                version,
                origin="branch",
                group_id=self._branch_id,
                parent_id=parent_id,
                start_rev=_mapped(version.start_rev, frame, changes),
                end_rev=_mapped(version.end_rev, frame, changes),
            )
            reached = [c for c in lifted if branch_revs[c.id] <= version.end_rev]
            copies.append((copy, reached))
            parent_id = copy.id
        await self._server.history.save_copies(record.doc_id, frame.source_rev, copies)

    async def _parent_of_copies(self, record: Branch, start_rev: int) -> str | None:
        copied = await self._store.versions.list_versions(
            record.doc_id,
            ListVersionsOptions(origin="branch", group_id=self._branch_id, reverse=True, limit=1),
        )
        if copied:
            return copied[0].id
        main = await self._server.history.newest_main(record.doc_id, through_rev=start_rev - 1)
        return main.id if main else None

    async def _apart(self, steps: int, work: Callable[[], T]) -> T:
        return await self._server.offload(steps, work)

    def _lifted(
        self, frame: MergeFrame, changes: Sequence[Change]
    ) -> tuple[list[Change], MergeFrame]:
        lifted, after = lift(frame, changes)
        ready = [
            change.replace(base_rev=frame.source_rev, batch_id=self._branch_id, committed_at=0)
            for change in lifted
        ]
        return ready, after

    def _see(self, rows: Iterable[Change]) -> None:
        for row in rows:
            self._seen.setdefault(row.id, row)

    def _rows(self) -> list[Change]:
        return sorted(self._seen.values(), key=_rev)


def _mapped(rev: int, frame: MergeFrame, changes: Sequence[Change]) -> int:
    """Where a branch revision comes to stand in the source, if every change is kept."""
    return frame.source_rev + max(0, min(rev, changes[-1].rev) - frame.branch_rev)


def _failed(exc: Exception) -> Exception:
    message = f"Merge failed: {exc}"
    if isinstance(exc, StatusError):
        return StatusError(exc.code, message, exc.data)
    return BranchError(message)


def _rev(change: Change) -> int:
    return change.rev

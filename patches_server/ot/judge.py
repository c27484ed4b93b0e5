"""What a commit asks of a document's states: whether it is allowed, and the versions it makes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from patches.errors import PatchError
from patches.json_patch import apply_patch
from patches.limits import Limits
from patches.model.change import Change
from patches.model.json_values import Json
from patches_server.documents.context import Review
from patches_server.documents.measure import Bounds
from patches_server.documents.offload import BYTES_PER_STEP, Offloader
from patches_server.ot.bounds import measured_after, refusal
from patches_server.ot.history import OTHistory
from patches_server.ot.proposal import Rules
from patches_server.ot.store import DocHead
from patches_server.ot.submission import Submission, session_gap

_log = logging.getLogger("patches_server.ot")


class Judge:
    """Builds the states that a change is judged by, where its operations do not say enough."""

    def __init__(self, history: OTHistory, limits: Limits, offload: Offloader) -> None:
        self._history = history
        self._limits = limits
        self._offload = offload

    async def review(
        self, review: Review, doc_id: str, changes: Sequence[Change], head: DocHead
    ) -> None:
        """Let the caller's reviewer judge each change by the states before and after it."""
        state: Json = None
        if head.rev:
            state, _ = await self._history.state_at(doc_id, head.rev, on_skipped=lambda *_: None)
        for change in changes:
            before, ops = state, change.ops
            with suppress(PatchError):  # every replica skips such a change
                state = await self._offload(
                    head.bounds.size // BYTES_PER_STEP,
                    partial(apply_patch, before, ops, strict=True),
                )
            await review(change, before, state)

    async def measure(self, doc_id: str, changes: Sequence[Change], head_size: int) -> Bounds:
        """The true bounds. Raises `ChangeRefusedError` for the change that passes a limit."""
        state, _ = await self._history.state_at(doc_id)
        limits = self._limits
        measured = await self._offload(
            head_size // BYTES_PER_STEP, lambda: measured_after(state, changes, limits)
        )
        if measured.beyond is not None:
            raise refusal(doc_id, measured, measured.beyond, limits)
        return measured.after


class CommitVersions:
    """The versions that are made before a commit, and those of what one commit brings."""

    def __init__(self, history: OTHistory, rules: Rules) -> None:
        self._history = history
        self._rules = rules

    async def make_due(self, head: DocHead, submission: Submission) -> None:
        """Versions of what was committed before this submission (`docs/internals/ot.md` 14.7)."""
        doc_id, step, now = submission.doc_id, self._rules.version_step, submission.now
        newest = await self._history.newest_version(doc_id)
        if step <= 0:
            await self._history.create_version_at(doc_id, head.rev, now=now, after=newest)
            return
        least = 1 if session_gap(head.created_at, submission, self._rules.session_timeout) else step
        while head.rev - (newest.end_rev if newest else 0) >= least:
            newest = await self._history.create_version_at(
                doc_id, head.rev, now=now, after=newest, limit=step
            )
            if newest is None:
                break

    async def make_of_session(
        self, submission: Submission, changes: Sequence[Change], origin: str
    ) -> None:
        try:
            await self._history.create_session_versions(
                submission.doc_id,
                changes,
                origin=origin,
                pause=self._rules.session_timeout,
                now=submission.now,
            )
        except Exception:  # boundary: the commit is stored, and does not fail for this
            _log.exception("document %.128r: no version was made of a session", submission.doc_id)

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
from patches_server.documents.context import Reviewer
from patches_server.documents.kept_bytes import RULE_CACHE_BYTES, KeptBytes
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
        #: The states after the newest changes, for the next commit that has to be judged.
        self._states = KeptBytes[tuple[int, str | None, Json]](RULE_CACHE_BYTES)

    async def state_of(self, doc_id: str, head: DocHead) -> Json:
        """The state at the head; shared, not to be changed."""
        if not head.rev:
            return None
        kept = self._states.get(doc_id)
        if kept is not None and kept[:2] == (head.rev, head.change_id):
            return kept[2]
        state, _ = await self._history.state_at(doc_id, head.rev, on_skipped=lambda *_: None)
        self.keep(doc_id, state, head.rev, head.change_id, head.bounds.size)
        return state

    def keep(self, doc_id: str, state: Json, rev: int, change_id: str | None, size: int) -> None:
        """Keep the state, of so many bytes, after a change."""
        self._states.put(doc_id, (rev, change_id, state), size)

    def forget(self, doc_id: str) -> None:
        """Keep nothing of a document."""
        self._states.forget(doc_id)

    async def review(
        self, review: Reviewer, doc_id: str, changes: Sequence[Change], head: DocHead
    ) -> Json:
        """Let the reviewer judge each change by the states before and after it; the last one."""
        state = await self.state_of(doc_id, head)
        for change in changes:
            before, ops = state, change.ops
            with suppress(PatchError):  # every replica skips such a change
                state = await self._offload(
                    head.bounds.size // BYTES_PER_STEP,
                    partial(apply_patch, before, ops, strict=True),
                )
            await review(change, before, state)
        return state

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

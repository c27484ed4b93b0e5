"""`Committer`: carries a commit out, from the log that it rests on to the rows in the store.

Every commit is read, decide, then one store transaction that checks what the decision rested on.
The first try reads nothing where the end of the log is at hand; if that does not end in a save, the
store is read, and the decision made again, at most five times.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from patches.errors import (
    ChangeRefusedError,
    DuplicateChangeIdsError,
    PatchError,
    RevConflictError,
    StaleSubmissionError,
    StatusError,
)
from patches.json_patch import apply_patch
from patches.limits import Limits
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Json
from patches.runtime import Millis
from patches_server.documents.context import CallContext, Review
from patches_server.documents.history import (
    KnownHistory,
    known_history,
    require_same_change,
    require_same_history,
)
from patches_server.documents.measure import Bounds
from patches_server.documents.offload import BYTES_PER_STEP, Aside, steps_of_encoded
from patches_server.documents.records import CommitOptions
from patches_server.ot.bounds import Measured, exceeded, grown, measured_after
from patches_server.ot.commit import (
    Decision,
    Submission,
    admit,
    crosses_count,
    decide,
    needs_first_change,
    session_gap,
)
from patches_server.ot.history import OTHistory
from patches_server.ot.recent import RecentLog, RecentLogs
from patches_server.ot.store import DocHead, OTServerStore

AnyChange: TypeAlias = Change | ChangeInput
#: What was submitted and decided, and the token of the history, for a caller that asked for it.
Done: TypeAlias = tuple[Submission, Decision, str | None]

_MAX_ATTEMPTS: Final = 5

_log = logging.getLogger("patches_server.ot")


@dataclass(frozen=True, slots=True)
class CommitCall:
    """What a caller asks to commit, and when. `steps`: about how much there is to look at."""

    caller: CallContext
    doc_id: str
    changes: Sequence[AnyChange]
    options: CommitOptions | None
    now: Millis
    steps: int


class _AbandonedError(Exception):
    """Nobody waits for a decision any more."""


class Committer:
    """Commits to the documents of a store, one commit of a document at a time.

    `on_cut(call, changes, head)` is told when the caller is cancelled while `changes` are being
    stored after `head`: they may be stored or not.
    """

    def __init__(
        self,
        store: OTServerStore,
        history: OTHistory,
        *,
        session_timeout: Millis,
        version_step: int,
        limits: Limits,
        aside: Aside,
        on_cut: Callable[[CommitCall, Sequence[Change], DocHead], None],
    ) -> None:
        self._store = store
        self._history = history
        self._session_timeout = session_timeout
        self._version_step = version_step
        self._limits = limits
        self._aside = aside
        self._on_cut = on_cut
        self._recent = RecentLogs()

    async def commit(self, call: CommitCall) -> Done:
        """What was submitted and decided, once it is stored. Raises what the refusals are."""
        known = known_history(call.caller.options)
        submission, decision, token = await self._on_recent(call, known) or await self._on_store(
            call, known
        )
        if known is None:
            token = None
        elif token is None and decision.to_store:  # the document was made by this
            token = (await self._store.get_head(call.doc_id)).token
        return submission, decision, token

    async def require_history(
        self,
        doc_id: str,
        known: KnownHistory,
        head: DocHead,
        rev: int,
        recent: RecentLog | None = None,
    ) -> None:
        """Raise `OtherHistoryError` for a copy at `rev` that is not of the history of `head`."""
        require_same_history(doc_id, known, token=head.token, head_rev=head.rev, rev=rev)
        last_rev = known.last_rev
        if known.last_id is None or (last_rev, known.last_id) == (head.rev, head.change_id):
            return
        change_id = recent.id_at(last_rev) if recent is not None else None
        if change_id is None:
            found = await self._store.list_changes(
                doc_id, start_after=last_rev - 1, end_before=last_rev + 1
            )
            change_id = found[0].id if found else None
        require_same_change(doc_id, known, change_id)

    def forget(self, doc_id: str) -> None:
        """The document was written by somebody else: keep nothing of it."""
        self._recent.forget(doc_id)

    async def _on_recent(self, call: CommitCall, known: KnownHistory | None) -> Done | None:
        """Commit on the end of the log that is at hand; `None` when it takes more than that."""
        log = self._recent.get(call.doc_id)
        if log is None or await self._needs_first_change(call, log.head):
            return None
        try:
            if known is not None:
                await self.require_history(
                    call.doc_id, known, log.head, _base_of(call.changes), log
                )
            submission = await self._admitted(call, log.head, None)
            committed = log.since(submission.base_rev)
            if committed is None or self._version_is_due(log.head, submission):
                return None
            decision = await self._decided(call, submission, committed, log.head.rev, ())
            if not decision.to_store:
                return None
            await self._save(call, submission, decision, log.head)
        except (StatusError, RevConflictError, DuplicateChangeIdsError):
            self._recent.forget(call.doc_id)  # may be out of date: only the store can refuse
            return None
        return submission, decision, log.head.token

    async def _on_store(self, call: CommitCall, known: KnownHistory | None) -> Done:
        doc_id = call.doc_id
        head = await self._store.get_head(doc_id)
        if known is not None:
            await self.require_history(doc_id, known, head, _base_of(call.changes))
        first_change = None
        if await self._needs_first_change(call, head):
            oldest = await self._store.list_changes(doc_id, limit=1)
            first_change = oldest[0] if oldest else None
        submission = await self._admitted(call, head, first_change)
        if self._version_is_due(head, submission):
            await self._make_versions(head, submission)
        stored_ids: set[str] = set()
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            committed: Sequence[Change] = ()
            if submission.base_rev < head.rev:
                committed = await self._store.list_changes(
                    doc_id, start_after=submission.base_rev, end_before=head.rev + 1
                )
                _refuse_pruned(submission, committed)
            decision = await self._decided(call, submission, committed, head.rev, stored_ids)
            if not decision.to_store:
                break
            try:
                await self._save(call, submission, decision, head)
                break
            except RevConflictError:
                if attempt == _MAX_ATTEMPTS:
                    raise
            except DuplicateChangeIdsError as exc:
                if attempt == _MAX_ATTEMPTS or stored_ids.issuperset(exc.change_ids):
                    raise
                stored_ids.update(exc.change_ids)
            head = await self._store.get_head(doc_id)
            if known is not None:
                await self.require_history(doc_id, known, head, _base_of(call.changes))
            if head.rev < submission.initial_rev:
                raise StaleSubmissionError(
                    f"Document {doc_id} was deleted and made again. Reload the document."
                )
        return submission, decision, head.token

    async def _needs_first_change(self, call: CommitCall, head: DocHead) -> bool:
        return await self._aside(
            call.steps,
            lambda: needs_first_change(call.changes, call.options, head.rev),
        )

    async def _admitted(
        self, call: CommitCall, head: DocHead, first_change: Change | None
    ) -> Submission:
        return await self._aside(
            call.steps,
            lambda: admit(
                call.doc_id,
                call.changes,
                call.options,
                initial_rev=head.rev,
                first_change=first_change,
                client_id=call.caller.client_id,
                now=call.now,
            ),
        )

    async def _decided(
        self,
        call: CommitCall,
        submission: Submission,
        committed: Sequence[Change],
        current_rev: int,
        stored_ids: Collection[str],
    ) -> Decision:
        abandoned = threading.Event()

        def checkpoint() -> None:
            if abandoned.is_set():
                raise _AbandonedError

        try:
            # An operation, of about four values, is transformed over one in a step or so; but one
            # may be the edit of a whole text.
            return await self._aside(
                call.steps // 4 * (len(committed) + 4) + steps_of_encoded(committed),
                lambda: decide(
                    submission,
                    committed,
                    current_rev,
                    stored_ids=stored_ids,
                    session_timeout=self._session_timeout,
                    max_steps=self._limits.max_transform_steps,
                    checkpoint=checkpoint,
                ),
            )
        except asyncio.CancelledError:
            abandoned.set()  # a thread cannot be cancelled, and the process waits for it at its end
            raise

    async def _save(
        self, call: CommitCall, submission: Submission, decision: Decision, head: DocHead
    ) -> None:
        """Store what was decided on `head`, then the versions of a session that has ended."""
        doc_id, changes = call.doc_id, decision.to_store
        bounds = await self._aside(  # this is where the changes are encoded
            call.steps,
            lambda: grown(head.bounds, changes, self._limits),
        )
        if exceeded(bounds, self._limits):
            bounds = await self._measured(doc_id, changes, head.bounds.size)
        if call.caller.review is not None:
            await self._reviewed(call.caller.review, doc_id, changes, head)
        try:
            await self._store.save_changes(
                doc_id, changes, expected=head, now=call.now, bounds=bounds
            )
        except asyncio.CancelledError:
            self._on_cut(call, changes, head)
            raise
        self._recent.saved(doc_id, changes, bounds, expected=head)
        if decision.session_origin is not None:
            await self._make_session_versions(submission, changes, decision.session_origin)

    async def _reviewed(
        self, review: Review, doc_id: str, changes: Sequence[Change], head: DocHead
    ) -> None:
        """Let the caller's reviewer judge each change by the states before and after it."""
        state: Json = None
        if head.rev:
            state, _ = await self._history.state_at(doc_id, head.rev, on_skipped=lambda *_: None)
        for change in changes:
            before, ops = state, change.ops
            with suppress(PatchError):  # every replica skips such a change
                state = await self._aside(
                    head.bounds.size // BYTES_PER_STEP,
                    partial(apply_patch, before, ops, strict=True),
                )
            await review(change, before, state)

    async def _measured(self, doc_id: str, changes: Sequence[Change], head_size: int) -> Bounds:
        """The true bounds. Raises `ChangeRefusedError` for the change that passes a limit."""
        state, _ = await self._history.state_at(doc_id)
        limits = self._limits
        measured = await self._aside(
            head_size // BYTES_PER_STEP, lambda: measured_after(state, changes, limits)
        )
        if measured.beyond is not None:
            raise _too_large(doc_id, measured, measured.beyond, limits)
        return measured.after

    def _version_is_due(self, head: DocHead, submission: Submission) -> bool:
        return head.rev > 0 and (
            session_gap(head.created_at, submission, self._session_timeout)
            or crosses_count(submission, self._version_step)
        )

    async def _make_versions(self, head: DocHead, submission: Submission) -> None:
        """Versions of what was committed before this submission (`docs/internals/ot.md` 14.7)."""
        doc_id, step, now = submission.doc_id, self._version_step, submission.now
        newest = await self._history.newest_version(doc_id)
        if step <= 0:
            await self._history.create_version_at(doc_id, head.rev, now=now, after=newest)
            return
        least = 1 if session_gap(head.created_at, submission, self._session_timeout) else step
        while head.rev - (newest.end_rev if newest else 0) >= least:
            newest = await self._history.create_version_at(
                doc_id, head.rev, now=now, after=newest, limit=step
            )
            if newest is None:
                break

    async def _make_session_versions(
        self, submission: Submission, changes: Sequence[Change], origin: str
    ) -> None:
        try:
            await self._history.create_session_versions(
                submission.doc_id,
                changes,
                origin=origin,
                pause=self._session_timeout,
                now=submission.now,
            )
        except Exception:  # boundary: the commit is stored, and does not fail for this
            _log.exception("document %.128r: no version was made of a session", submission.doc_id)


def _too_large(
    doc_id: str, measured: Measured, change_id: str, limits: Limits
) -> ChangeRefusedError:
    # Named and final: the author's client sets that change aside, and what comes after it, which
    # may be what makes the document smaller, gets through.
    before, after = measured.before, measured.after
    if limits.max_doc_bytes is not None and after.size > max(limits.max_doc_bytes, before.size):
        return ChangeRefusedError(
            change_id,
            f"Document {doc_id} would have {after.size} bytes, at most "
            f"{limits.max_doc_bytes} are allowed",
            code=413,
            limit="max_doc_bytes",
            final=True,
        )
    return ChangeRefusedError(
        change_id,
        f"Document {doc_id} would be nested {after.depth} levels deep, at most "
        f"{limits.max_doc_depth} are allowed",
        limit="max_doc_depth",
        final=True,
    )


def _base_of(changes: Sequence[AnyChange]) -> int:
    """The revision that a submission stands on, 0 if it does not say."""
    return changes[0].base_rev or 0


def _refuse_pruned(submission: Submission, committed: Sequence[Change]) -> None:
    """Without every change since the base there is nothing to transform over."""
    if not committed or committed[0].rev != submission.base_rev + 1:
        raise StaleSubmissionError(
            f"Document {submission.doc_id} no longer has the changes after revision "
            f"{submission.base_rev}. Reload the document and send yours on the current revision."
        )

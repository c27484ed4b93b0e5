"""`Committer`: carries a commit out, from the log that it rests on to the rows in the store.

Every commit is read, decide, then one store transaction that checks what the decision rested on.
The first try reads nothing where the end of the log is at hand; if that does not end in a save, the
store is read, and the decision made again, at most five times.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar, cast

from patches.errors import (
    ChangeRefusedError,
    DuplicateChangeIdsError,
    PatchesError,
    RevConflictError,
    StaleSubmissionError,
    StatusError,
)
from patches.model.change import Change
from patches.model.json_values import Json
from patches_server.documents.backend import exclusively
from patches_server.documents.history import (
    KnownHistory,
    known_history,
    require_same_change,
    require_same_history,
)
from patches_server.documents.offload import Offloader, steps_of
from patches_server.ot.bounds import exceeded
from patches_server.ot.history import OTHistory
from patches_server.ot.judge import CommitVersions, Judge
from patches_server.ot.proposal import (
    CommitCall,
    Proposal,
    Rules,
    check_changes,
    decided,
    propose,
    reaches,
    steps_to_decide,
    steps_to_propose,
    version_is_due,
)
from patches_server.ot.recent import RecentLog, RecentLogs, shows_history
from patches_server.ot.saves import Done, SavesUnderWay, Saving
from patches_server.ot.store import (
    BeginSave,
    DocHead,
    OTServerStore,
    SaveAtOnce,
    SavesAtOnce,
    SavesInOrder,
)
from patches_server.ot.submission import Submission, admit, needs_first_change

T = TypeVar("T")

_MAX_ATTEMPTS: Final = 5

_log = logging.getLogger("patches_server.ot")


class _AbandonedError(Exception):
    """Nobody waits for a decision any more."""


class Committer:
    """Commits to the documents of a store, one commit of a document at a time.

    `on_cut(call, changes, head)` is called when the caller is cancelled while `changes` are being
    stored after `head`: they may be stored or not.
    """

    def __init__(
        self,
        store: OTServerStore,
        history: OTHistory,
        *,
        rules: Rules,
        offload: Offloader,
        on_cut: Callable[[CommitCall, Sequence[Change], DocHead], object],
    ) -> None:
        self._store = store
        self._judge = Judge(history, rules.limits, offload)
        self._versions = CommitVersions(history, rules)
        self._rules = rules
        self._limits = rules.limits
        self._offload = offload
        self._on_cut = on_cut
        self._recent = RecentLogs()
        # The store's own class has to say so: one that wraps it may have more to do for a save.
        saves_at_once = type(store).__dict__.get("saves_at_once") is True
        self._save_at_once: SaveAtOnce | None = None
        if saves_at_once:
            self._save_at_once = cast("SavesAtOnce", store).save_changes_at_once
        self._saves = SavesUnderWay(self._recent.forget)
        self._begin_save: BeginSave | None = None
        if type(store).__dict__.get("saves_in_order") is True:
            self._begin_save = cast("SavesInOrder", store).begin_save

    async def begin(self, call: CommitCall) -> Done | Saving:
        """`commit`; where the store saves in order, it need not be stored yet.

        Then the next commit can be decided, and both go to disk together. `finish` waits.
        """
        begun = await self._begun(call) if self._begin_save is not None else None
        if begun is None:
            return await self.commit(call)
        self._saves.wait_begins(call.doc_id)
        return begun

    async def finish(self, saving: Saving) -> Done | None:
        """What was submitted and decided, once it is stored; `None`: it has to be decided again."""
        call, proposal = saving.call, saving.proposal
        try:
            await asyncio.shield(saving.saved)
        except asyncio.CancelledError:
            self._on_cut(call, proposal.decision.to_store, saving.head)
            raise
        except (RevConflictError, DuplicateChangeIdsError):
            return None
        finally:
            self._saves.wait_ends(call.doc_id)
        return saving.done

    async def _begun(self, call: CommitCall) -> Saving | None:
        """A commit on the end of the log that is at hand; `None` when it takes more than that."""
        log = self._recent.get(call.doc_id)
        if log is None or call.review is not None or not reaches(log, call):
            return None
        head, known = log.head, known_history(call.caller.options)
        try:
            if known is not None:
                await self.require_history(call.doc_id, known, head, call.base_rev, log)
            proposal = await self._in_thread(
                call.steps + steps_to_propose(call, log, call.steps),
                partial(propose, call, log, self._rules),
            )
        except StatusError:
            return None
        if proposal is None or not self._is_ordinary(proposal):
            return None
        assert self._begin_save is not None
        token = None if known is None else head.token
        return self._start(self._begin_save, call, proposal, head, token)

    def _is_ordinary(self, proposal: Proposal) -> bool:
        """Whether there is nothing to do for a commit but to store it."""
        return proposal.decision.session_origin is None and not exceeded(
            proposal.bounds, self._limits
        )

    def _start(
        self,
        begin_save: BeginSave,
        call: CommitCall,
        proposal: Proposal,
        head: DocHead,
        token: str | None,
    ) -> Saving:
        doc_id, changes = call.doc_id, proposal.decision.to_store
        saved = begin_save(doc_id, changes, expected=head, now=call.now, bounds=proposal.bounds)
        # From now on the head is what it will be. Should the save fail, so does every one that was
        # decided on it, and the log at hand is forgotten.
        self._recent.saved(doc_id, changes, proposal.bounds, expected=head)
        self._saves.add(doc_id, saved)
        return Saving(call, proposal, head, saved, token)

    async def commit(self, call: CommitCall) -> Done:
        """What was submitted and decided, once it is stored. Raises what the refusals are."""
        known = known_history(call.caller.options)
        done = await self._on_recent(call, known) or await self._on_store(call, known)
        if known is not None and done.token is None and done.decision.to_store:
            # The document was made by this.
            return replace(done, token=(await self._store.get_head(call.doc_id)).token)
        return done

    def commit_at_once(self, call: CommitCall) -> Done | Saving | None:
        """The same, decided without waiting for anything. `None`: that cannot be done, and nothing
        was.

        What is being saved has to be broadcast by a callback of `Saving.saved`, so that commits
        are broadcast in their order.
        """
        doc_id = call.doc_id
        log = self._recent.get(doc_id)
        save, begin_save = self._save_at_once, self._begin_save
        if log is None or (save is None and begin_save is None):
            return None
        if save is None and self._saves.is_waited_for(doc_id):
            return None
        head = log.head
        known = known_history(call.caller.options) if call.caller.options else None
        token = None if known is None else head.token
        try:
            proposal = self._proposed_at_once(call, log, known)
            if proposal is None:
                return None
            if save is None:
                assert begin_save is not None
                return self._start(begin_save, call, proposal, head, token)
            changes, bounds = proposal.decision.to_store, proposal.bounds
            rows = save(doc_id, changes, expected=head, now=call.now, bounds=bounds)
        except PatchesError:  # the long way refuses it, and says why
            return None
        self._recent.saved(doc_id, changes, bounds, expected=head, rows=rows)
        return Done(proposal.submission, proposal.decision, token)

    def _proposed_at_once(
        self, call: CommitCall, log: RecentLog, known: KnownHistory | None
    ) -> Proposal | None:
        if known is not None and not shows_history(log, call.doc_id, known, call.base_rev):
            return None
        is_behind = (call.changes[0].base_rev or 0) < log.head.rev
        if is_behind and not self._offload.is_small(
            steps_to_propose(call, log, steps_of(call.changes))
        ):
            return None
        proposal = propose(call, log, self._rules)
        return proposal if proposal is not None and self._is_ordinary(proposal) else None

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
        self._judge.forget(doc_id)

    async def current(self, doc_id: str) -> tuple[Json, DocHead]:
        """The state and the head as they are once all commits that were begun are stored."""
        await self._saves.drain(doc_id)
        head = await self._store.get_head(doc_id)
        return await self._judge.state_of(doc_id, head), head

    async def _on_recent(self, call: CommitCall, known: KnownHistory | None) -> Done | None:
        """Commit on the end of the log that is at hand; `None` when it takes more than that."""
        log = self._recent.get(call.doc_id)
        if log is None or not reaches(log, call):
            return None
        head = log.head
        try:
            if known is not None:
                await self.require_history(call.doc_id, known, head, call.base_rev, log)
            proposal = await self._in_thread(
                call.steps + steps_to_propose(call, log, call.steps),
                partial(propose, call, log, self._rules),
            )
            if proposal is None:
                return None
            await self._save(call, proposal, head, self._store)
            await self._make_versions(proposal)
        except ChangeRefusedError:
            return None
        except (StatusError, RevConflictError, DuplicateChangeIdsError):
            self._recent.forget(call.doc_id)  # may be out of date: only the store can refuse
            return None
        token = None if known is None else head.token
        return Done(proposal.submission, proposal.decision, token)

    async def _on_store(self, call: CommitCall, known: KnownHistory | None) -> Done:
        doc_id, limits = call.doc_id, self._limits
        await self._offload(call.steps, lambda: check_changes(call.changes, limits))
        await self._saves.drain(doc_id)  # what is read now must have them
        head = await self._store.get_head(doc_id)
        if known is not None:
            await self.require_history(doc_id, known, head, call.base_rev)
        if call.expected_rev is not None and head.rev != call.expected_rev:
            raise RevConflictError
        submission = await self._admitted(call, head)
        if version_is_due(head, submission, self._rules):
            await self._versions.make_due(head, submission)
        stored_ids: set[str] = set()
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            # A race that was lost once is not lost again, where the store can see to that. What
            # asks an application's rules is not decided while others wait.
            is_alone = attempt > 1 and call.review is None
            try:
                async with (
                    exclusively(self._store, doc_id) if is_alone else nullcontext(self._store)
                ) as store:
                    if attempt > 1:
                        head = await store.get_head(doc_id)
                        if known is not None:
                            await self.require_history(doc_id, known, head, call.base_rev)
                        _refuse_another(submission, head)
                    committed: Sequence[Change] = ()
                    if submission.base_rev < head.rev:
                        committed = await store.list_changes(
                            doc_id, start_after=submission.base_rev, end_before=head.rev + 1
                        )
                        _refuse_pruned(submission, committed)
                    proposal = await self._in_thread(
                        steps_to_decide(call.steps, committed),
                        partial(decided, submission, committed, head, stored_ids, self._rules),
                    )
                    if proposal.decision.to_store:
                        await self._save(call, proposal, head, store)
                break
            except RevConflictError:
                if attempt == _MAX_ATTEMPTS or call.expected_rev is not None:
                    raise
            except DuplicateChangeIdsError as exc:
                if attempt == _MAX_ATTEMPTS or stored_ids.issuperset(exc.change_ids):
                    raise
                stored_ids.update(exc.change_ids)
        await self._make_versions(proposal)
        return Done(submission, proposal.decision, None if known is None else head.token)

    async def _admitted(self, call: CommitCall, head: DocHead) -> Submission:
        changes, options = call.changes, call.options
        first_change = None
        if needs_first_change(changes, options, head.rev):
            oldest = await self._store.list_changes(call.doc_id, limit=1)
            first_change = oldest[0] if oldest else None
        return await self._offload(
            call.steps,
            lambda: admit(
                call.doc_id,
                changes,
                options,
                initial_rev=head.rev,
                first_change=first_change,
                client_id=call.caller.client_id,
                now=call.now,
            ),
        )

    async def _in_thread(self, steps: int, work: Callable[[Callable[[], None]], T]) -> T:
        """Do `work` in the offloader. `work` is given a function to call now and then, which ends
        it once nobody waits for it: a thread cannot be cancelled, and the process waits for it."""
        abandoned = threading.Event()

        def checkpoint() -> None:
            if abandoned.is_set():
                raise _AbandonedError

        try:
            return await self._offload(steps, lambda: work(checkpoint))
        except asyncio.CancelledError:
            abandoned.set()
            raise

    async def _save(
        self, call: CommitCall, proposal: Proposal, head: DocHead, store: OTServerStore
    ) -> None:
        """Store what was decided on `head`."""
        doc_id, changes, bounds = call.doc_id, proposal.decision.to_store, proposal.bounds
        if exceeded(bounds, self._limits):
            bounds = await self._judge.measure(doc_id, changes, head.bounds.size)
        after: Json = None
        if call.review is not None:
            after = await self._judge.review(call.review, doc_id, changes, head)
        try:
            await store.save_changes(doc_id, changes, expected=head, now=call.now, bounds=bounds)
        except asyncio.CancelledError:
            self._on_cut(call, changes, head)
            raise
        self._recent.saved(doc_id, changes, bounds, expected=head)
        if call.review is not None:
            self._judge.keep(doc_id, after, changes[-1].rev, changes[-1].id, bounds.size)

    async def _make_versions(self, proposal: Proposal) -> None:
        """Make the versions of a session that has ended, once it is stored."""
        changes, origin = proposal.decision.to_store, proposal.decision.session_origin
        if changes and origin is not None:
            await self._versions.make_of_session(proposal.submission, changes, origin)


def _refuse_another(submission: Submission, head: DocHead) -> None:
    """The document may have been deleted and made again since its head was read first."""
    if head.rev < submission.initial_rev:
        raise StaleSubmissionError(
            f"Document {submission.doc_id} was deleted and made again. Reload the document."
        )


def _refuse_pruned(submission: Submission, committed: Sequence[Change]) -> None:
    """Without every change since the base there is nothing to transform over."""
    if not committed or committed[0].rev != submission.base_rev + 1:
        raise StaleSubmissionError(
            f"Document {submission.doc_id} no longer has the changes after revision "
            f"{submission.base_rev}. Reload the document and send yours on the current revision."
        )

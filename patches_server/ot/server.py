"""`OTServer`: documents whose changes are transformed to follow each other.

The rules: `docs/internals/ot.md` 13-15.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from patches.aio.keyed_locks import KeyedLocks
from patches.errors import (
    AlgorithmMismatchError,
    DuplicateChangeIdsError,
    RevConflictError,
    StorageError,
    UnavailableError,
)
from patches.history import Moment, Run
from patches.json_patch import JSONPatch
from patches.limits import Limits
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.edit_functions import check_edits
from patches.model.ids import change_ids
from patches.model.json_values import Json
from patches.model.settings import check_integer, check_number, instance_or
from patches.runtime import Runtime
from patches_server.documents.backend import store_in
from patches_server.documents.clock import ServerClock
from patches_server.documents.concurrency_limit import ConcurrencyLimit
from patches_server.documents.context import CallContext, current_context
from patches_server.documents.document_server import (
    MAX_EDIT_ATTEMPTS,
    MAX_STEPS_AT_ONCE,
    Begun,
    DocumentServer,
    MakeOps,
    Then,
)
from patches_server.documents.history import HistoryMark, KnownHistory
from patches_server.documents.kept_tasks import KeptTasks
from patches_server.documents.listing import Summary
from patches_server.documents.offload import Offloader, steps_of
from patches_server.documents.records import (
    CommitOptions,
    CommitResult,
    Tombstone,
    check_version_metadata,
)
from patches_server.ot.bounds import grown
from patches_server.ot.committer import Committer
from patches_server.ot.cut_commits import CutCommits
from patches_server.ot.heads import HeadStates
from patches_server.ot.history import OTHistory, state_of
from patches_server.ot.own_edits import OwnEdits
from patches_server.ot.past import Past
from patches_server.ot.proposal import AnyChange, CommitCall, Rules
from patches_server.ot.saves import Done, Saving
from patches_server.ot.store import NO_DOC, OTServerStore
from patches_server.ot.stores.factory import OT_STORES
from patches_server.ot.transfer import changes_of, records_of, save_beside

T = TypeVar("T")

_log = logging.getLogger("patches_server.ot")

_NOBODY: Final = CallContext()


class OTServer(DocumentServer):
    """A `DocumentServer` for documents kept with operational transformation.

    `store` is an `OTServerStore`, or a backend. A pause longer than
    `session_timeout_minutes` between two changes makes a version of what was before it, and so does
    every `max_changes_per_version`th change (0: never). One server holds no state of documents
    that the store does not have: several processes may serve one store.
    """

    name = "ot"
    default_routes: tuple[str, ...] = ("*",)
    is_shared = True

    def __init__(
        self,
        store: Any,
        *,
        session_timeout_minutes: float = 30,
        max_changes_per_version: int = 1_000,
        limits: Limits | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__()
        check_number("session_timeout_minutes", session_timeout_minutes)
        check_integer("max_changes_per_version", max_changes_per_version, least=0)
        runtime = instance_or(Runtime, "runtime", runtime, Runtime)
        self.store: OTServerStore = store_in(store, OT_STORES)
        self.clock: ServerClock = ServerClock(self.store, runtime)
        self.limits: Limits = instance_or(Limits, "limits", limits, Limits)
        self.runtime = runtime
        self.offload: Offloader = Offloader(runtime, self.limits)
        self.history: OTHistory = OTHistory(self.store, runtime, self.offload)
        self._past = Past(self.store, self.history, self.offload)
        self.history.on_saved = self.on_version_saved.emit
        self._long_answers = ConcurrencyLimit.of_snapshots(self.limits)
        self._committer = Committer(
            self.store,
            self.history,
            rules=Rules(
                int(session_timeout_minutes * 60_000), max_changes_per_version, self.limits
            ),
            offload=self.offload,
            on_cut=lambda *cut: self._tasks.start(self._cut_commits.see_through(*cut)),
        )
        self._tasks = KeptTasks("OT server")
        self._heads = HeadStates(self.store, self.history, self._tasks.start)
        self._new_id = change_ids(runtime.random)
        self._edits = OwnEdits(self._committer, self.clock, self.limits, self._new_id)
        self._locks = KeyedLocks()
        self._cut_commits = CutCommits(
            self.store,
            self._locks,
            self.offload,
            self.limits,
            forget=self._committer.forget,
            notify=self.on_changes_committed.emit_and_wait,
        )
        #: The commits that are being carried out, by document and first change.
        self._in_hand: dict[tuple[str, str], object] = {}

    @property
    def unappliable(self) -> int:
        """Committed changes that a state was built without."""
        return self.history.unappliable

    @property
    def clock_jumps(self) -> int:
        """Leaps forward of the wall clock that were noticed."""
        return self.clock.jumps

    async def get_doc(self, doc_id: str, *, rev: int | None = None) -> Snapshot:
        """A state, and the changes committed after it: up to `rev`, those since the newest main
        version; up to the head, few.

        A document that does not exist is `null` at revision 0. Raises `UnavailableError` when the
        version's state is missing, `DocDeletedError`.
        """
        if rev is None:
            return await self._heads.snapshot(doc_id)
        snapshot = await self.store.load_snapshot(doc_id, rev=rev)
        return Snapshot.from_encoded(
            state_of(doc_id, snapshot),
            rev=snapshot.version.end_rev if snapshot.version else 0,
            changes=snapshot.changes,
        )

    async def get_changes_since(self, doc_id: str, rev: int) -> list[Change]:
        """What was committed after `rev`, ascending. Raises `DocDeletedError`.

        More than `max_catchup_changes` are loaded by a few callers at once, as snapshots are;
        `UnavailableError` when too many wait.
        """
        most = self.limits.max_catchup_changes
        found = await self.store.list_changes(
            doc_id, start_after=rev, limit=None if most is None else most + 1
        )
        if most is None or len(found) <= most:
            return found
        del found  # not held by those that wait
        async with self._long_answers():
            return await self.store.list_changes(doc_id, start_after=rev)

    async def history_of(
        self, doc_id: str, known: KnownHistory | None = None, rev: int = 0
    ) -> HistoryMark:
        """The document's history. Raises `OtherHistoryError` if a copy at `rev` is of another."""
        head = await self.store.get_head(doc_id)
        if known is not None:
            await self._committer.require_history(doc_id, known, head, rev)
        return HistoryMark(head.token, head.rev, head.change_id)

    async def commit_changes(
        self,
        doc_id: str,
        changes: Sequence[AnyChange],
        options: CommitOptions | None = None,
    ) -> CommitResult:
        """Commit changes as the caller of `current_context()`: all of them or none.

        Changes that are committed already are answered with their committed copies. Raises
        `ChangeRefusedError` naming a change that is at fault, `StaleSubmissionError` when the
        document has to be loaded again first, `DocDeletedError`, `AlgorithmMismatchError`,
        `RevConflictError` after five lost races.
        """
        return await self.commit_as(current_context(), doc_id, changes, options)

    async def commit_as(
        self,
        caller: CallContext,
        doc_id: str,
        changes: Sequence[AnyChange],
        options: CommitOptions | None = None,
    ) -> CommitResult:
        """`commit_changes` of a caller that is named; without a connection, all are notified."""
        if not changes:
            return CommitResult(changes=())
        key, mine = (doc_id, changes[0].id), object()
        if key in self._in_hand:  # sent again: it would be, for as long as the first one takes
            caller.keep_waiting()
        try:
            async with self._locks(doc_id):
                caller.require_waiting()
                self._in_hand[key] = mine
                now = await self.clock.now()
                steps, review = steps_of(changes), self.reviewer(doc_id, caller)
                call = CommitCall(caller, doc_id, changes, options, now, steps, review)
                begun = await self._committer.begin(call)
            done = await self._finished(begun)
        finally:
            if self._in_hand.get(key) is mine:
                del self._in_hand[key]
        if done.decision.to_store:
            self._heads.committed(doc_id, len(done.decision.to_store))
            # Right after the lock: subscribers are called before another commit can go on, and one
            # that commits to this document in turn does not wait for itself.
            await self.on_changes_committed.emit_and_wait(
                doc_id, done.decision.to_store, options, caller.connection_id
            )
        return _result(done)

    async def _finished(self, begun: Done | Saving) -> Done:
        """Wait until a commit is stored. Commits that were begun in order end in order."""
        if isinstance(begun, Done):
            return begun
        done = await self._committer.finish(begun)
        if done is None:  # another process has written in between
            async with self._locks(begun.call.doc_id):
                done = await self._committer.commit(begun.call)
        return done

    def commit_at_once(
        self, context: CallContext, doc_id: str, changes: Sequence[ChangeInput], then: Then
    ) -> CommitResult | Begun | None:
        committed_signal = self.on_changes_committed
        now = self.clock.now_at_once()
        if now is None or not committed_signal.is_plain or not self._locks.is_free(doc_id):
            return None
        if self.content_rules is not None and self.content_rules.rules_of(doc_id):
            return None
        call = CommitCall(context, doc_id, changes, None, now, MAX_STEPS_AT_ONCE)
        begun = self._committer.commit_at_once(call)
        if isinstance(begun, Saving):
            begun.saved.add_done_callback(partial(self._saved, begun, then))
            return Begun.BEGUN
        if begun is None:
            return None
        self._heads.committed(doc_id, len(begun.decision.to_store))
        committed_signal.emit(doc_id, begun.decision.to_store, None, context.connection_id)
        return _result(begun)

    def _saved(self, saving: Saving, then: Then, saved: asyncio.Future[None]) -> None:
        """Tell of a commit that was begun at once, or else have it decided again."""
        if saved.cancelled():
            then(UnavailableError("the server is going away", {"reason": "CLOSING"}))
            return
        error = saved.exception()
        if error is None:
            call, committed_signal = saving.call, self.on_changes_committed
            arguments = (call.doc_id, saving.done.decision.to_store, None)
            self._heads.committed(call.doc_id, len(arguments[1]))
            if committed_signal.is_plain:
                committed_signal.emit(*arguments, call.caller.connection_id)
            else:
                self._tasks.start(
                    committed_signal.emit_and_wait(*arguments, call.caller.connection_id)
                )
            then(_result(saving.done))
        elif isinstance(error, (RevConflictError, DuplicateChangeIdsError, AlgorithmMismatchError)):
            then(None)
        else:
            then(error if isinstance(error, Exception) else StorageError(repr(error)))

    async def change(
        self,
        doc_id: str,
        edit: Callable[[JSONPatch], object],
        metadata: Mapping[str, Json] | None = None,
    ) -> Change | None:
        """An edit made by the server itself, broadcast to all; as it was stored.

        `None` when the edit adds no operation, or all of it came to nothing.
        """
        head = await self.store.get_head(doc_id)
        patch = JSONPatch()
        check_edits(edit(patch), "change()")
        if not patch.ops:
            return None
        made = Change.from_wire(
            {
                "id": self._new_id(head.rev + 1),
                "ops": patch.ops,
                "baseRev": head.rev,
                "rev": head.rev + 1,
                "createdAt": await self.clock.now(),
                **(metadata or {}),
            }
        )
        result = await self.commit_as(_NOBODY, doc_id, [made])
        return next((change for change in result.changes if change.id == made.id), None)

    async def edit(
        self, doc_id: str, make_ops: MakeOps, metadata: Mapping[str, Json] | None = None
    ) -> Change | None:
        for attempt in range(1, MAX_EDIT_ATTEMPTS + 1):
            try:
                async with self._locks(doc_id):
                    done = await self._edits.commit(
                        doc_id, make_ops, metadata, self.reviewer(doc_id, _NOBODY)
                    )
                break
            except RevConflictError:  # of another process
                if attempt == MAX_EDIT_ATTEMPTS:
                    raise
        if done is None or not (stored := done.decision.to_store):
            return None
        self._heads.committed(doc_id, len(stored))
        await self.on_changes_committed.emit_and_wait(doc_id, stored, None, None)
        return stored[-1]

    async def read(self, doc_id: str, rev: int | None = None) -> tuple[Json, int]:
        if rev is not None:
            return await self.history.state_at(doc_id, rev)
        async with self._locks(doc_id):
            state, head = await self._committer.current(doc_id)
        return state, head.rev

    async def summary(self, doc_id: str) -> Summary:
        head = await self.store.get_head(doc_id)
        return Summary(rev=head.rev, modified_at=head.created_at, bytes=head.bounds.size)

    def export_records(self, doc_id: str) -> AsyncIterator[Mapping[str, Json]]:
        return records_of(self.store, doc_id)

    async def import_records(
        self, doc_id: str, state: Json, records: Sequence[Mapping[str, Any]]
    ) -> None:
        await self.review_first(doc_id, state)
        changes = changes_of(records)
        async with self._locks(doc_id):
            now = await self.clock.now()
            bounds = await self.offload(
                steps_of(changes), lambda: grown(NO_DOC.bounds, changes, self.limits)
            )
            await self.store.save_changes(doc_id, changes, expected=NO_DOC, now=now, bounds=bounds)
            await save_beside(self.store, doc_id, records, now)
        # The newest is enough: a subscriber notices what it lacks, and fetches it.
        await self.on_changes_committed.emit_and_wait(doc_id, changes[-1:], None, None)

    async def list_history(
        self, doc_id: str, *, before: int | None = None, limit: int = 50
    ) -> list[Moment]:
        return await self._past.moments(doc_id, before, limit)

    async def blame(self, doc_id: str, path: str) -> list[Run]:
        return await self._past.blame(doc_id, path)

    async def capture_current_version(
        self, doc_id: str, metadata: Mapping[str, Json] | None = None
    ) -> str | None:
        """Save what was committed since the newest main version; `None` when there is nothing.

        Raises `VersionError` for metadata that only the server sets.
        """
        check_version_metadata(metadata)
        async with self._locks(doc_id):
            head = await self.store.get_head(doc_id)
            newest = await self.history.newest_main(doc_id, through_rev=head.rev)
            version = await self.history.create_version_at(
                doc_id, head.rev, now=await self.clock.now(), after=newest, metadata=metadata
            )
        return version.id if version else None

    async def delete_doc(self, doc_id: str, *, skip_tombstone: bool = False) -> None:
        """Remove the document, leaving a tombstone. An unknown or deleted one is no error."""
        # Shielded: the others are notified even if the caller goes away.
        await asyncio.shield(
            self._tasks.start(self._delete(current_context(), doc_id, skip_tombstone))
        )

    def forget(self, doc_id: str) -> None:
        self._committer.forget(doc_id)
        self._heads.forget(doc_id)

    async def undelete_doc(self, doc_id: str) -> bool:
        """Remove the tombstone; whether there was one. The data does not come back."""
        async with self._locks(doc_id):
            return await self.store.remove_tombstone(doc_id)

    async def _delete(self, caller: CallContext, doc_id: str, skip_tombstone: bool) -> None:
        async with self._locks(doc_id):
            now = await self.clock.now()
            tombstone = Tombstone(
                doc_id=doc_id,
                deleted_at=now,
                last_rev=0,  # the store knows
                deleted_by_client_id=caller.client_id,
            )
            self._committer.forget(doc_id)
            self._heads.forget(doc_id)
            await self.store.delete_doc(doc_id, None if skip_tombstone else tombstone, now=now)
        await self.on_doc_deleted.emit_and_wait(doc_id, caller.connection_id)


def _result(done: Done) -> CommitResult:
    return CommitResult(
        changes=[*done.decision.catch_up, *done.decision.to_store],
        doc_reload_required=done.submission.reload_required,
        token=done.token,
    )

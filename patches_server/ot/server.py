"""`OTServer`: documents whose changes are transformed to follow each other (`spec/ot.md` 13-15)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from patches.change import Change, ChangeInput, Snapshot
from patches.checks import check_ops
from patches.errors import (
    ChangeRefusedError,
    DuplicateChangeIdsError,
    OpsRefusedError,
    RevConflictError,
    StaleSubmissionError,
    StatusError,
)
from patches.ids import change_ids
from patches.json_patch import JSONPatch
from patches.json_values import Json
from patches.keyed_locks import KeyedLocks
from patches.limits import Limits
from patches.runtime import Millis, Runtime
from patches.signals import Signal
from patches_server.context import CallContext, current_context
from patches_server.document_server import ChangesCommitted, DocDeleted
from patches_server.ot.bounds import exceeded, grown, measured_after
from patches_server.ot.commit import (
    Decision,
    Submission,
    admit,
    crosses_count,
    decide,
    needs_first_change,
    session_gap,
)
from patches_server.ot.history import OTHistory, state_of
from patches_server.ot.recent import RecentLogs
from patches_server.ot.store import Bounds, DocHead, OTServerStore
from patches_server.ot.threads import in_thread_if_large
from patches_server.records import (
    CommitOptions,
    CommitResult,
    Tombstone,
    check_version_metadata,
)
from patches_server.stores.clock import ServerClock

AnyChange: TypeAlias = Change | ChangeInput
T = TypeVar("T")

_MAX_ATTEMPTS: Final = 5
_NOBODY: Final = CallContext()

_log = logging.getLogger("patches_server.ot")


class OTServer:
    """A `DocumentServer` for documents kept with operational transformation.

    `store` is an `OTServerStore`, or a backend that has one as `ot`. A pause longer than
    `session_timeout_minutes` between two changes makes a version of what was before it, and so does
    every `max_changes_per_version`th change (0: never). One server holds no state of documents
    that the store does not have: several processes may serve one store.
    """

    name = "ot"

    def __init__(
        self,
        store: Any,
        *,
        session_timeout_minutes: float = 30,
        max_changes_per_version: int = 1_000,
        limits: Limits | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        runtime = runtime or Runtime()
        self.store: OTServerStore = getattr(store, "ot", store)
        self.on_changes_committed: ChangesCommitted = Signal("on_changes_committed")
        self.on_doc_deleted: DocDeleted = Signal("on_doc_deleted")
        self.history = OTHistory(self.store, runtime)
        self.clock = ServerClock(self.store, runtime)
        self._session_timeout = int(session_timeout_minutes * 60_000)
        self._version_step = max_changes_per_version
        self.limits = limits or Limits()
        self.runtime = runtime
        self._new_id = change_ids(runtime.random)
        self._locks = KeyedLocks()
        self._recent = RecentLogs()
        self._under_way: set[asyncio.Task[Any]] = set()

    async def get_doc(self, doc_id: str, *, rev: int | None = None) -> Snapshot:
        """The state of the newest main version up to `rev`, and the changes committed after it.

        A document that does not exist is `null` at revision 0. Raises `UnavailableError` when the
        version's state is missing, `DocDeletedError`.
        """
        snapshot = await self.store.load_snapshot(doc_id, rev=rev)
        return Snapshot.from_encoded(
            state_of(doc_id, snapshot),
            rev=snapshot.version.end_rev if snapshot.version else 0,
            changes=snapshot.changes,
        )

    async def get_changes_since(self, doc_id: str, rev: int) -> list[Change]:
        """What was committed after `rev`, ascending. Raises `DocDeletedError`."""
        return await self.store.list_changes(doc_id, start_after=rev)

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
        """`commit_changes` of a caller that is named; one without a connection is told to all."""
        if not changes:
            return CommitResult(changes=())
        await in_thread_if_large(
            self.runtime, 4 * _count_ops(changes), lambda: self._check(changes)
        )
        return await self._commit(caller, doc_id, changes, options)

    async def change(
        self,
        doc_id: str,
        edit: Callable[[JSONPatch], object],
        metadata: Mapping[str, Json] | None = None,
    ) -> Change | None:
        """An edit made by the server itself, told to everybody; as it was stored.

        `None` when the edit adds no operation, or all of it came to nothing.
        """
        head = await self.store.get_head(doc_id)
        patch = JSONPatch()
        edit(patch)
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
        # Shielded, so that the others are told although the caller may go away.
        await asyncio.shield(self._own(self._delete(current_context(), doc_id, skip_tombstone)))

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
            self._recent.forget(doc_id)
            await self.store.delete_doc(doc_id, None if skip_tombstone else tombstone, now=now)
        await self.on_doc_deleted.emit_and_wait(doc_id, caller.connection_id)

    async def _commit(
        self,
        caller: CallContext,
        doc_id: str,
        changes: Sequence[AnyChange],
        options: CommitOptions | None,
    ) -> CommitResult:
        async with self._locks(doc_id):
            now = await self.clock.now()
            done = await self._commit_on_recent(caller, doc_id, changes, options, now)
            if done is None:
                done = await self._commit_on_store(caller, doc_id, changes, options, now)
        submission, decision = done
        if decision.to_store:
            # Right after the lock: subscribers are called before another commit can go on, and one
            # that commits to this document in turn does not wait for itself.
            await self.on_changes_committed.emit_and_wait(
                doc_id, decision.to_store, options, caller.connection_id
            )
        return CommitResult(
            changes=[*decision.catch_up, *decision.to_store],
            doc_reload_required=submission.reload_required,
        )

    async def _commit_on_recent(
        self,
        caller: CallContext,
        doc_id: str,
        changes: Sequence[AnyChange],
        options: CommitOptions | None,
        now: Millis,
    ) -> _Done | None:
        """Commit on the end of the log that is at hand; `None` when it takes more than that."""
        log = self._recent.get(doc_id)
        if log is None or needs_first_change(changes, options, log.head.rev):
            return None
        try:
            submission = admit(
                doc_id,
                changes,
                options,
                initial_rev=log.head.rev,
                first_change=None,
                client_id=caller.client_id,
                now=now,
            )
            committed = log.since(submission.base_rev)
            if committed is None or self._version_is_due(log.head, submission):
                return None
            decision = await self._decided(submission, committed, log.head.rev, ())
            if not decision.to_store:
                return None
            await self._save(caller, submission, decision, log.head)
        except (StatusError, RevConflictError, DuplicateChangeIdsError):
            self._recent.forget(doc_id)  # may be out of date: only the store can refuse
            return None
        return submission, decision

    async def _commit_on_store(
        self,
        caller: CallContext,
        doc_id: str,
        changes: Sequence[AnyChange],
        options: CommitOptions | None,
        now: Millis,
    ) -> _Done:
        head = await self.store.get_head(doc_id)
        first_change = None
        if needs_first_change(changes, options, head.rev):
            oldest = await self.store.list_changes(doc_id, limit=1)
            first_change = oldest[0] if oldest else None
        submission = admit(
            doc_id,
            changes,
            options,
            initial_rev=head.rev,
            first_change=first_change,
            client_id=caller.client_id,
            now=now,
        )
        if self._version_is_due(head, submission):
            await self._make_versions(head, submission)
        stored_ids: set[str] = set()
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            decision = await self._decided_on_store(submission, head, stored_ids)
            if not decision.to_store:
                break
            try:
                await self._save(caller, submission, decision, head)
                break
            except RevConflictError:
                if attempt == _MAX_ATTEMPTS:
                    raise
            except DuplicateChangeIdsError as exc:
                if attempt == _MAX_ATTEMPTS or stored_ids.issuperset(exc.change_ids):
                    raise
                stored_ids.update(exc.change_ids)
            head = await self.store.get_head(doc_id)
            if head.rev < submission.initial_rev:
                raise StaleSubmissionError(
                    f"Document {doc_id} was deleted and made again. Reload the document."
                )
        return submission, decision

    async def _decided_on_store(
        self, submission: Submission, head: DocHead, stored_ids: set[str]
    ) -> Decision:
        committed: Sequence[Change] = ()
        if submission.base_rev < head.rev:
            committed = await self.store.list_changes(
                submission.doc_id, start_after=submission.base_rev, end_before=head.rev + 1
            )
        return await self._decided(submission, committed, head.rev, stored_ids)

    async def _decided(
        self,
        submission: Submission,
        committed: Sequence[Change],
        current_rev: int,
        stored_ids: set[str] | tuple[()],
    ) -> Decision:
        def run() -> Decision:
            return decide(
                submission,
                committed,
                current_rev,
                stored_ids=stored_ids,
                session_timeout=self._session_timeout,
                max_steps=self.limits.max_transform_steps,
            )

        ops = _count_ops(submission.changes)
        return await in_thread_if_large(self.runtime, ops * (len(committed) + 4), run)

    async def _save(
        self, caller: CallContext, submission: Submission, decision: Decision, head: DocHead
    ) -> None:
        """Store what was decided on `head`, then the versions of a session that has ended."""
        doc_id, changes = submission.doc_id, decision.to_store
        bounds = await in_thread_if_large(  # this is where the changes are encoded
            self.runtime,
            4 * _count_ops(changes),
            lambda: grown(head.bounds, changes, self.limits),
        )
        if exceeded(bounds, self.limits):
            bounds = await self._measured(doc_id, changes)
        saving = self.store.save_changes(
            doc_id, changes, expected=head, now=submission.now, bounds=bounds
        )
        try:
            await saving
        except asyncio.CancelledError:
            self._own(self._see_through(caller, submission, changes, head))
            raise
        self._recent.saved(doc_id, changes, bounds, expected=head)
        if decision.session_origin is not None:
            await self._make_session_versions(submission, changes, decision.session_origin)

    async def _see_through(
        self,
        caller: CallContext,
        submission: Submission,
        changes: Sequence[Change],
        head: DocHead,
    ) -> None:
        """Finish a commit whose caller has gone while it was being stored.

        The write may be on its way to disk or not. Made again, it comes after the first one, and
        the others are told either way: they would not hear of the change before the next one.
        """
        doc_id = submission.doc_id
        async with self._locks(doc_id):
            try:
                await self.store.save_changes(
                    doc_id,
                    changes,
                    expected=head,
                    now=submission.now,
                    bounds=grown(head.bounds, changes, self.limits),
                )
            except (RevConflictError, DuplicateChangeIdsError):
                rows = await self.store.list_changes(
                    doc_id, start_after=head.rev, limit=len(changes)
                )
                if [row.id for row in rows] != [change.id for change in changes]:
                    return  # another commit was first; the caller will send it again
            self._recent.forget(doc_id)
        await self.on_changes_committed.emit_and_wait(
            doc_id, changes, submission.options, caller.connection_id
        )

    async def _measured(self, doc_id: str, changes: Sequence[Change]) -> Bounds:
        """The true bounds. Raises `StatusError` 413 or `ChangeRefusedError` beyond the limits."""
        state, _ = await self.history.state_at(doc_id)
        limits = self.limits
        after = await self.runtime.run_blocking(lambda: measured_after(state, changes, limits))
        if limits.max_doc_bytes is not None and after.size > limits.max_doc_bytes:
            raise StatusError(
                413,
                f"Document {doc_id} would have {after.size} bytes, at most "
                f"{limits.max_doc_bytes} are allowed",
                {"limit": "max_doc_bytes"},
            )
        if after.depth > limits.max_doc_depth:
            raise ChangeRefusedError(
                changes[0].id,
                f"Document {doc_id} would be nested {after.depth} levels deep, at most "
                f"{limits.max_doc_depth} are allowed",
            )
        return after

    def _version_is_due(self, head: DocHead, submission: Submission) -> bool:
        return head.rev > 0 and (
            session_gap(head.created_at, submission, self._session_timeout)
            or crosses_count(submission, self._version_step)
        )

    async def _make_versions(self, head: DocHead, submission: Submission) -> None:
        """Versions of what was committed before this submission (`spec/ot.md` 14.7)."""
        doc_id, step, now = submission.doc_id, self._version_step, submission.now
        newest = await self.history.newest_version(doc_id)
        if step <= 0:
            await self.history.create_version_at(doc_id, head.rev, now=now, after=newest)
            return
        least = 1 if session_gap(head.created_at, submission, self._session_timeout) else step
        while head.rev - (newest.end_rev if newest else 0) >= least:
            newest = await self.history.create_version_at(
                doc_id, head.rev, now=now, after=newest, limit=step
            )
            if newest is None:
                break

    async def _make_session_versions(
        self, submission: Submission, changes: Sequence[Change], origin: str
    ) -> None:
        try:
            await self.history.create_session_versions(
                submission.doc_id,
                changes,
                origin=origin,
                pause=self._session_timeout,
                now=submission.now,
            )
        except Exception:  # boundary: the commit is stored, and does not fail for this
            _log.exception("document %.128r: no version was made of a session", submission.doc_id)

    def _check(self, changes: Sequence[AnyChange]) -> None:
        for change in changes:
            try:
                check_ops(change.ops, self.limits, where=f"change {change.id!r}: ops")
            except OpsRefusedError as exc:
                raise ChangeRefusedError(change.id, str(exc), code=exc.code) from exc

    def _own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do `work` whether or not somebody waits for it; this object keeps it until it is done."""
        task = asyncio.get_running_loop().create_task(work, name="OT server")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task


def _count_ops(changes: Sequence[AnyChange]) -> int:
    return sum(len(change.ops) for change in changes)


_Done: TypeAlias = tuple[Submission, Decision]

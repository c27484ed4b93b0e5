"""`CollectionsServer`: documents whose rows the server owns, and decides every write of."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from patches.aio.tasks import TaskScope
from patches.algorithms.collections.declaration import Collections
from patches.errors import (
    InvalidRequestError,
    PatchesError,
    StatusError,
)
from patches.model import codec
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.json_values import Json
from patches.model.settings import instance_or
from patches.runtime import Runtime
from patches_server.collections.answer import Answering, catch_up, commit_piece, last_piece
from patches_server.collections.calls import Caller, RowWrite
from patches_server.collections.claims import ClaimsOf, caller_of
from patches_server.collections.consumers import Consumers
from patches_server.collections.declaring import DeclaresRules
from patches_server.collections.engines.engine import Deleted, Engine
from patches_server.collections.execute import (
    Plan,
    RowsMovedError,
    carry_out,
    refusal,
)
from patches_server.collections.jobs import Jobs, no_work
from patches_server.collections.live import Delivery, Job, Step
from patches_server.collections.own_calls import OwnCalls
from patches_server.collections.planning import plan_change
from patches_server.collections.rules import (
    AfterCommit,
)
from patches_server.collections.statement import check_subset_id, parse_statement, parse_subset
from patches_server.collections.streams import Streams
from patches_server.documents.context import CallContext, current_context
from patches_server.documents.document_server import DocumentServer, RemoteMethods
from patches_server.documents.history import (
    HistoryMark,
    KnownHistory,
    known_history,
    require_same_history,
)
from patches_server.documents.records import CommitOptions, CommitResult

T = TypeVar("T")
_log = logging.getLogger("patches_server.collections")

_MAX_ATTEMPTS: Final = 5
_SWEEP_S: Final = 3_600.0


class CollectionsServer(DeclaresRules, OwnCalls, DocumentServer):
    """A `DocumentServer` for the tables that `declared` has, kept by `engine`.

    `retention`: how long a deletion is remembered; a copy that was away longer is fetched anew if
    it has missed one. `claims`: what is known of a principal, for the rules of `visible` and the
    application's; without it, its `claims`. `poll_s`: how often the writes of other programs are
    looked for, in documents that somebody follows. Used as an async context manager, or by the
    service that it is given to.
    """

    name = "collections"

    def __init__(
        self,
        declared: Collections,
        *,
        engine: Engine,
        retention: timedelta = timedelta(days=2),
        max_eager_rows: int = 50_000,
        claims: ClaimsOf | None = None,
        poll_s: float = 0.5,
        runtime: Runtime | None = None,
    ) -> None:
        DeclaresRules.__init__(self, declared)
        DocumentServer.__init__(self)
        self.declared = declared
        self._engine: Final = engine
        engine.declare(declared)
        self._retention_ms = int(retention.total_seconds() * 1000)
        self._claims, self._poll_s = claims, poll_s
        self._runtime = instance_or(Runtime, "runtime", runtime, Runtime)
        self._jobs = Jobs(
            engine, declared, self._runtime, max_eager_rows=max_eager_rows, notify=self._notify
        )
        self._tasks: Final = TaskScope("collections server", on_error=self._report)
        self._consumers: Final = Consumers(self.rules, self._tasks, self._jobs.run)
        self.streams: Streams = Streams(declared, self.on_notification)
        self.remote_methods: RemoteMethods = {
            "loadSubset": ("read", self._load_subset),
            "unloadSubset": ("read", self._unload_subset),
        }

    # ---- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to poll for what other programs write, and give durable handlers what they missed.

        Doing it again changes nothing.
        """
        if self._tasks.running:
            return
        self._tasks.start()
        self._tasks.spawn(self._poll(), name="writes of other programs")
        self._tasks.spawn(self._sweep(), name="retention")
        if self._consumers.durable:
            self._tasks.spawn(self._resume(), name="durable handlers")

    async def close(self) -> None:
        """End all tasks, take back what is in progress, and close the engine."""
        self.streams.close()
        await self._tasks.close()
        await self._engine.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # ---- a document server -----------------------------------------------------------------------

    async def get_doc(self, doc_id: str, *, rev: int | None = None) -> Snapshot:
        """All that the caller sees of the eager tables, and of the subsets that it names.

        Raises `StatusError` 413 for more than `max_eager_rows`, `DocDeletedError`.
        """
        if rev is not None:
            raise PatchesError("collections cannot be read at a revision: they keep no history")
        context = current_context()
        caller = self._caller(doc_id, context)
        statement = parse_statement(self.declared, context.options)

        def read(job: Job) -> Snapshot:
            held, loaded = job.interests.state(job.tx, caller, statement)
            state, windows = job.interests.rows_of(job.tx, held, loaded)
            held.sent_rev = job.tx.rev
            schema = {"name": self.declared.name, "version": self.declared.version}
            extra: dict[str, Json] = {"schema": schema, "serverTime": job.now}
            if windows:
                extra["windows"] = windows
            snapshot = Snapshot.from_encoded(codec.encode(state), rev=job.tx.rev)
            snapshot.metadata = extra
            return snapshot

        snapshot: Snapshot = await self._jobs.run(doc_id, read)
        self.streams.follow(doc_id, caller)
        return snapshot

    async def get_changes_since(self, doc_id: str, rev: int) -> list[Change]:
        """The net difference since a revision, as one change; none if there is nothing.

        Raises `StaleSubmissionError` if that is not known, `DocDeletedError`.
        """
        context = current_context()
        caller = self._caller(doc_id, context)
        statement = parse_statement(self.declared, context.options)

        def read(job: Job) -> list[Change]:
            job.require_in_reach(rev)
            held, _ = job.interests.state(job.tx, caller, statement)
            changes = catch_up(job, held, rev)
            held.sent_rev = job.tx.rev
            return changes

        changes = await self._jobs.run(doc_id, read)
        self.streams.follow(doc_id, caller)
        return changes

    async def commit_changes(
        self,
        doc_id: str,
        changes: Sequence[Change | ChangeInput],
        options: CommitOptions | None = None,
    ) -> CommitResult:
        """Carry changes out, one after the other; the first that is refused ends the call.

        The answer leads its sender from `changes[0].base_rev` to the newest revision. Raises
        `ChangeRefusedError` naming the change (those before it stay), `OtherHistoryError`,
        `StaleSubmissionError`, `DocDeletedError`, `UnavailableError`.
        """
        context = current_context()
        caller = self._caller(doc_id, context)
        statement = parse_statement(self.declared, context.options)
        known = known_history(context.options)
        mark = None
        if known is not None:
            mark = await self.history_of(doc_id, known, known.last_rev)
        if not changes:
            return CommitResult(changes=(), token=None if mark is None else mark.token)
        answer = Answering(caller, statement, changes[0].base_rev)
        try:
            for change in changes:
                context.require_waiting()
                writes = await self._commit(answer, change)
                self._after(caller, writes)
            if answer.needs_more:
                await self._jobs.run(doc_id, partial(last_piece, answer))
        except RowsMovedError as exc:
            raise refusal(exc, changes[0].id, self._runtime) from exc
        return CommitResult(changes=answer.changes, token=None if mark is None else mark.token)

    async def history_of(
        self, doc_id: str, known: KnownHistory | None = None, rev: int = 0
    ) -> HistoryMark:
        """The document's history. Its token names the view of the caller's user, too."""
        caller = self._caller(doc_id, current_context())
        epoch, head = await self._jobs.read(doc_id, lambda tx: (tx.epoch, tx.rev))
        token = f"{epoch}.{self.declared.version}.{self._view_of(caller)}"
        if known is not None:
            require_same_history(doc_id, known, token=token, head_rev=head, rev=rev)
        return HistoryMark(token, head)

    async def delete_doc(self, doc_id: str, *, skip_tombstone: bool = False) -> None:
        """Remove the document and its file, leaving a tombstone."""
        context = current_context()
        tombstone = None
        if not skip_tombstone and await self._engine.deleted(doc_id) is None:
            head = await self._engine.begin(doc_id, lambda tx: tx.rev)
            tombstone = Deleted(deleted_at=self._now(), last_rev=head, client_id=context.client_id)
        async with self._jobs.ended(doc_id):
            await self._engine.delete(doc_id, tombstone)
        await self.on_doc_deleted.emit_and_wait(doc_id, context.connection_id)

    async def undelete_doc(self, doc_id: str) -> bool:
        """Remove the tombstone; whether there was one. The document starts empty."""
        return await self._engine.undelete(doc_id)

    def connection_ended(self, connection_id: str) -> None:
        """What a connection held is forgotten."""
        self.streams.left(connection_id)
        self._jobs.connection_ended(connection_id)

    async def call(
        self, doc_id: str, action: str, *, as_user: str | None = None, **args: Json
    ) -> None:
        """Call an action as a client would. Raises `ChangeRefusedError`, `UnavailableError`."""
        caller = Caller(doc_id=doc_id, user_id=as_user)
        change = ChangeInput(
            id=self._new_id(), ops=[], metadata={"action": {"name": action, "args": args}}
        )
        await self._commit(Answering(caller, None, None), change)

    # ---- commits ---------------------------------------------------------------------------------

    async def _commit(self, answer: Answering, change: Change | ChangeInput) -> Sequence[RowWrite]:
        caller = answer.caller
        for _ in range(_MAX_ATTEMPTS):
            try:
                plan = await plan_change(self.rules, caller, change, self._jobs.read, self._now())
                work = partial(commit_piece, answer, plan, self._carry_out, change.created_at)
                written: Sequence[RowWrite] = await self._jobs.run(caller.doc_id, work)
                return written
            except RowsMovedError:
                continue  # authorized on rows that are others now
            except asyncio.CancelledError:
                raise
            except Exception as exc:  # boundary: the application's code
                raise refusal(exc, change.id, self._runtime) from exc
        raise StatusError(503, f"change {change.id}: its rows are written to all the time")

    def _carry_out(self, job: Job, plan: Plan, caller: Caller) -> list[RowWrite]:
        return carry_out(job.tx, self.rules, plan, caller, job.now)

    def _after(self, caller: Caller, writes: Sequence[RowWrite]) -> None:
        for write in writes:
            for rule in self.rules.after.get((write.table, write.type), ()):
                self._tasks.spawn(_called(rule, caller, write), name="after_commit")

    # ---- subsets ---------------------------------------------------------------------------------

    async def _load_subset(self, doc_id: str, *params: Json) -> Json:
        subset = parse_subset(self.declared, params[0] if params else None)
        options = params[1] if len(params) > 1 else None
        if options is not None and not isinstance(options, dict):
            raise InvalidRequestError("INVALID_REQUEST: options must be an object")
        caller = self._caller(doc_id, current_context())
        known = known_history(options or {})
        if known is not None:
            await self.history_of(doc_id, known)
        statement = parse_statement(self.declared, {})

        def load(job: Job) -> Json:
            return job.load_subset(caller, statement, subset)

        return await self._jobs.run(doc_id, load)

    async def _unload_subset(self, doc_id: str, *params: Json) -> None:
        subset_id = check_subset_id(params[0] if params else None)
        caller = self._caller(doc_id, current_context())

        def unload(job: Job) -> None:
            held = job.interests.get(caller.connection_id)
            if held is not None:
                job.interests.unload(held, subset_id)

        await self._jobs.run(doc_id, unload)

    # ---- tasks of its own ------------------------------------------------------------------------

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self._jobs.look_around(self.streams.has)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            for doc_id in await self._engine.list_docs():
                try:
                    await self.compact(doc_id)
                except PatchesError as exc:
                    _log.warning("document %.128r: compacting it failed: %s", doc_id, exc)

    async def _resume(self) -> None:
        for doc_id in await self._engine.list_docs():
            try:
                await self._jobs.run(doc_id, no_work)
                self._consumers.wake(doc_id)
            except PatchesError as exc:
                _log.warning("document %.128r: its handlers do not run: %s", doc_id, exc)

    def _notify(self, doc_id: str, deliveries: Sequence[Delivery], steps: Sequence[Step]) -> None:
        for delivery in deliveries:
            changes = [codec.Encoded(change.encoded) for change in delivery.changes]
            params: dict[str, Any] = {"changes": changes}
            self.on_notification.emit(doc_id, "changesCommitted", params, delivery.connection_ids)
        for step in steps:
            self._consumers.committed(doc_id, step)

    # ---- small things ----------------------------------------------------------------------------

    def _caller(self, doc_id: str, context: CallContext) -> Caller:
        return caller_of(doc_id, context, self._claims)

    def _view_of(self, caller: Caller) -> str:
        """What distinguishes the views of two users: their claims, as the rules use them."""
        claims = caller.known_claims()
        rules = [
            repr(table.visible.to_sql(table.table, claims))
            for table in self.declared.tables.values()
            if table.visible is not None
        ]
        return hashlib.sha256("\n".join(rules).encode()).hexdigest()[:16] if rules else ""

    def _report(self, error: Exception) -> None:
        _log.error("a task of the collections server failed", exc_info=error)


async def _called(rule: AfterCommit, caller: Caller, write: RowWrite) -> None:
    result = rule(caller, write)
    if isinstance(result, Awaitable):
        await result

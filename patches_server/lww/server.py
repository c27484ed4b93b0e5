"""`LWWServer`: documents whose fields are decided by the last write (`docs/internals/lww.md` 7)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from patches.aio.keyed_locks import KeyedLocks
from patches.errors import (
    PatchesError,
    RevConflictError,
    StorageError,
    UnavailableError,
    VersionError,
)
from patches.history import Moment, Run
from patches.json_patch import JSONPatch
from patches.limits import Limits
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.edit_functions import check_edits
from patches.model.ids import SortableIds, change_ids
from patches.model.json_values import Json
from patches.model.settings import check_integer, instance_or
from patches.runtime import Millis, Runtime
from patches_server.documents.backend import store_in
from patches_server.documents.clock import ServerClock
from patches_server.documents.context import CallContext, current_context
from patches_server.documents.document_server import (
    MAX_EDIT_ATTEMPTS,
    Begun,
    DocumentServer,
    MakeOps,
    Then,
)
from patches_server.documents.history import (
    HistoryMark,
    KnownHistory,
    known_history,
)
from patches_server.documents.kept_bytes import KeptBytes
from patches_server.documents.listing import Summary
from patches_server.documents.offload import Offloader, steps_of, steps_of_encoded
from patches_server.documents.records import (
    CommitOptions,
    CommitResult,
    Version,
    check_version_metadata,
)
from patches_server.documents.tombstones import new_tombstone
from patches_server.documents.version_history import state_of_version
from patches_server.lww.answers import (
    Joined,
    broadcast_of,
    joined,
    mark_of,
    result_of,
    snapshot_rev,
)
from patches_server.lww.commit import AnyChange, seed_rows
from patches_server.lww.committer import LWWCommitter, Saving
from patches_server.lww.decided import CommitCall, Committed, check
from patches_server.lww.encoding import change_of_rows, reset_row
from patches_server.lww.own_edits import OwnEdits
from patches_server.lww.past import blame_of_rows, moments_of_rows
from patches_server.lww.state import build_state
from patches_server.lww.store import LoadedRows, LWWServerStore
from patches_server.lww.stores.factory import LWW_STORES
from patches_server.lww.transfer import loaded_of, records_of

DAY_MS: Final = 86_400_000
_STEPS: Final = 4  # of an op or a row

T = TypeVar("T")

_log = logging.getLogger("patches_server.lww")


class LWWServer(DocumentServer):
    """A `DocumentServer` for last-write-wins documents.

    `change_id_ttl` (milliseconds): how long a retried change is recognised; afterwards an increment
    that is sent again counts again. `removal_ttl`: how long a removed field is remembered; a writer
    that was away longer can bring it back, and a reader that was away longer gets the whole
    document. `store` may be a backend, which has one.
    """

    name = "lww"
    default_routes: tuple[str, ...] = ("lww/*",)
    is_shared = True

    def __init__(
        self,
        store: Any,
        *,
        change_id_ttl: Millis = 30 * DAY_MS,
        removal_ttl: Millis = 30 * DAY_MS,
        limits: Limits | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__()
        check_integer("change_id_ttl", change_id_ttl, least=0)
        check_integer("removal_ttl", removal_ttl, least=0)
        runtime = instance_or(Runtime, "runtime", runtime, Runtime)
        self.store: LWWServerStore = store_in(store, LWW_STORES)
        self._limits = instance_or(Limits, "limits", limits, Limits)
        self.offload: Offloader = Offloader(runtime, self._limits)
        self.clock: ServerClock = ServerClock(self.store, runtime)
        #: The rows of documents as one change, for whoever opens them.
        self._joined = KeptBytes[Joined]()
        self._new_id = change_ids(runtime.random)
        self._version_ids = SortableIds(runtime.random)
        self._locks = KeyedLocks()
        #: The commits that are being carried out, by document and first change.
        self._in_hand: dict[tuple[str, str], object] = {}
        self._committer = LWWCommitter(
            self.store,
            change_id_ttl=change_id_ttl,
            removal_ttl=removal_ttl,
            limits=self._limits,
            offload=self.offload,
        )
        self._edits = OwnEdits(self._committer, self.clock, self._limits, self._new_id)

    @property
    def clock_jumps(self) -> int:
        """Leaps forward of the wall clock that were noticed."""
        return self.clock.jumps

    async def get_doc(self, doc_id: str, *, rev: int | None = None) -> Snapshot:
        """The snapshot's state, and one change with the rows on top of it.

        Raises `PatchesError` for a `rev` (there is no history to read from), `DocDeletedError`.
        """
        if rev is not None:
            raise PatchesError("LWW documents do not support reading at a specific revision")
        now = await self.clock.now()
        joined = self._joined.get(doc_id)
        if joined is not None:  # only the head is read, to see that it is still this
            loaded = await self.store.load_rows(doc_id, now=now, paths=())
            at = (mark_of(loaded), loaded.floor, snapshot_rev(loaded))
            if (joined.mark, joined.floor, joined.base_rev) != at:
                joined = None
        if joined is None:
            loaded = await self.store.load_rows(doc_id, now=now)
            joined = await self._join(loaded, snapshot_rev(loaded))
            if joined is not None:
                self._joined.put(doc_id, joined, len(joined.ops.data))
        base_rev = snapshot_rev(loaded)
        changes = self._as_changes(joined, base_rev, now)
        return Snapshot.from_encoded(
            loaded.snapshot.state if loaded.snapshot else b"{}",
            rev=changes[0].rev if changes else max(base_rev, loaded.floor),
            changes=changes,
        )

    async def history_of(
        self, doc_id: str, known: KnownHistory | None = None, rev: int = 0
    ) -> HistoryMark:
        """The document's history. Raises `OtherHistoryError` if a copy at `rev` is of another."""
        loaded = await self.store.load_rows(doc_id, now=await self.clock.now(), paths=())
        if known is not None:
            await self._committer.require_history(doc_id, known, loaded, rev)
        return mark_of(loaded)

    async def get_changes_since(self, doc_id: str, rev: int) -> list[Change]:
        """No change, or one with every row written after `rev`. Raises `DocDeletedError`."""
        now = await self.clock.now()
        loaded = await self.store.load_rows(doc_id, now=now, since_rev=rev)
        if rev >= loaded.floor:
            return self._as_changes(await self._join(loaded, rev), rev, now)
        whole = await self.store.load_rows(doc_id, now=now)
        return self._as_changes(await self._join(whole, rev, reset_row(whole)), rev, now)

    async def get_rows_since(self, doc_id: str, rev: int) -> list[Change]:
        """The same, and never the whole document: what was written, for whoever merges it."""
        now = await self.clock.now()
        loaded = await self.store.load_rows(doc_id, now=now, since_rev=rev)
        return self._as_changes(await self._join(loaded, rev), rev, now)

    async def commit_changes(
        self,
        doc_id: str,
        changes: Sequence[AnyChange],
        options: CommitOptions | None = None,
    ) -> CommitResult:
        """Commit every change that is new; the answer is one change with the id of the first.

        It holds what became of every path that was sent, and everything since the sender's
        revision. Raises `ChangeRefusedError` naming a change that no replica can take (then nothing
        of the submission is stored), `DocDeletedError`, `AlgorithmMismatchError`,
        `RevConflictError`.
        """
        return await self._commit(current_context(), doc_id, changes, options)

    async def change(
        self,
        doc_id: str,
        edit: Callable[[JSONPatch], object],
        metadata: Mapping[str, Json] | None = None,
    ) -> Change | None:
        """An edit by the server itself, broadcast to all. Returns it as it was submitted."""
        now = await self.clock.now()
        rev = await self.store.get_current_rev(doc_id)
        patch = JSONPatch()
        check_edits(edit(patch), "change()")
        if not patch.ops:
            await self.store.load_rows(doc_id, now=now, paths=())  # 410 here too
            return None
        submitted = Change(
            id=self._new_id(rev + 1),
            ops=[{**op, "ts": now} for op in patch.ops],
            base_rev=rev,
            rev=rev + 1,
            created_at=now,
            metadata=metadata,
        )
        await self._commit(CallContext(), doc_id, [submitted], None)
        return submitted

    async def edit(
        self, doc_id: str, make_ops: MakeOps, metadata: Mapping[str, Json] | None = None
    ) -> Change | None:
        review = self.reviewer(doc_id, CallContext())
        for attempt in range(1, MAX_EDIT_ATTEMPTS + 1):
            try:
                async with self._locks(doc_id):
                    edit = await self._edits.commit(doc_id, make_ops, metadata, review)
                break
            except RevConflictError:  # of another process
                if attempt == MAX_EDIT_ATTEMPTS:
                    raise
        if edit is None or not edit.done.stored:
            return None
        broadcast = broadcast_of(edit.call.changes, edit.done, edit.call.now)
        await self.on_changes_committed.emit_and_wait(doc_id, [broadcast], None, None)
        return edit.change

    async def read(self, doc_id: str, rev: int | None = None) -> tuple[Json, int]:
        """The state now, or at the revision of a version. Raises `VersionError` for another one."""
        if rev is not None:
            return await state_of_version(self.store.versions, doc_id, rev), rev
        return await self._committer.current(doc_id, await self.clock.now())

    async def summary(self, doc_id: str) -> Summary:
        loaded = await self.store.load_rows(doc_id, now=await self.clock.now())
        newest_at = max((int(row.ts) for row in loaded.rows), default=None)
        size = sum(len(row.encoded) for row in loaded.rows)
        return Summary(rev=loaded.rev, modified_at=newest_at, bytes=size)

    async def export_records(self, doc_id: str) -> AsyncIterator[Mapping[str, Json]]:
        loaded = await self.store.load_rows(doc_id, now=await self.clock.now())
        for record in records_of(loaded):
            yield record

    async def import_records(
        self, doc_id: str, state: Json, records: Sequence[Mapping[str, Any]]
    ) -> None:
        """Make a document with the fields and authors of an export, in revisions of its own."""
        await self.review_first(doc_id, state)
        source = loaded_of(records)
        async with self._locks(doc_id):
            now = await self.clock.now()
            await self.store.seed(doc_id, build_state(source), seed_rows(source), now=now)
        if changes := await self.get_changes_since(doc_id, 0):
            await self.on_changes_committed.emit_and_wait(doc_id, changes, None, None)

    async def list_history(
        self, doc_id: str, *, before: int | None = None, limit: int = 50
    ) -> list[Moment]:
        versions = self.store.versions
        named = [] if versions is None else await versions.list_versions(doc_id)
        loaded = await self.store.load_rows(doc_id, now=await self.clock.now())
        return moments_of_rows(loaded, named, before, limit)

    async def blame(self, doc_id: str, path: str) -> list[Run]:
        """Who wrote each field at or below a path, and when."""
        loaded = await self.store.load_rows(doc_id, now=await self.clock.now())
        return blame_of_rows(loaded, path)

    async def capture_current_version(
        self, doc_id: str, metadata: Mapping[str, Json] | None = None
    ) -> str | None:
        """Save the head with its state; its id, `None` for a document that does not exist.

        Raises `VersionError` for metadata that only the server sets, or a store without versions.
        """
        check_version_metadata(metadata)
        if self.store.versions is None:
            raise VersionError(
                "LWW versioning requires a store that implements VersioningStoreBackend"
            )
        now = await self.clock.now()
        loaded = await self.store.load_rows(doc_id, now=now)
        if not loaded.rev:
            return None
        state = await self.offload(steps_of_encoded(loaded.rows), lambda: build_state(loaded))
        version = Version(
            id=self._version_ids(now),
            origin="main",
            start_rev=loaded.rev,
            end_rev=loaded.rev,
            started_at=now,
            ended_at=now,
            metadata=dict(metadata or {}),
        )
        await self.store.versions.create_version(doc_id, version, state)
        self.on_version_saved.emit(doc_id, version.id)
        return version.id

    async def delete_doc(self, doc_id: str, *, skip_tombstone: bool = False) -> None:
        """Remove the document, leaving a tombstone. One that stands already is kept."""
        context = current_context()
        async with self._locks(doc_id):
            now, tombstone = await self.clock.now(), None
            if not skip_tombstone:
                tombstone = await new_tombstone(
                    self.store, doc_id, client_id=context.client_id, now=now
                )
            await self.store.delete_doc(doc_id, tombstone, now=now)
            self._committer.forget(doc_id)
            self._joined.forget(doc_id)
        await self.on_doc_deleted.emit_and_wait(doc_id, context.connection_id)

    def forget(self, doc_id: str) -> None:
        self._committer.forget(doc_id)

    async def undelete_doc(self, doc_id: str) -> bool:
        """Remove the tombstone; whether there was one. The data does not come back."""
        return await self.store.remove_tombstone(doc_id)

    async def _commit(
        self,
        caller: CallContext,
        doc_id: str,
        changes: Sequence[AnyChange],
        options: CommitOptions | None,
    ) -> CommitResult:
        if not changes:
            return CommitResult(changes=())
        await self.offload(steps_of(changes), lambda: check(changes, self._limits))
        known = known_history(caller.options)
        key, mine = (doc_id, changes[0].id), object()
        if key in self._in_hand:  # sent again: it would be, for as long as the first one takes
            caller.keep_waiting()
        try:
            async with self._locks(doc_id):
                caller.require_waiting()
                self._in_hand[key] = mine
                now = await self.clock.now()
                done = await self._committer.commit(
                    CommitCall(doc_id, changes, now, known, self.reviewer(doc_id, caller))
                )
        finally:
            if self._in_hand.get(key) is mine:
                del self._in_hand[key]
        if done.stored:
            # Right after the lock: subscribers are called before another commit can go on, and one
            # that commits to this document in turn does not wait for itself.
            broadcast = broadcast_of(changes, done, now)
            await self.on_changes_committed.emit_and_wait(
                doc_id, [broadcast], options, caller.connection_id
            )
        else:
            self.on_nothing_stored.emit(doc_id, caller.connection_id)
        return result_of(changes, done, now, has_head=known is not None)

    def commit_at_once(
        self, context: CallContext, doc_id: str, changes: Sequence[ChangeInput], then: Then
    ) -> CommitResult | Begun | None:
        now = self.clock.now_at_once()
        is_free = self.on_changes_committed.is_plain and self._locks.is_free(doc_id)
        if now is None or not is_free:
            return None
        if self.content_rules is not None and self.content_rules.rules_of(doc_id):
            return None
        known = known_history(context.options) if context.options else None
        call = CommitCall(doc_id, changes, now, known)
        begun = self._committer.commit_at_once(call)
        if isinstance(begun, Saving):
            begun.saved.add_done_callback(partial(self._saved, begun, context, then))
            return Begun.BEGUN
        return None if begun is None else self._announced(call, begun, context)

    def _saved(
        self, saving: Saving, context: CallContext, then: Then, saved: asyncio.Future[bool]
    ) -> None:
        """Tell of a commit that was begun at once, or have it carried out the long way."""
        if saved.cancelled():
            then(UnavailableError("the server is going away", {"reason": "CLOSING"}))
        elif isinstance(error := saved.exception(), StorageError):
            then(error)
        elif error is not None or not saved.result():
            then(None)
        else:
            then(self._announced(saving.call, saving.commit.committed, context))

    def _announced(self, call: CommitCall, done: Committed, context: CallContext) -> CommitResult:
        """Tell the subscribers of a commit; its result."""
        broadcast = broadcast_of(call.changes, done, call.now)
        self.on_changes_committed.emit(call.doc_id, [broadcast], None, context.connection_id)
        return result_of(call.changes, done, call.now, has_head=call.known is not None)

    async def _join(
        self, loaded: LoadedRows, base_rev: int, first: bytes | None = None
    ) -> Joined | None:
        steps = _STEPS * len(loaded.rows)
        return await self.offload(steps, lambda: joined(loaded, base_rev, first))

    def _as_changes(self, joined: Joined | None, base_rev: int, now: Millis) -> list[Change]:
        if joined is None:
            return []
        # Such a change has no id of its own; callers that ask for the token get the head's id.
        wants_token = "token" in current_context().options
        extra = {"head": joined.mark.change_id} if wants_token else None
        id, committed_at = self._new_id(joined.rev), joined.committed_at or now
        change = change_of_rows(
            id, joined.ops, base_rev, joined.rev, now, committed_at, extra=extra
        )
        return [change]

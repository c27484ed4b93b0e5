"""`LWWServer`: documents whose fields are decided by the last write (`spec/lww.md` 7)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from patches.aio.keyed_locks import KeyedLocks
from patches.errors import (
    ChangeRefusedError,
    OpsRefusedError,
    OtherHistoryError,
    PatchesError,
    RevConflictError,
    VersionError,
)
from patches.json_patch import JSONPatch
from patches.limits import Limits
from patches.model.change import Change, Snapshot
from patches.model.checks import check_ops
from patches.model.ids import SortableIds, change_ids
from patches.model.json_values import Json
from patches.runtime import Millis, Runtime
from patches_server.documents.clock import ServerClock
from patches_server.documents.context import CallContext, current_context
from patches_server.documents.document_server import DocumentServer, is_repeated
from patches_server.documents.history import (
    HistoryMark,
    KnownHistory,
    known_history,
    require_same_history,
)
from patches_server.documents.offload import Aside, steps_of, steps_of_encoded
from patches_server.documents.records import (
    CommitOptions,
    CommitResult,
    Tombstone,
    Version,
    check_version_metadata,
)
from patches_server.lww.commit import (
    AnyChange,
    Decision,
    answer_rows,
    check_lww_ops,
    client_rev_of,
    decide,
    fresh_changes,
    new_rows,
    sent_paths,
)
from patches_server.lww.encoding import change_of_rows, newest, reset_row
from patches_server.lww.rows import Row, RowTable, commit_order
from patches_server.lww.sizes import DocRoom, first_beyond, size_of, sizes_around
from patches_server.lww.state import build_state
from patches_server.lww.store import LoadedRows, LWWServerStore
from patches_server.lww.structural import as_field_writes, has_structural_ops

DAY_MS: Final = 86_400_000
_MAX_ATTEMPTS: Final = 5
_COMPACT_EVERY: Final = 256  # revisions of a document
_COMPACT_AT_ONCE: Final = 1_000
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
        runtime = runtime or Runtime()
        self.store: LWWServerStore = getattr(store, "lww", store)
        self._change_id_ttl = change_id_ttl
        self._removal_ttl = removal_ttl
        self._limits = limits or Limits()
        self.aside = Aside(runtime, self._limits)
        self.clock = ServerClock(self.store, runtime)
        self._new_id = change_ids(runtime.random)
        self._version_ids = SortableIds(runtime.random)
        self._locks = KeyedLocks()
        #: The commit that a document's lock is held for.
        self._in_turn: dict[str, Sequence[AnyChange]] = {}
        self._room = DocRoom(self._limits.max_doc_bytes)

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
        loaded = await self.store.load_rows(doc_id, now=now)
        base_rev = loaded.snapshot.rev if loaded.snapshot else 0
        changes = await self._as_changes(loaded, base_rev, now)
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
            await self._require_history(doc_id, known, loaded, rev)
        return HistoryMark(loaded.token, loaded.rev, loaded.head_id)

    async def get_changes_since(self, doc_id: str, rev: int) -> list[Change]:
        """No change, or one with every row written after `rev`. Raises `DocDeletedError`."""
        now = await self.clock.now()
        loaded = await self.store.load_rows(doc_id, now=now, since_rev=rev)
        if rev >= loaded.floor:
            return await self._as_changes(loaded, rev, now)
        whole = await self.store.load_rows(doc_id, now=now)
        return await self._as_changes(whole, rev, now, first=[reset_row(whole)])

    async def get_rows_since(self, doc_id: str, rev: int) -> list[Change]:
        """The same, and never the whole document: what was written, for whoever merges it."""
        now = await self.clock.now()
        loaded = await self.store.load_rows(doc_id, now=now, since_rev=rev)
        return await self._as_changes(loaded, rev, now)

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
        """An edit by the server itself, told to everybody. Returns it as it was submitted."""
        now = await self.clock.now()
        rev = await self.store.get_current_rev(doc_id)
        patch = JSONPatch()
        edit(patch)
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
        state = await self.aside(steps_of_encoded(loaded.rows), lambda: build_state(loaded))
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
        return version.id

    async def delete_doc(self, doc_id: str, *, skip_tombstone: bool = False) -> None:
        """Remove the document, leaving a tombstone. One that stands already is kept."""
        context = current_context()
        async with self._locks(doc_id):
            now = await self.clock.now()
            tombstone = None
            if not skip_tombstone and await self.store.get_tombstone(doc_id) is None:
                tombstone = Tombstone(
                    doc_id=doc_id,
                    deleted_at=now,
                    last_rev=await self.store.get_current_rev(doc_id),
                    deleted_by_client_id=context.client_id,
                )
            await self.store.delete_doc(doc_id, tombstone, now=now)
            self._room.forget(doc_id)
        await self.on_doc_deleted.emit_and_wait(doc_id, context.connection_id)

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
        await self.aside(steps_of(changes), lambda: self._check(changes))
        if is_repeated(changes, self._in_turn.get(doc_id)):
            caller.keep_waiting()
        known = known_history(caller.options)
        async with self._locks(doc_id):
            caller.require_waiting()
            self._in_turn[doc_id] = changes
            try:
                now = await self.clock.now()
                done = await self._store(doc_id, changes, now, known)
                if done.stored:
                    await self._compact(doc_id, done.rev, now)
            finally:
                del self._in_turn[doc_id]
        if done.stored:
            # Right after the lock: subscribers are called before another commit can go on, and one
            # that commits to this document in turn does not wait for itself.
            rows = [row.encoded for row in done.stored]
            broadcast = change_of_rows(changes[0].id, rows, done.rev - 1, done.rev, now)
            await self.on_changes_committed.emit_and_wait(
                doc_id, [broadcast], options, caller.connection_id
            )
        else:
            self.on_nothing_stored.emit(doc_id, caller.connection_id)
        base_rev = client_rev_of(changes[0]) or 0
        extra = None if known is None else {"head": done.head_id}
        answer = change_of_rows(changes[0].id, done.answer, base_rev, done.rev, now, extra=extra)
        return CommitResult(changes=[answer], token=done.token)

    async def _require_history(
        self, doc_id: str, known: KnownHistory, loaded: LoadedRows, rev: int
    ) -> None:
        require_same_history(doc_id, known, token=loaded.token, head_rev=loaded.rev, rev=rev)
        if known.last_id is None or (known.last_rev, known.last_id) == (loaded.rev, loaded.head_id):
            return
        if await self.store.made_by(doc_id, known.last_rev, known.last_id) is False:
            raise OtherHistoryError(doc_id)

    async def _store(
        self,
        doc_id: str,
        changes: Sequence[AnyChange],
        now: Millis,
        known: KnownHistory | None,
    ) -> _Committed:
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                return await self._store_once(doc_id, changes, now, known)
            except RevConflictError:  # another process: decide again on what it wrote
                if attempt == _MAX_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    async def _store_once(
        self,
        doc_id: str,
        changes: Sequence[AnyChange],
        now: Millis,
        known: KnownHistory | None,
    ) -> _Committed:
        client_rev = client_rev_of(changes[0])
        paths = sent_paths(changes)
        ids = [change.id for change in changes] if self.store.keeps_change_ids else []
        needs_whole = has_structural_ops(changes)
        loaded = await self.store.load_rows(
            doc_id,
            now=now,
            paths=None if needs_whole else paths,
            since_rev=None if needs_whole else client_rev,
            change_ids=ids,
        )
        if known is not None:
            await self._require_history(doc_id, known, loaded, client_rev or 0)
        is_behind = client_rev is not None and client_rev < loaded.floor
        if is_behind:
            loaded = await self.store.load_rows(doc_id, now=now, change_ids=ids)
        fresh = fresh_changes(changes, loaded.seen)
        if needs_whole:
            given, whole = fresh, loaded
            fresh = await self.aside(
                steps_of(fresh) + steps_of_encoded(loaded.rows),
                lambda: as_field_writes(whole, given, self._limits),
            )
        steps = steps_of(fresh) + steps_of_encoded(loaded.rows)
        decision, stored = await self.aside(steps, lambda: _decided(loaded, fresh, now))
        if stored:
            await self._require_room(doc_id, loaded, fresh, stored, now)
            await self.store.save_rows(
                doc_id,
                stored,
                expected_rev=loaded.rev,
                now=now,
                hide=decision.hide,
                change_ids=[change.id for change in fresh] if ids else [],
                expires_at=now + self._change_id_ttl,
                head_id=changes[0].id,
                token=loaded.token,
            )
            self._room.wrote(doc_id, size_of(stored))

        def answered() -> list[bytes]:
            rows = answer_rows(loaded, stored, decision, paths, 0 if is_behind else client_rev)
            first = [reset_row(loaded)] if is_behind else []
            return [*first, *(row.encoded for row in rows)]

        answer = await self.aside(_STEPS * (len(paths) + len(loaded.rows)), answered)
        token = loaded.token
        if known is not None and token is None and stored:  # the document was made by this
            token = (await self.store.load_rows(doc_id, now=now, paths=())).token
        return _Committed(
            rev=loaded.rev + 1 if stored else loaded.rev,
            stored=stored,
            answer=answer,
            head_id=changes[0].id if stored else loaded.head_id,
            token=None if known is None else token,
        )

    async def _require_room(
        self,
        doc_id: str,
        loaded: LoadedRows,
        fresh: Sequence[AnyChange],
        stored: Sequence[Row],
        now: Millis,
    ) -> None:
        """Raise `ChangeRefusedError` for the change that lets a document grow beyond its limit."""
        max_doc_bytes = self._room.max_doc_bytes
        if max_doc_bytes is None or self._room.suffices(doc_id, size_of(stored)):
            return
        whole = await self.store.load_rows(doc_id, now=now)
        sizes = await self.aside(
            _STEPS * (len(whole.rows) + len(stored)), lambda: sizes_around(whole, stored)
        )
        most = max(max_doc_bytes, sizes.before)
        if sizes.after > most:
            # Named and final: its author's client sets it aside, and what makes the document
            # smaller, which may come right after it, gets through.
            change_id = await self.aside(
                _STEPS * (len(whole.rows) + len(stored)) * len(fresh),
                lambda: first_beyond(whole, loaded, fresh, now, most=most),
            )
            raise ChangeRefusedError(
                change_id,
                f"Document {doc_id} would have {sizes.after} bytes, at most {max_doc_bytes} are "
                f"allowed",
                code=413,
                limit="max_doc_bytes",
                final=True,
            )
        self._room.measured(doc_id, sizes.before)

    def _check(self, changes: Sequence[AnyChange]) -> None:
        for change in changes:
            try:
                check_ops(change.ops, self._limits, where=f"change {change.id!r}: ops")
                check_lww_ops(change)
            except OpsRefusedError as exc:
                raise ChangeRefusedError(change.id, str(exc), code=exc.code) from exc

    async def _compact(self, doc_id: str, rev: int, now: Millis) -> None:
        if rev % _COMPACT_EVERY:
            return
        before = now - self._removal_ttl
        try:
            if self.store.branches is not None and await self.store.branches.load_branch(doc_id):
                return  # a branch keeps its removals: they have yet to be merged
            await self.store.drop_removals(doc_id, stored_before=before, limit=_COMPACT_AT_ONCE)
        except PatchesError:  # the commit is stored: it does not fail for this
            _log.warning("document %.128r could not be compacted", doc_id, exc_info=True)

    async def _as_changes(
        self, loaded: LoadedRows, base_rev: int, now: Millis, *, first: Sequence[bytes] = ()
    ) -> list[Change]:
        # The id of such a change says nothing; who asks for the token is told the head's.
        asked = "token" in current_context().options
        extra = {"head": loaded.head_id} if asked else None

        def change() -> list[Change]:
            reader_rev = 0 if first else base_rev  # who starts anew has missed everything
            rows = [row for row in loaded.rows if not row.hidden or row.concerns(reader_rev)]
            if not rows and not first:
                return []
            rev = max(base_rev, loaded.floor, *(row.rev for row in rows))
            encoded = [*first, *(row.encoded for row in commit_order(rows))]
            committed_at = newest(rows) or now
            id = self._new_id(rev)
            return [change_of_rows(id, encoded, base_rev, rev, now, committed_at, extra=extra)]

        return await self.aside(_STEPS * len(loaded.rows), change)


def _decided(
    loaded: LoadedRows, fresh: Sequence[AnyChange], now: Millis
) -> tuple[Decision, list[Row]]:
    decision = decide(RowTable(loaded.rows), fresh, now)
    return decision, new_rows(loaded, decision)


@dataclass(frozen=True, slots=True)
class _Committed:
    """A commit as it was stored: the head after it, its rows, and the rows of the answer."""

    rev: int
    stored: Sequence[Row]
    answer: Sequence[bytes]
    head_id: str | None
    token: str | None

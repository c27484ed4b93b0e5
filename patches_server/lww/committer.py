"""`LWWCommitter`: carries a commit out, from the rows that it rests on to the rows in the store.

A commit is read, decided by one pure function (`decided`), and stored in one transaction that
checks the head it was decided on; when another process was faster, all of it is done again.
"""

from __future__ import annotations

import logging
from asyncio import Future
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, cast

from patches.errors import (
    ChangeRefusedError,
    OtherHistoryError,
    PatchesError,
    RevConflictError,
)
from patches.limits import Limits
from patches.model import codec
from patches.model.json_values import Json
from patches.runtime import Millis
from patches_server.documents.backend import exclusively
from patches_server.documents.context import Reviewer
from patches_server.documents.history import KnownHistory, require_same_history
from patches_server.documents.kept_bytes import RULE_CACHE_BYTES, KeptBytes
from patches_server.documents.offload import Offloader, steps_of, steps_of_encoded
from patches_server.lww.commit import AnyChange, client_rev_of, sent_paths
from patches_server.lww.decided import CommitCall, Committed, Decided, check, decided
from patches_server.lww.ordinary import COMPACT_EVERY, OrdinaryCommit
from patches_server.lww.sizes import DocRoom, first_beyond, size_of, sizes_around
from patches_server.lww.state import rebuilt_after, state_after, state_of
from patches_server.lww.store import DecidesAtOnce, DecidesInOrder, LoadedRows, LWWServerStore
from patches_server.lww.structural import has_structural_ops

_MAX_ATTEMPTS: Final = 5
_COMPACT_AT_ONCE: Final = 1_000
_STEPS: Final = 4  # of an op or a row

#: Revision, change and history of a head.
Mark: TypeAlias = tuple[int, str | None, str | None]

_log = logging.getLogger("patches_server.lww")


@dataclass(slots=True)
class Saving:
    """A commit that the store is to decide and to write. `saved`: whether it has done so."""

    call: CommitCall
    commit: OrdinaryCommit
    saved: Future[bool]


class LWWCommitter:
    """Commits to the documents of a store, one commit of a document at a time."""

    def __init__(
        self,
        store: LWWServerStore,
        *,
        change_id_ttl: Millis,
        removal_ttl: Millis,
        limits: Limits,
        offload: Offloader,
    ) -> None:
        self._store = store
        self._change_id_ttl = change_id_ttl
        self._removal_ttl = removal_ttl
        self._limits = limits
        self._offload = offload
        self._room = DocRoom(limits.max_doc_bytes)
        #: The states after the newest commits, for the next one that has to be judged.
        self._states = KeptBytes[tuple[Mark, Json]](RULE_CACHE_BYTES)
        # The store's own class has to say so: one that wraps it may have more to do for a commit.
        declared = type(store).__dict__
        self._commit_at_once = self._begin_commit = None
        if declared.get("decides_at_once") is True:
            self._commit_at_once = cast("DecidesAtOnce", store).commit_at_once
        elif declared.get("decides_in_order") is True:
            self._begin_commit = cast("DecidesInOrder", store).begin_commit

    async def commit(self, call: CommitCall) -> Committed:
        """Store what is new in a call. Raises what the refusals are."""
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            # A race that was lost once is not lost again, where the store can see to that. What
            # asks an application's rules is not decided while others wait.
            is_alone = attempt > 1 and call.review is None
            try:
                async with (
                    exclusively(self._store, call.doc_id) if is_alone else nullcontext(self._store)
                ) as store:
                    done = await self._commit_once(call, store)
            except RevConflictError:  # another process: decide again on what it wrote
                if attempt == _MAX_ATTEMPTS or call.expected_rev is not None:
                    raise
            else:
                if done.stored and done.rev % COMPACT_EVERY == 0:
                    await self._compact(call.doc_id, call.now)
                return done
        raise AssertionError("unreachable")

    def commit_at_once(self, call: CommitCall) -> Committed | Saving | None:
        """The same, without waiting for anything. `None`: that cannot be done, and nothing was."""
        at_once, begin = self._commit_at_once, self._begin_commit
        if at_once is None and begin is None:
            return None
        try:
            check(call.changes, self._limits)
            if has_structural_ops(call.changes):
                return None
            commit = OrdinaryCommit(
                call,
                keeps_ids=self._store.keeps_change_ids,
                change_id_ttl=self._change_id_ttl,
                room=self._room,
                limits=self._limits,
                offload=self._offload,
            )
            if at_once is None:
                assert begin is not None
                saved = begin(
                    call.doc_id,
                    commit,
                    now=call.now,
                    paths=commit.paths,
                    since_rev=commit.client_rev,
                    change_ids=commit.change_ids,
                )
                return Saving(call, commit, saved)
            is_stored = at_once(
                call.doc_id,
                commit,
                now=call.now,
                paths=commit.paths,
                since_rev=commit.client_rev,
                change_ids=commit.change_ids,
            )
        except PatchesError:  # the long way refuses it, and says why
            return None
        return commit.committed if is_stored else None

    async def require_history(
        self, doc_id: str, known: KnownHistory, loaded: LoadedRows, rev: int
    ) -> None:
        """Raise `OtherHistoryError` for a copy at `rev` that is not of the history of `loaded`."""
        require_same_history(doc_id, known, token=loaded.token, head_rev=loaded.rev, rev=rev)
        if known.last_id is None or (known.last_rev, known.last_id) == (loaded.rev, loaded.head_id):
            return
        if await self._store.made_by(doc_id, known.last_rev, known.last_id) is False:
            raise OtherHistoryError(doc_id)

    def forget(self, doc_id: str) -> None:
        """The document was deleted."""
        self._room.forget(doc_id)
        self._states.forget(doc_id)

    async def _commit_once(self, call: CommitCall, store: LWWServerStore) -> Committed:
        doc_id, changes, now = call.doc_id, call.changes, call.now
        client_rev = client_rev_of(changes[0])
        paths = sent_paths(changes)
        ids = [change.id for change in changes] if self._store.keeps_change_ids else []
        needs_whole = has_structural_ops(changes)
        loaded = await store.load_rows(
            doc_id,
            now=now,
            paths=None if needs_whole else paths,
            since_rev=None if needs_whole else client_rev,
            change_ids=ids,
        )
        if call.expected_rev is not None and loaded.rev != call.expected_rev:
            raise RevConflictError
        if call.known is not None:
            await self.require_history(doc_id, call.known, loaded, client_rev or 0)
        if client_rev is not None and client_rev < loaded.floor:
            loaded = await store.load_rows(doc_id, now=now, change_ids=ids)
        made = await self._offload(
            2 * (steps_of(changes) + steps_of_encoded(loaded.rows)),
            lambda: decided(call, loaded, paths, client_rev, self._limits),
        )
        if made.stored:
            await self._require_room(call, loaded, made)
            after: Json = None
            if call.review is not None:
                after = await self._review(call.review, call, loaded, made.fresh)
            await store.save_rows(
                doc_id,
                made.stored,
                expected_rev=loaded.rev,
                now=now,
                hide=made.decision.hide,
                change_ids=[change.id for change in made.fresh] if ids else [],
                expires_at=now + self._change_id_ttl,
                head_id=changes[0].id,
                token=loaded.token,
            )
            self._room.wrote(doc_id, size_of(made.stored))
            if call.review is not None and loaded.token is not None:
                mark = loaded.rev + 1, changes[0].id, loaded.token
                self._states.put(doc_id, (mark, after), codec.json_size(after))
        token = None if call.known is None else loaded.token
        if call.known is not None and token is None and made.stored:  # this made the document
            token = (await store.load_rows(doc_id, now=now, paths=())).token
        return Committed(
            rev=loaded.rev + 1 if made.stored else loaded.rev,
            stored=made.stored,
            answer=made.answer,
            head_id=changes[0].id if made.stored else loaded.head_id,
            token=token,
        )

    async def _review(
        self, review: Reviewer, call: CommitCall, loaded: LoadedRows, fresh: Sequence[AnyChange]
    ) -> Json:
        """Let the reviewer judge each change by the states before and after it; the last one."""
        mark = loaded.rev, loaded.head_id, loaded.token
        first = await self._state_at(call.doc_id, call.now, mark)
        before: Json = first
        whole: LoadedRows | None = None
        steps = 2 * (steps_of_encoded(loaded.rows) + steps_of(fresh))
        for count, change in enumerate(fresh, start=1):
            some = fresh[:count]
            after, is_sure = await self._offload(
                steps, partial(state_after, first, loaded, some, call.now)
            )
            if not is_sure:
                whole = whole or await self._store.load_rows(call.doc_id, now=call.now)
                after = await self._offload(
                    steps + steps_of_encoded(whole.rows),
                    partial(rebuilt_after, whole, loaded, some, call.now),
                )
            await review(change, before, after)
            before = after
        return before

    async def current(self, doc_id: str, now: Millis) -> tuple[Json, int]:
        """The state as it is now, shared and not to be changed, and its revision."""
        head = await self._store.load_rows(doc_id, now=now, paths=())
        mark = head.rev, head.head_id, head.token
        return (await self._state_at(doc_id, now, mark) if head.rev else None), head.rev

    async def _state_at(self, doc_id: str, now: Millis, mark: Mark) -> Json:
        """The state at a head, from what is kept or else from all rows."""
        kept = self._states.get(doc_id)
        if kept is not None and kept[0] == mark:
            return kept[1]
        whole = await self._store.load_rows(doc_id, now=now)
        return await self._offload(2 * steps_of_encoded(whole.rows), partial(state_of, whole))

    async def _require_room(self, call: CommitCall, loaded: LoadedRows, made: Decided) -> None:
        """Raise `ChangeRefusedError` for the change that lets a document grow beyond its limit."""
        doc_id, max_doc_bytes = call.doc_id, self._room.max_doc_bytes
        if max_doc_bytes is None or self._room.suffices(doc_id, size_of(made.stored)):
            return
        whole = await self._store.load_rows(doc_id, now=call.now)
        steps = _STEPS * (len(whole.rows) + len(made.stored))
        sizes = await self._offload(steps, lambda: sizes_around(whole, made.stored))
        most = max(max_doc_bytes, sizes.before)
        if sizes.after > most:
            # Named and final: its author's client sets it aside, and what makes the document
            # smaller, which may come right after it, gets through.
            change_id = await self._offload(
                steps * len(made.fresh),
                lambda: first_beyond(whole, loaded, made.fresh, call.now, most=most),
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

    async def _compact(self, doc_id: str, now: Millis) -> None:
        before = now - self._removal_ttl
        branches = self._store.branches
        try:
            if branches is not None and await branches.load_branch(doc_id):
                return  # a branch keeps its removals: they have yet to be merged
            await self._store.drop_removals(doc_id, stored_before=before, limit=_COMPACT_AT_ONCE)
        except PatchesError:  # the commit is stored: it does not fail for this
            _log.warning("document %.128r could not be compacted", doc_id, exc_info=True)

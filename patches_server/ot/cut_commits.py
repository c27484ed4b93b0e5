"""`CutCommits`: finishes commits whose callers have gone while they were being stored."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from patches.aio.keyed_locks import KeyedLocks
from patches.errors import DuplicateChangeIdsError, PatchesError, RevConflictError
from patches.limits import Limits
from patches.model.change import Change
from patches_server.documents.offload import Offloader
from patches_server.ot.bounds import grown
from patches_server.ot.proposal import CommitCall
from patches_server.ot.store import DocHead, OTServerStore

_log = logging.getLogger("patches_server.ot")


class CutCommits:
    """`forget` drops what is kept of a document's log; `notify` announces a commit."""

    def __init__(
        self,
        store: OTServerStore,
        locks: KeyedLocks,
        offload: Offloader,
        limits: Limits,
        *,
        forget: Callable[[str], None],
        notify: Callable[..., Awaitable[Any]],
    ) -> None:
        self._store, self._locks = store, locks
        self._offload, self._limits = offload, limits
        self._forget, self._notify = forget, notify

    async def see_through(self, call: CommitCall, changes: Sequence[Change], head: DocHead) -> None:
        """Finish a commit whose caller has gone while it was being stored.

        The write may be on its way to disk or not. Made again, it comes after the first one, and
        the others are notified either way; otherwise they would see it with the next change only.
        """
        try:
            if not await self._is_stored(call, changes, head):
                return  # another commit was first; the caller will send it again
        except PatchesError:
            _log.warning("document %.128r: a commit was cut", call.doc_id, exc_info=True)
            return
        await self._notify(call.doc_id, changes, call.options, call.caller.connection_id)

    async def _is_stored(self, call: CommitCall, changes: Sequence[Change], head: DocHead) -> bool:
        doc_id = call.doc_id
        async with self._locks(doc_id):
            self._forget(doc_id)
            bounds = await self._offload(
                call.steps, lambda: grown(head.bounds, changes, self._limits)
            )
            try:
                await self._store.save_changes(
                    doc_id, changes, expected=head, now=call.now, bounds=bounds
                )
            except (RevConflictError, DuplicateChangeIdsError):
                rows = await self._store.list_changes(
                    doc_id, start_after=head.rev, limit=len(changes)
                )
                return [row.id for row in rows] == [change.id for change in changes]
        return True

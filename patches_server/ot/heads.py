"""`HeadStates`: the states of documents as they are now, as bytes, for whoever opens them.

The log of a document goes back to its newest version, a thousand changes ago. Whoever opens it
would get all of them and replay them. So once more than `MAX_BEHIND` changes follow the state that
is at hand, the state after them is built, aside, and kept; readers get it and what was committed
since. It is built by the first who asks, for all who ask meanwhile, or before: when no commit has
come for a moment.

A kept state says after which change it is. It counts for nothing unless the store still has that
change, so other processes, deletions and files that were set back need no notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from patches.errors import PatchesError
from patches.model.change import Snapshot
from patches_server.documents.kept_bytes import MAX_BYTES, KeptBytes
from patches_server.ot.history import OTHistory, state_of
from patches_server.ot.store import OTServerStore

#: Changes that are sent beside a state.
MAX_BEHIND: Final = 100
#: A document to which nothing was committed for so long is at rest.
_REST_S: Final = 2.0
#: Documents that are checked when nothing is committed to them for a while.
_MAX_WATCHED: Final = 10_000

_log = logging.getLogger("patches_server.ot")


@dataclass(frozen=True, slots=True)
class HeadState:
    """A state, and the change that it is after."""

    state: bytes
    rev: int
    change_id: str


class HeadStates:
    """The head states of a store's documents. `own` runs a coroutine that nobody waits for."""

    def __init__(
        self,
        store: OTServerStore,
        history: OTHistory,
        own: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        *,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._store, self._history, self._own = store, history, own
        self._kept = KeptBytes[HeadState](max_bytes)
        self._being_built: dict[str, asyncio.Task[HeadState]] = {}
        #: How many changes were committed since a state was kept, and at the last look.
        self._behind: dict[str, int] = {}
        self._checked: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        """About how many bytes are kept."""
        return self._kept.size

    async def snapshot(self, doc_id: str) -> Snapshot:
        """The document as it is now: a state, and at most about `MAX_BEHIND` changes after it.

        Raises `UnavailableError` when a version's state is missing, `DocDeletedError`.
        """
        building = self._being_built.get(doc_id)
        if building is None:
            found = await self._at_hand(doc_id)
            if len(found.changes) <= MAX_BEHIND:
                return found
            # Somebody else may have begun meanwhile, or even have finished.
            last, kept = found.changes[-1], self._kept.get(doc_id)
            if kept is not None and (kept.rev, kept.change_id) == (last.rev, last.id):
                return Snapshot.from_encoded(kept.state, rev=kept.rev)
            building = self._being_built.get(doc_id)
            if building is None:
                building = self._being_built[doc_id] = self._own(self._built(doc_id, found))
                building.add_done_callback(lambda _: self._being_built.pop(doc_id, None))
        head = await asyncio.shield(building)
        return Snapshot.from_encoded(head.state, rev=head.rev)

    def committed(self, doc_id: str, number: int) -> None:
        """So many changes were committed: their document is checked when it is idle."""
        behind = self._behind[doc_id] = self._behind.get(doc_id, 0) + number
        if behind > MAX_BEHIND and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_REST_S, self._check_idle)
        if len(self._behind) > _MAX_WATCHED:
            del self._behind[next(iter(self._behind))]

    def forget(self, doc_id: str) -> None:
        """The document was deleted."""
        self._kept.forget(doc_id)
        self._behind.pop(doc_id, None)

    async def _at_hand(self, doc_id: str) -> Snapshot:
        """The newest state that is kept or stored, and the changes after it."""
        kept = self._kept.get(doc_id)
        if kept is not None:
            found = await self._store.list_changes(doc_id, start_after=kept.rev - 1)
            if found and found[0].id == kept.change_id:
                return Snapshot.from_encoded(kept.state, rev=kept.rev, changes=found[1:])
        stored = await self._store.load_snapshot(doc_id)
        rev = stored.version.end_rev if stored.version else 0
        return Snapshot.from_encoded(state_of(doc_id, stored), rev=rev, changes=stored.changes)

    async def _built(self, doc_id: str, found: Snapshot) -> HeadState:
        last = found.changes[-1]
        state = await self._history.built(doc_id, found.encoded_state, found.changes)
        head = HeadState(state, last.rev, last.id)
        self._kept.put(doc_id, head, len(state))
        self._behind.pop(doc_id, None)
        return head

    def _check_idle(self) -> None:
        """Build the states of documents to which nothing was committed since the last look."""
        self._timer = None
        waiting = {doc: behind for doc, behind in self._behind.items() if behind > MAX_BEHIND}
        for doc_id, behind in waiting.items():
            if self._checked.get(doc_id) == behind and doc_id not in self._being_built:
                self._behind.pop(doc_id, None)
                self._own(self._build_at_rest(doc_id))
        self._checked = {doc: behind for doc, behind in waiting.items() if doc in self._behind}
        if self._checked:
            self._timer = asyncio.get_running_loop().call_later(_REST_S, self._check_idle)

    async def _build_at_rest(self, doc_id: str) -> None:
        try:
            await self.snapshot(doc_id)
        except PatchesError:  # the next reader gets the error
            _log.debug("document %.128r: no state was built", doc_id, exc_info=True)

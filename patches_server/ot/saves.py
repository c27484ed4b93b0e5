"""Commits that were decided, and the saves of them that are on their way to disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from patches_server.ot.commit import Decision
from patches_server.ot.proposal import CommitCall, Proposal
from patches_server.ot.store import DocHead
from patches_server.ot.submission import Submission


@dataclass(slots=True)
class Done:
    """What was submitted and decided, and the token of the history, for a caller that wants it."""

    submission: Submission
    decision: Decision
    token: str | None


@dataclass(slots=True)
class Saving:
    """A commit that was decided and is on its way to disk. The next one may be decided on it."""

    call: CommitCall
    proposal: Proposal
    head: DocHead
    saved: asyncio.Future[None]
    token: str | None

    @property
    def done(self) -> Done:
        """What it comes to once it is stored."""
        return Done(self.proposal.submission, self.proposal.decision, self.token)


class SavesUnderWay:
    """The saves that a committer has begun. `on_failed(doc_id)` is called for those that fail."""

    def __init__(self, on_failed: Callable[[str], None]) -> None:
        self._on_failed = on_failed
        self._last: dict[str, asyncio.Future[None]] = {}
        #: How many saves of a document a task waits for: it reports them a little later than
        #: a callback would.
        self._waited_for: dict[str, int] = {}

    def add(self, doc_id: str, saved: asyncio.Future[None]) -> None:
        """One was begun."""
        self._last[doc_id] = saved
        saved.add_done_callback(partial(self._ended, doc_id))

    async def drain(self, doc_id: str) -> None:
        """Wait until the saves of a document that were begun are over."""
        if doc_id in self._last:
            await asyncio.wait([self._last[doc_id]])

    def is_waited_for(self, doc_id: str) -> bool:
        """Whether a task waits for a save of a document."""
        return doc_id in self._waited_for

    def wait_begins(self, doc_id: str) -> None:
        """A task waits for the save that was begun last."""
        self._waited_for[doc_id] = self._waited_for.get(doc_id, 0) + 1

    def wait_ends(self, doc_id: str) -> None:
        """It goes on in this turn."""
        left = self._waited_for.pop(doc_id) - 1
        if left:
            self._waited_for[doc_id] = left

    def _ended(self, doc_id: str, saved: asyncio.Future[None]) -> None:
        if self._last.get(doc_id) is saved:
            del self._last[doc_id]
        if saved.cancelled() or saved.exception() is not None:
            self._on_failed(doc_id)

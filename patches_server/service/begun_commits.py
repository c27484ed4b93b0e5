"""`BegunCommits`: a connection's commits that were decided at once and are on their way to disk.

They have no task, and one timer for all: a commit that is not stored within `timeout_s` is answered
with 503 and goes on, as any other call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class BegunCommit:
    """One of them. `done`: set when calls that came after it may go on."""

    done: asyncio.Event
    give_up: Callable[[], None]
    due_at: float
    has_given_up: bool = False


class BegunCommits:
    """At most one for each document. Owned by a session."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s: Final = timeout_s
        self._begun: dict[str, BegunCommit] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, doc_id: str, give_up: Callable[[], None]) -> BegunCommit:
        """A commit to a document is on its way; `give_up` is called if that takes too long."""
        loop = asyncio.get_running_loop()
        timeout_s = self._timeout_s
        due_at = loop.time() + (timeout_s or 0.0)
        begun = self._begun[doc_id] = BegunCommit(asyncio.Event(), give_up, due_at)
        if self._timer is None and timeout_s is not None:
            self._timer = loop.call_at(due_at, self._check)
        return begun

    def end(self, doc_id: str) -> BegunCommit:
        """It is over, either way."""
        return self._begun.pop(doc_id)

    def close(self) -> None:
        """Nobody waits for answers any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        # Armed again only by what still waits, so a busy connection makes a timer now and then.
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for begun in list(self._begun.values()):
            if begun.has_given_up:
                continue
            if begun.due_at > now:
                self._timer = loop.call_at(begun.due_at, self._check)
                return
            begun.has_given_up = True
            begun.give_up()

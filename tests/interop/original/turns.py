"""`Turns`: seeded waits inside a client, so that what may happen in either order does.

Where the original awaits something of its own (a store, a lock, a promise), its model gives up some
turns of the event loop. What it does between the arrival of an answer and its application may also
last: in a browser that is a transaction of the database.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable


class Turns:
    """The waits of one client, drawn from `seed`.

    `most`: event-loop turns at one place, at most. `answer_s`: seconds, at most, between the
    arrival of an answer and its application.
    """

    def __init__(self, seed: int, *, most: int = 4, answer_s: float = 0.0) -> None:
        self.random = random.Random(seed)
        self._most = most
        self._answer_s = answer_s
        self._may_apply = asyncio.Event()
        self._may_apply.set()
        #: An answer has arrived and is not applied yet.
        self.holds = False
        self.on_hold: Callable[[], object] = lambda: None

    async def take(self) -> None:
        """A place where the original awaits something that is ready soon."""
        for _ in range(self.random.randint(0, self._most)):
            await asyncio.sleep(0)

    async def before_applying(self) -> None:
        """The work on an answer that has arrived, before it is applied."""
        await self.take()
        if not self._may_apply.is_set():
            self.holds = True
            self.on_hold()
            await self._may_apply.wait()
            self.holds = False
        if self._answer_s:
            await asyncio.sleep(self.random.uniform(0, self._answer_s))

    def hold_answers(self) -> None:
        """Apply no answer from now on."""
        self._may_apply.clear()

    def apply_answers(self) -> None:
        """Go on."""
        self._may_apply.set()

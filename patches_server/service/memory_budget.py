"""`MemoryBudget`: what the frames that are being dealt with may take in memory, all together.

A frame of brackets takes more than twenty times its size when it is parsed. A few connections that
send such frames at once would take gigabytes, though each keeps to every limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final


class MemoryBudget:
    """Lets as much through at once as fits into `max_bytes`; the rest waits in order.

    What is larger than the whole budget is let through alone. `None`: everything is let through.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes: Final = max_bytes
        self._taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def taken(self) -> int:
        """How much is taken at present."""
        return self._taken

    async def take(self, amount: int) -> Share:
        """A share of the budget, as soon as there is room for it."""
        if self._waiting or not self._fits(amount):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append((amount, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back(amount)  # it came in the turn in which its taker was cancelled
                else:
                    self._waiting.remove((amount, turn))
                    self._wake()
                raise
        else:
            self._taken += amount
        return Share(self._give_back, amount)

    def _fits(self, amount: int) -> bool:
        if self._max_bytes is None or not self._taken:
            return True
        return self._taken + amount <= self._max_bytes

    def _give_back(self, amount: int) -> None:
        self._taken -= amount
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            amount, turn = self._waiting.popleft()
            self._taken += amount
            turn.set_result(None)


class Share:
    """A part of the budget, until it is given back. Giving it back twice is fine."""

    __slots__ = ("_amount", "_give_back", "_timer")

    def __init__(self, give_back: Callable[[int], None], amount: int) -> None:
        self._give_back, self._amount = give_back, amount
        self._timer: asyncio.TimerHandle | None = None

    def give_back_within(self, longest_s: float | None) -> None:
        """Give it back after so long at the latest: a peer can keep a call waiting for ever, and
        must not keep others from being read."""
        if longest_s is not None and self._amount:
            self._timer = asyncio.get_running_loop().call_later(longest_s, self.give_back)

    def give_back(self) -> None:
        """The frame and what was made of it are gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        amount, self._amount = self._amount, 0
        if amount:
            self._give_back(amount)


#: The share of what is too small to count.
NO_SHARE: Final = Share(lambda _amount: None, 0)

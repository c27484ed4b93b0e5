"""One first-come, first-served lock per key, kept only while somebody uses it."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class KeyedLocks:
    """`async with locks(doc_id):` excludes other holders of the same key, in order of arrival.

    A free key is taken and given back without a turn of the loop and without a lock object: each
    edit and each answer takes one.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        #: By held key: who waits for it, in order.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def __call__(self, key: str) -> _Turn:
        return _Turn(self._waiting, key)

    def is_free(self, key: str) -> bool:
        """Whether nobody holds this key or waits for it."""
        return key not in self._waiting

    def __len__(self) -> int:
        """How many keys are held or waited for."""
        return len(self._waiting)


class _Turn:
    """One holder of one key."""

    __slots__ = ("_key", "_waiting")

    def __init__(self, waiting: dict[str, deque[asyncio.Future[None]]], key: str) -> None:
        self._waiting, self._key = waiting, key

    async def __aenter__(self) -> None:
        waiting = self._waiting.get(self._key)
        if waiting is None:
            self._waiting[self._key] = deque()
            return
        turn = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # cancelled in the turn in which the key was handed over
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._waiting[self._key]:
            self._pass_on()
        else:
            del self._waiting[self._key]

    def _pass_on(self) -> None:
        """Hand the key to the next who waits; with nobody it is free."""
        waiting = self._waiting[self._key]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[self._key]

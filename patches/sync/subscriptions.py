"""`Subscriptions`: which documents this client hears about, on the connection that there is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from patches.errors import InvalidRequestError, NetworkError

#: Maps the tracked ids to the ids to subscribe to. `None` means all of them.
SubscribeFilter: TypeAlias = Callable[[list[str]], Iterable[str] | None]
#: `subscribe` or `unsubscribe` of a connection.
Ask: TypeAlias = Callable[[Sequence[str]], Awaitable[list[str]]]


class Subscriptions:
    """What the current connection was asked for and has granted. Ends with the connection.

    One question at a time: a document may be fetched only after the subscription that covers it was
    answered, or what is committed between the two would be missed. So whoever finds its ids asked
    for already has to wait for that answer. The lock is the connection's, no document's.
    """

    def __init__(
        self, subscribe_filter: SubscribeFilter | None, max_ids: int | None = None
    ) -> None:
        if subscribe_filter is not None and not callable(subscribe_filter):
            raise InvalidRequestError(
                f"subscribe_filter must be a function, not {subscribe_filter!r}"
            )
        self._filter = subscribe_filter
        self._max_ids = max_ids
        self._granted: dict[str, None] = {}
        self._turn = asyncio.Lock()
        self._life = 0

    @property
    def granted(self) -> tuple[str, ...]:
        """The ids that the server has granted."""
        return tuple(self._granted)

    def reset(self) -> None:
        """The connection is gone, and its subscriptions with it."""
        self._life += 1
        self._granted.clear()

    async def cover(self, tracked: Callable[[], Iterable[str]], subscribe: Ask) -> None:
        """Subscribe to what the tracked documents need and is not granted yet.

        Raises as `subscribe` does; then what was not granted before the failure is not.
        """
        async with self._turn:
            life = self._life
            missing = [doc_id for doc_id in self._wanted(tracked()) if doc_id not in self._granted]
            for ids in self._calls(missing):
                granted = await subscribe(ids)
                if life != self._life:
                    raise NetworkError("the connection was lost while subscribing")
                self._granted.update(dict.fromkeys(granted))

    async def trim(self, tracked: Callable[[], Iterable[str]], unsubscribe: Ask) -> None:
        """Unsubscribe from what no tracked document needs any more."""
        async with self._turn:
            needed = set(self._wanted(tracked()))
            needless = [doc_id for doc_id in self._granted if doc_id not in needed]
            for doc_id in needless:
                del self._granted[doc_id]
            for ids in self._calls(needless):
                await unsubscribe(ids)

    def _calls(self, doc_ids: list[str]) -> Iterator[list[str]]:
        """The ids in lists that one call may have."""
        size = self._max_ids or max(1, len(doc_ids))
        return (doc_ids[start : start + size] for start in range(0, len(doc_ids), size))

    def _wanted(self, tracked: Iterable[str]) -> list[str]:
        ids = list(tracked)
        wanted = self._filter(ids) if self._filter is not None else None
        return list(dict.fromkeys(ids if wanted is None else wanted))

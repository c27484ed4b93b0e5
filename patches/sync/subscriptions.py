"""`Subscriptions`: which documents the server broadcasts to this client, per connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from patches.errors import NetworkError
from patches.model.settings import check_function
from patches.sync.link import Link

#: Maps the tracked ids to the ids to subscribe to. `None` means all of them.
SubscribeFilter: TypeAlias = Callable[[list[str]], Iterable[str] | None]
#: `subscribe` or `unsubscribe` of a connection.
Call: TypeAlias = Callable[[Sequence[str]], Awaitable[list[str]]]


class Subscriptions:
    """Asks for the subscriptions that the tracked documents need. `Link.granted` has the answers.

    One call at a time: a document may be fetched only after the subscription that covers it was
    answered, or what is committed between the two would be missed. So whoever finds its ids asked
    for already has to wait for that answer.
    """

    def __init__(
        self, subscribe_filter: SubscribeFilter | None, max_ids: int | None = None
    ) -> None:
        check_function("subscribe_filter", subscribe_filter)
        self._filter = subscribe_filter
        self._max_ids = max_ids

    async def subscribe_missing(
        self, link: Link, tracked: Callable[[], Iterable[str]], subscribe: Call
    ) -> None:
        """Subscribe to what the tracked documents need and is not granted yet.

        Raises as `subscribe` does; then what was not granted before the failure is not.
        """
        async with link.subscribing:
            missing = [doc_id for doc_id in self._wanted(tracked()) if doc_id not in link.granted]
            for ids in self._calls(missing):
                granted = await subscribe(ids)
                if not link.is_current:
                    raise NetworkError("the connection was lost while subscribing")
                link.granted.update(dict.fromkeys(granted))

    def are_granted(self, link: Link, doc_id: str) -> bool:
        """Whether the connection is subscribed to what a document needs."""
        return doc_id in link.granted or all(
            wanted in link.granted for wanted in self._wanted([doc_id])
        )

    async def unsubscribe_unused(
        self, link: Link, tracked: Callable[[], Iterable[str]], unsubscribe: Call
    ) -> None:
        """Unsubscribe from what no tracked document needs any more."""
        async with link.subscribing:
            needed = set(self._wanted(tracked()))
            unused = [doc_id for doc_id in link.granted if doc_id not in needed]
            for doc_id in unused:
                del link.granted[doc_id]
            for ids in self._calls(unused):
                await unsubscribe(ids)

    def _calls(self, doc_ids: list[str]) -> Iterator[list[str]]:
        """The ids in lists that one call may have."""
        size = self._max_ids or max(1, len(doc_ids))
        return (doc_ids[start : start + size] for start in range(0, len(doc_ids), size))

    def _wanted(self, tracked: Iterable[str]) -> list[str]:
        ids = list(tracked)
        wanted = self._filter(ids) if self._filter is not None else None
        return list(dict.fromkeys(ids if wanted is None else wanted))

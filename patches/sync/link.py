"""`Link`: one connection to the server, from the moment it is up until it is lost."""

from __future__ import annotations

import asyncio


class Link:
    """Whoever begins something over a connection keeps its `Link`, and asks `is_current` after
    each await: what was begun over a lost connection is dropped.
    """

    __slots__ = (
        "full_sync_ended",
        "granted",
        "is_current",
        "is_retrying",
        "knows_access",
        "names_algorithms",
        "subscribing",
        "was_lost",
    )

    def __init__(self) -> None:
        self.is_current: bool = True
        #: Whether the connection broke, and was not given up here.
        self.was_lost: bool = False
        #: Whether the full sync that begins with the connection is over, well or not.
        self.full_sync_ended: bool = False
        #: The ids that the server has granted a subscription to, in order.
        self.granted: dict[str, None] = {}
        #: Whether a `subscribe` has failed, and is tried again.
        self.is_retrying: bool = False
        #: Whether the server may know `getAlgorithm`.
        self.names_algorithms: bool = True
        #: Whether the server may know `getAccess`.
        self.knows_access: bool = True
        #: One `subscribe` or `unsubscribe` at a time.
        self.subscribing: asyncio.Lock = asyncio.Lock()

    def end(self, *, was_lost: bool) -> None:
        """The connection is gone, and its subscriptions with it."""
        self.is_current = False
        self.was_lost = was_lost
        self.granted.clear()

"""`Subscriber`: a connection, as fan-out sees it."""

from __future__ import annotations

from typing import Protocol

from patches_server.documents.context import CallContext
from patches_server.service.fanout.outbox import Outbox


class Subscriber(Protocol):
    """What the hub needs of a connection. They are compared by identity."""

    outbox: Outbox
    context: CallContext
    #: What others address it by.
    connection_id: str
    #: The documents it is subscribed to, in order; the hub's.
    subscriptions: dict[str, None]

    @property
    def ended(self) -> bool:
        """Whether the connection is gone, and must get no subscription any more."""
        ...

    def __hash__(self) -> int: ...

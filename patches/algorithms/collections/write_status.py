"""The life of a write, as data. Pure.

    pending ──sent──▶ sent ──confirmed──▶ confirmed
       └──expired──▶ unconfirmed ◀──expired──┘

A write that the server has not confirmed within the confirm timeout is `"unconfirmed"` and still
pending: it is sent again at every reconnect, under its own id. Confirmed, rejected and discarded
writes do not change any more.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, Literal, TypeAlias

WriteStatus: TypeAlias = Literal[
    "pending", "sent", "unconfirmed", "confirmed", "rejected", "discarded"
]


class WriteEvent(Enum):
    """What happens to a write."""

    SENT = auto()  # it left for the server
    EXPIRED = auto()  # the confirm timeout is over
    RETRIED = auto()  # the application wants it sent now
    CONFIRMED = auto()  # the stream has brought its id
    REJECTED = auto()  # the server refused it for good, or it cannot be stored
    DISCARDED = auto()  # the application took it back


#: Statuses that are the end.
SETTLED: Final[frozenset[WriteStatus]] = frozenset({"confirmed", "rejected", "discarded"})

_UNDECIDED: Final[tuple[WriteStatus, ...]] = ("pending", "sent", "unconfirmed")
_DECISIONS: Final[dict[WriteEvent, WriteStatus]] = {
    WriteEvent.CONFIRMED: "confirmed",
    WriteEvent.REJECTED: "rejected",
    WriteEvent.DISCARDED: "discarded",
}
_NEXT: Final[dict[tuple[WriteStatus, WriteEvent], WriteStatus]] = {
    ("pending", WriteEvent.SENT): "sent",
    ("pending", WriteEvent.EXPIRED): "unconfirmed",
    ("sent", WriteEvent.EXPIRED): "unconfirmed",
    ("unconfirmed", WriteEvent.RETRIED): "pending",
    **{(status, event): end for status in _UNDECIDED for event, end in _DECISIONS.items()},
}


def next_status(status: WriteStatus, event: WriteEvent) -> WriteStatus:
    """The status after an event; an event that means nothing to a status leaves it as it is."""
    return _NEXT.get((status, event), status)

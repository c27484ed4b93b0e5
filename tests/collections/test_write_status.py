"""Every status with every event."""

from __future__ import annotations

from typing import get_args

import pytest

from patches.algorithms.collections.write_status import (
    SETTLED,
    WriteEvent,
    WriteStatus,
    next_status,
)

TABLE: dict[WriteStatus, dict[WriteEvent, WriteStatus]] = {
    "pending": {
        WriteEvent.SENT: "sent",
        WriteEvent.EXPIRED: "unconfirmed",
        WriteEvent.RETRIED: "pending",
        WriteEvent.CONFIRMED: "confirmed",
        WriteEvent.REJECTED: "rejected",
        WriteEvent.DISCARDED: "discarded",
    },
    "sent": {
        WriteEvent.SENT: "sent",
        WriteEvent.EXPIRED: "unconfirmed",
        WriteEvent.RETRIED: "sent",
        WriteEvent.CONFIRMED: "confirmed",
        WriteEvent.REJECTED: "rejected",
        WriteEvent.DISCARDED: "discarded",
    },
    "unconfirmed": {
        WriteEvent.SENT: "unconfirmed",
        WriteEvent.EXPIRED: "unconfirmed",
        WriteEvent.RETRIED: "pending",
        WriteEvent.CONFIRMED: "confirmed",
        WriteEvent.REJECTED: "rejected",
        WriteEvent.DISCARDED: "discarded",
    },
}


@pytest.mark.parametrize("event", WriteEvent)
@pytest.mark.parametrize("status", get_args(WriteStatus))
def test_what_an_event_makes_of_a_status(status: WriteStatus, event: WriteEvent) -> None:
    expected = status if status in SETTLED else TABLE[status][event]
    assert next_status(status, event) == expected

"""`HeldBroadcasts`: events that are held back from one subscriber of one document, for a reason.

While there is any reason, what is due waits, in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from patches.limits import Limits
from patches_server.service.fanout.outbox import Event

#: More events than this are not held back, whatever the reason.
MAX_EVENTS: Final = 1_000
#: Nor more than this, if the subscriber can do without.
_MAX_OFFERED: Final = 100

Key: TypeAlias = tuple[str, object]  # a document and one of its subscribers


@dataclass(eq=False, slots=True)
class Reason:
    """Why events are held back."""


@dataclass(slots=True)
class _Hold:
    events: list[Event] = field(default_factory=list)
    size: int = 0
    reasons: list[Reason] = field(default_factory=list)


class HeldBroadcasts:
    """What is held back from the subscribers of one server. Owned by its hub."""

    def __init__(self, limits: Limits) -> None:
        self._max_bytes = limits.max_response_buffer_bytes
        self._holds: dict[Key, _Hold] = {}

    def __len__(self) -> int:
        return len(self._holds)

    def begin(self, key: Key) -> Reason:
        """Hold back what comes from now on, until this reason ends."""
        reason = Reason()
        self._holds.setdefault(key, _Hold()).reasons.append(reason)
        return reason

    def add(self, key: Key, event: Event) -> bool:
        """Hold an event back, if there is a reason to; whether there is."""
        hold = self._holds.get(key)
        if hold is None:
            return False
        hold.events.append(event)
        hold.size += len(event.params)
        return True

    def is_held(self, key: Key) -> bool:
        """Whether there is a reason to hold anything back."""
        return key in self._holds

    def offer(self, key: Key, event: Event) -> bool:
        """Hold an event back that its subscriber can do without, if few are held; whether it is."""
        hold = self._holds[key]
        if len(hold.events) >= _MAX_OFFERED:
            return False
        return self.add(key, event)

    def is_full(self, key: Key) -> bool:
        """Whether more is held back than may wait in an outbox."""
        hold = self._holds.get(key)
        if hold is None:
            return False
        too_large = self._max_bytes is not None and hold.size > self._max_bytes
        return too_large or len(hold.events) > MAX_EVENTS

    def end(self, key: Key, reason: Reason) -> list[Event]:
        """A reason is over. With the last one, the events that are due."""
        hold = self._holds.get(key)
        if hold is None or reason not in hold.reasons:
            return []  # of another subscription, or one that has ended
        hold.reasons.remove(reason)
        return self.drop(key) if not hold.reasons else []

    def drop(self, key: Key) -> list[Event]:
        """Hold nothing back any more; the events that were."""
        hold = self._holds.pop(key, None)
        return hold.events if hold is not None else []

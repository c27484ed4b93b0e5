"""The clock of actions: `[ms, n, client]`. Pure.

A hybrid logical clock. It follows the wall clock, never goes back, and is set forward by every
action that is received, so that an action made after seeing another one sorts after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from patches.model.json_values import MAX_SAFE_INTEGER, Json
from patches.runtime import Millis

#: What actions are ordered by: milliseconds, counter, client and change id.
Key: TypeAlias = tuple[int, int, str, str]

_MAX_CLIENT_BYTES: Final = 200


@dataclass(frozen=True, slots=True, order=True)
class Clock:
    """When an action was made."""

    ms: int
    n: int
    client: str

    def key(self, change_id: str) -> Key:
        """What the action of this clock is ordered by."""
        return self.ms, self.n, self.client, change_id

    def to_wire(self) -> list[Json]:
        """As JSON; `parse_clock` reads it."""
        return [self.ms, self.n, self.client]


def parse_clock(wire: Json) -> Clock | None:
    """A clock from its JSON, `None` for what is none."""
    match wire:
        case [int(ms), int(n), str(client)] if not isinstance(ms, bool) and not isinstance(n, bool):
            whole = 0 <= ms <= MAX_SAFE_INTEGER and 0 <= n <= MAX_SAFE_INTEGER
            size = len(client.encode("utf-8", "surrogatepass"))
            return Clock(ms, n, client) if whole and 0 < size <= _MAX_CLIENT_BYTES else None
    return None


@dataclass(frozen=True, slots=True)
class Time:
    """Where a client's clock stands for one document. Stored with the actions."""

    ms: int = 0
    n: int = 0

    def tick(self, now: Millis) -> Time:
        """For the next action made here: the time now, if it is later."""
        return Time(now, 0) if now > self.ms else Time(self.ms, self.n + 1)

    def observe(self, clock: Clock) -> Time:
        """After an action was received."""
        return max(self, Time(clock.ms, clock.n), key=lambda time: (time.ms, time.n))

    def clock(self, client: str) -> Clock:
        """This time as the clock of an action."""
        return Clock(self.ms, self.n, client)

"""`ServerStats`: what a server process counts while it runs. Plain numbers, whoever reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

#: Upper bounds of the classes of commit times, in seconds.
LATENCY_BOUNDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


@dataclass(slots=True)
class Latencies:
    """How long something took: how many in each class, the last being beyond all bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.total_s += seconds


@dataclass(slots=True)
class ServerStats:
    """Counts since the process started. Owned by a `PatchesServer`; its parts add to it."""

    #: Commits answered, by algorithm, and how long each took.
    commits: dict[str, Latencies] = field(default_factory=dict)
    #: Notifications put into outboxes, one per subscriber.
    broadcast_frames: int = 0
    #: Connections cut off because they read too slowly.
    queue_drops: int = 0
    #: Errors answered, by code.
    errors: Counter[str] = field(default_factory=Counter)

    #: Hints between processes, by direction (`sent`, `received`) and kind.
    hints: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Reads of the store for what other processes committed, by what led to them.
    catch_ups: Counter[str] = field(default_factory=Counter)
    #: How often the storage was found to hold another history.
    epoch_changes: int = 0

    def committed(self, algorithm: str, seconds: float) -> None:
        """A commit was answered."""
        latencies = self.commits.get(algorithm)
        if latencies is None:
            latencies = self.commits[algorithm] = Latencies()
        latencies.add(seconds)

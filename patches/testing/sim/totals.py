"""`Total`: what many runs covered."""

from __future__ import annotations

from collections import Counter
from typing import Final

from patches.testing.sim.config import DRAWN, FAULTS
from patches.testing.sim.faults import ALL_POINTS
from patches.testing.sim.world import Outcome

#: The codes of refusals that many runs have to see.
REFUSALS: Final = ("400", "403", "404", "409", "410", "503", "-32000", "-32600", "-32700")


class Total:
    """The figures of many runs together."""

    def __init__(self) -> None:
        self.runs: int = 0
        self.actions: int = 0
        self.events: int = 0
        self.crashes: int = 0
        self.commits: int = 0
        self.acks: int = 0
        self.left_out: int = 0
        self.virtual_s: float = 0.0
        self.faults: Counter[str] = Counter()
        self.crash_points: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count a run."""
        self.runs += 1
        self._count(outcome)

    def add_total(self, other: Total) -> None:
        """Count the runs of another total."""
        self.runs += other.runs
        self._count(other)

    def _count(self, other: Outcome | Total) -> None:
        self.actions += other.actions
        self.events += other.events
        self.crashes += other.crashes
        self.commits += other.commits
        self.acks += other.acks
        self.left_out += other.left_out
        self.virtual_s += other.virtual_s
        self.faults += other.faults
        self.crash_points += other.crash_points
        self.errors += other.errors

    @property
    def missed(self) -> list[str]:
        """The classes of faults, crash points and refusals that no run has hit."""
        missed = [fault for fault in DRAWN if not self.faults[fault]]
        missed += [point for point in ALL_POINTS if not self.crash_points[point]]
        return [*missed, *(f"refusal {code}" for code in REFUSALS if not self.errors[code])]

    def report(self) -> str:
        """What was covered, and what was never hit."""
        work = f"{self.actions:,} actions, {self.commits:,} commits, {self.acks:,} acks"
        time = f"{self.virtual_s / 86_400:,.0f} days of virtual time, {self.events:,} events"
        lines = [
            f"{self.runs:,} runs, {work}, {self.crashes:,} crashes, {time}",
            "faults: " + ", ".join(f"{name} {self.faults[name]:,}" for name in FAULTS),
            *(f"  {self.crash_points[point]:6,} at {point}" for point in ALL_POINTS),
            "refusals: " + ", ".join(f"{code} {n:,}" for code, n in sorted(self.errors.items())),
            f"never hit: {', '.join(self.missed) or 'nothing'}",
        ]
        return "\n".join(lines)

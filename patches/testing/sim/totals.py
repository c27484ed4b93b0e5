"""`Total`: what many runs covered."""

from __future__ import annotations

from collections import Counter

from patches.testing.sim.config import FAULTS
from patches.testing.sim.faults import ALL_POINTS
from patches.testing.sim.world import Outcome


class Total:
    """The figures of many runs together."""

    def __init__(self) -> None:
        self.runs = self.actions = self.events = self.crashes = self.commits = self.acks = 0
        self.left_out = 0
        self.virtual_s = 0.0
        self.faults: Counter[str] = Counter()
        self.crash_points: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count a run."""
        self.runs += 1
        self.actions += outcome.actions
        self.events += outcome.events
        self.crashes += outcome.crashes
        self.commits += outcome.commits
        self.acks += outcome.acks
        self.left_out += outcome.left_out
        self.virtual_s += outcome.virtual_s
        self.faults += outcome.faults
        self.crash_points += outcome.crash_points

    def report(self) -> str:
        """What was covered, and what was never hit."""
        missed = [*(fault for fault in FAULTS if not self.faults[fault])]
        missed += [point for point in ALL_POINTS if not self.crash_points[point]]
        work = f"{self.actions:,} actions, {self.commits:,} commits, {self.acks:,} acks"
        time = f"{self.virtual_s / 86_400:,.0f} days of virtual time, {self.events:,} events"
        lines = [
            f"{self.runs:,} runs, {work}, {self.crashes:,} crashes, {time}",
            "faults: " + ", ".join(f"{name} {self.faults[name]:,}" for name in FAULTS),
            *(f"  {self.crash_points[point]:6,} at {point}" for point in ALL_POINTS),
            f"never hit: {', '.join(missed) or 'nothing'}",
        ]
        return "\n".join(lines)

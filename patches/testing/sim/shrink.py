"""Makes a failing run smaller: fewer classes of faults, fewer actions, fewer single faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from patches.testing.sim import faults, workload
from patches.testing.sim.config import FAULTS, Config
from patches.testing.sim.world import Outcome, run

#: Tells what was tried: the configuration and whether it still fails in the same way.
Tell = Callable[[Config, bool], None]


def shrink(failed: Outcome, *, most_runs: int = 400, tell: Tell | None = None) -> Outcome:
    """The smallest run found that breaks the same invariant, within a number of runs."""
    return _Shrinker(failed, most_runs, tell).shrunk()


class _Shrinker:
    def __init__(self, failed: Outcome, most_runs: int, tell: Tell | None) -> None:
        assert failed.failure is not None
        self._best = failed
        self._invariant = failed.failure.invariant
        self._left = most_runs
        self._tell = tell

    def shrunk(self) -> Outcome:
        for fault in FAULTS:
            if fault in self._best.config.faults:
                self._try(self._best.config.without(fault))
        self._leave_out(
            [action.number for action in workload.script(self._best.config)],
            lambda config, numbers: replace(
                config, without_actions=config.without_actions | numbers
            ),
        )
        moments = [action.at_s for action in workload.script(self._best.config)]
        self._leave_out(
            [fault.number for fault in faults.script(self._best.config, moments)],
            lambda config, numbers: replace(config, without_faults=config.without_faults | numbers),
        )
        return self._best

    def _leave_out(
        self, numbers: Sequence[int], left_out: Callable[[Config, frozenset[int]], Config]
    ) -> None:
        """Leave out the later half, the earlier half, then ever smaller parts."""
        rest, size = list(numbers), max(1, len(numbers) // 2)
        while rest and self._left > 0:
            start = len(rest)
            while start > 0 and self._left > 0:
                start = max(0, start - size)
                part = rest[start : start + size]
                if self._try(left_out(self._best.config, frozenset(part))):
                    del rest[start : start + size]
            if size == 1:
                return
            size //= 2

    def _try(self, config: Config) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        outcome = run(config)
        fails = outcome.failure is not None and outcome.failure.invariant == self._invariant
        if fails:
            self._best = outcome
        if self._tell is not None:
            self._tell(config, fails)
        return fails

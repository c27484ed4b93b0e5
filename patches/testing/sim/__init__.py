"""Deterministic simulation: real clients and a real server, one seed.

Product code runs here unchanged. The rules: `docs/internals/reliability.md` 6.
"""

from patches.testing.sim.config import FAULTS, Config, draw
from patches.testing.sim.totals import Total
from patches.testing.sim.world import Failure, Outcome, run

__all__ = ["FAULTS", "Config", "Failure", "Outcome", "Total", "draw", "run"]

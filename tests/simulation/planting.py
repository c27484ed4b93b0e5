"""How a bug is planted, and looked for.

The search starts at a seed that finds the bug. Any change of the product changes the order of
events, and another seed may be the first then, so more are tried. `docs/simulation.md` has the
figures for the seeds from 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import pytest

from patches.testing.sim import Outcome, draw, run
from patches.testing.sim.config import Family

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]

#: How many seeds are tried.
WITHIN = 60


@dataclass(frozen=True)
class Planted:
    """A bug, the family of documents it is in, a seed that finds it, and who complains.

    `faults`: classes that are on in every run, for a bug that needs one of the rare ones.
    """

    plant: Plant
    family: Family
    first_seed: int
    invariants: str
    faults: frozenset[str] = frozenset()


def first_failure(bug: Planted, first: int, within: int) -> tuple[int, Outcome] | None:
    """The first seed that finds it, and how."""
    for seed in range(first, first + within):
        config = draw(seed, "light", bug.family)
        outcome = run(replace(config, faults=config.faults | bug.faults))
        if outcome.failure is not None:
            return seed, outcome
    return None


def require_found(bug: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a bug; fail unless a seed finds it, by one of its invariants."""
    bug.plant(monkeypatch)
    found = first_failure(bug, bug.first_seed, WITHIN)
    assert found is not None, f"{bug.plant.__name__} was not found"
    failure = found[1].failure
    assert failure is not None
    assert failure.invariant in bug.invariants.split(), failure

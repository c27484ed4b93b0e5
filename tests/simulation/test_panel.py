"""Runs of the simulation from fixed seeds: everything converges, nothing is lost."""

from __future__ import annotations

import pytest

from patches.testing.sim import Config, run


@pytest.mark.parametrize("seed", range(3))
def test_two_clients_converge_over_cut_connections(seed: int) -> None:
    outcome = run(Config(seed=seed, clients=2, faults=frozenset({"cut"})))
    assert outcome.failure is None, outcome.report()
    assert outcome.acks > 10

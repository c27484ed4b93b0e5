"""Runs of the simulation from fixed seeds: everything converges, nothing is lost.

Each case is a few seeds, so that the processes of a test run share them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from patches.testing.sim import FAULTS, Config, Total, draw, run
from patches.testing.sim.config import Family, Profile

PANEL: list[tuple[Family, Profile, range]] = [
    *(("ot", "light", range(start, start + 12)) for start in range(0, 72, 12)),
    *(("lww", "light", range(start, start + 12)) for start in range(0, 48, 12)),
    *(("mixed", "normal", range(start, start + 6)) for start in range(0, 24, 6)),
]
REGRESSIONS = Path(__file__).with_name("regressions.txt")


@pytest.mark.parametrize(
    ("family", "profile", "seeds"),
    PANEL,
    ids=[f"{family}-{seeds.start}" for family, _, seeds in PANEL],
)
def test_all_converge_and_nothing_is_lost(family: Family, profile: Profile, seeds: range) -> None:
    total = Total()
    for seed in seeds:
        outcome = run(draw(seed, profile, family))
        assert outcome.failure is None, outcome.report()
        total.add(outcome)
    print(total.report())  # noqa: T201  # shown with -s, and when the case fails
    assert total.acks > 10 * len(seeds)


def test_every_class_of_faults_happens_in_the_panel() -> None:
    configs = [draw(seed, profile, family) for family, profile, seeds in PANEL for seed in seeds]
    assert set(FAULTS) == {fault for config in configs for fault in config.faults}


@pytest.mark.parametrize("seed", range(20))
def test_the_same_seed_is_the_same_run(seed: int) -> None:
    config = draw(seed, "light")
    assert run(config).digest == run(config).digest


def test_another_seed_is_another_run() -> None:
    assert run(draw(1)).digest != run(draw(2)).digest


def test_a_class_of_faults_that_is_switched_off_leaves_the_script_of_actions() -> None:
    config = next(config for config in map(draw, range(20)) if "cut" in config.faults)
    quiet = config.without("cut")
    assert run(config).actions == run(quiet).actions


@pytest.mark.parametrize(
    "line",
    [line for line in REGRESSIONS.read_text().splitlines() if line and not line.startswith("#")],
)
def test_seeds_that_failed_once_pass(line: str) -> None:
    seed, profile, family = line.split("#")[0].split()
    outcome = run(draw(int(seed), _profile(profile), None if family == "any" else _family(family)))
    assert outcome.failure is None, outcome.report()


@pytest.mark.parametrize("seed", range(3))
def test_two_clients_converge_over_cut_connections(seed: int) -> None:
    outcome = run(Config(seed=seed, clients=2, faults=frozenset({"cut"})))
    assert outcome.failure is None, outcome.report()
    assert outcome.acks > 10


def _profile(text: str) -> Profile:
    profiles: dict[str, Profile] = {"light": "light", "normal": "normal", "heavy": "heavy"}
    return profiles[text]


def _family(text: str) -> Family:
    families: dict[str, Family] = {"ot": "ot", "lww": "lww", "mixed": "mixed"}
    return families[text]

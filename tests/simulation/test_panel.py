"""Runs of the simulation from fixed seeds: everything converges, nothing is lost.

Each case is a few seeds, so that the processes of a test run share them.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from patches.testing.sim import Config, Total, draw, run, workload
from patches.testing.sim.config import Family, Profile

#: 200 seeds.
PANEL: list[tuple[Family, range]] = [
    *(("ot", range(start, start + 10)) for start in range(0, 100, 10)),
    *(("lww", range(start, start + 10)) for start in range(0, 60, 10)),
    *(("mixed", range(start, start + 10)) for start in range(0, 40, 10)),
]
PROFILE: Profile = "normal"
#: How many of the panel's seeds are run twice.
TWICE = 20
REGRESSIONS = Path(__file__).with_name("regressions.txt")


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of a test run have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "panel"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("family", "seeds"), PANEL, ids=[f"{family}-{seeds.start}" for family, seeds in PANEL]
)
def test_all_converge_and_nothing_is_lost(family: Family, seeds: range, together: Path) -> None:
    total = Total()
    for seed in seeds:
        config = draw(seed, PROFILE, family)
        outcome = run(config)
        assert outcome.failure is None, outcome.report()
        if family == "ot" and seed < TWICE:
            assert run(config).digest == outcome.digest, "the same seed is the same run"
        total.add(outcome)
    assert total.acks > 10 * len(seeds)
    whole = _whole(together, f"{family}-{seeds.start}", total)
    if whole is not None:
        check_coverage(whole)


def check_coverage(total: Total) -> None:
    """What 200 runs have to hit (`docs/internals/reliability.md` 6.8)."""
    print(total.report())  # noqa: T201  # shown with -rP, and when it fails
    assert total.runs == 200
    assert total.actions >= 50_000
    assert total.virtual_s >= 365 * 86_400
    assert total.crashes >= 500
    assert not total.missed


def _whole(folder: Path, name: str, total: Total) -> Total | None:
    """The total of all cases, for the one that ends last; `None` for the others."""
    part = folder / f"{name}.part"
    part.write_bytes(pickle.dumps(total))
    part.rename(folder / name)
    parts = [path for path in folder.iterdir() if path.suffix != ".part"]
    if len(parts) < len(PANEL):
        return None
    whole = Total()
    for path in parts:
        whole.add_total(pickle.loads(path.read_bytes()))
    return whole


def test_another_seed_is_another_run() -> None:
    assert run(draw(1)).digest != run(draw(2)).digest


def test_a_class_of_faults_that_is_switched_off_leaves_the_script_of_actions() -> None:
    config = next(config for config in map(draw, range(20)) if "cut" in config.faults)
    quiet = config.without("cut")
    assert workload.script(config) == workload.script(quiet)
    assert run(quiet).failure is None


@pytest.mark.parametrize(
    "line",
    [line for line in REGRESSIONS.read_text().splitlines() if line and not line.startswith("#")],
)
def test_seeds_that_failed_once_pass(line: str) -> None:
    seed, profile, family, *faults = line.split("#")[0].split()
    config = draw(int(seed), _profile(profile), None if family == "any" else _family(family))
    if faults:
        config = replace(config, faults=frozenset(faults[0].split(",")))
    outcome = run(config)
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

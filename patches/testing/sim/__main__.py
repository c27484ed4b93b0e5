"""`python -m patches.testing.sim`: many seeds, or one again, or one made smaller."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, get_args

from patches.testing.sim.config import FAULTS, Config, Family, Profile, draw, numbers
from patches.testing.sim.shrink import shrink
from patches.testing.sim.totals import Total
from patches.testing.sim.world import Outcome, run

#: From so many seeds on, a class of faults or a crash point that is never hit is a failure.
LONG_RUN: Final = 1_000


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for. The exit code is 1 if a run failed."""
    given = _parser().parse_args(arguments)
    logging.disable(logging.WARNING)
    if given.seed is not None:
        return _one(given)
    return _many(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m patches.testing.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds (100)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share them (1)")
    parser.add_argument("--profile", choices=get_args(Profile), default="normal")
    parser.add_argument("--family", choices=get_args(Family), help="else the seed decides")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--faults", help="with --seed: only these classes, separated by commas")
    parser.add_argument("--without-actions", help="with --seed: numbers to leave out, 3-9,12")
    parser.add_argument("--without-faults", help="with --seed: the same for single faults")
    parser.add_argument("--trace", type=Path, help="with --seed: write every event to this file")
    parser.add_argument("--shrink", action="store_true", help="with --seed: find a smaller failure")
    return parser


def _one(given: argparse.Namespace) -> int:
    config = _configured(given)
    if given.trace is not None:
        with given.trace.open("w", encoding="utf-8") as file:
            outcome = run(config, trace_file=file)
    else:
        outcome = run(config)
    if outcome.failure is None:
        _say(f"passed: {config}\n  trace {outcome.digest}, {outcome.events:,} events")
        return 0
    if given.shrink:
        outcome = shrink(
            outcome, tell=lambda config, fails: _say(f"{'fails ' if fails else 'passes'} {config}")
        )
    _say(outcome.report())
    return 1


def _configured(given: argparse.Namespace) -> Config:
    config = draw(given.seed, given.profile, given.family)
    if given.faults is not None:
        wanted = frozenset(filter(None, given.faults.split(",")))
        unknown = wanted - set(FAULTS)
        if unknown:
            raise SystemExit(f"no such faults: {', '.join(sorted(unknown))}")
        config = replace(config, faults=wanted)
    return replace(
        config,
        without_actions=numbers(given.without_actions or ""),
        without_faults=numbers(given.without_faults or ""),
    )


def _many(given: argparse.Namespace) -> int:
    seeds = range(given.first, given.first + given.seeds)
    failed: list[Outcome] = []
    total = Total()
    for count, outcome in enumerate(_outcomes(seeds, given), start=1):
        total.add(outcome)
        if outcome.failure is not None:
            failed.append(outcome)
            _say("\r" + outcome.report())
        sys.stderr.write(f"\r{count} of {given.seeds} seeds, {len(failed)} failed ")
        sys.stderr.flush()
    sys.stderr.write("\n")
    _say(total.report())
    if len(seeds) >= LONG_RUN and total.missed:
        _say("a run as long as this has to hit everything")
        return 1
    return 1 if failed else 0


def _outcomes(seeds: range, given: argparse.Namespace) -> Iterator[Outcome]:
    work = partial(_run_seed, given.profile, given.family)
    if given.jobs == 1:
        yield from map(work, seeds)
        return
    with ProcessPoolExecutor(given.jobs) as pool:
        yield from pool.map(work, seeds, chunksize=4)


def _run_seed(profile: Profile, family: Family | None, seed: int) -> Outcome:
    logging.disable(logging.WARNING)
    return run(draw(seed, profile, family))


def _say(text: str) -> None:
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


if __name__ == "__main__":
    sys.exit(main())

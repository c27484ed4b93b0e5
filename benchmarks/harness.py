"""Runs workloads one after the other and prints a table.

A benchmark is a module of this folder with a function `workloads()` that yields `Workload`s. Each
contender of a workload gets a fresh start from its `setup`, which is not measured, and the best of
a few runs counts: noise on a shared machine only ever adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do a workload. `run` gets what `setup` returned."""

    name: str
    run: Callable[[Any], object]
    setup: Callable[[], Any] = lambda: None
    rounds: int = 5
    units: int | None = None  # if it does less than the workload says, so that it ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The same work, done in several ways. `units` is how many of `unit` one run does."""

    title: str
    unit: str
    units: int
    contenders: tuple[Contender, ...]
    skipped: str = ""  # why it cannot be run here


@dataclass(frozen=True, slots=True)
class Figure:
    """The best time of one contender."""

    name: str
    seconds: float
    units: int

    @property
    def per_second(self) -> float:
        """Units per second."""
        return self.units / self.seconds

    @property
    def microseconds(self) -> float:
        """Microseconds per unit."""
        return self.seconds / self.units * 1e6


def measure(contender: Contender, units: int) -> Figure:
    """The best of the contender's rounds."""
    best = float("inf")
    for _ in range(contender.rounds):
        argument = contender.setup()
        start = time.perf_counter()
        contender.run(argument)
        best = min(best, time.perf_counter() - start)
    return Figure(contender.name, best, contender.units or units)


def table(workloads: Iterable[Workload]) -> Iterator[str]:
    """The lines of the report, each as soon as it is measured."""
    for workload in workloads:
        yield f"\n{workload.title}"
        if workload.skipped:
            yield f"  skipped: {workload.skipped}"
            continue
        yield f"  {'':34}{'total ms':>12}{'us each':>12}{workload.unit + '/s':>18}"
        for contender in workload.contenders:
            figure = measure(contender, workload.units)
            yield (
                f"  {figure.name:34}{figure.seconds * 1e3:>12,.2f}"
                f"{figure.microseconds:>12,.2f}{figure.per_second:>18,.0f}"
            )

"""The clock, the randomness and the threads that everything else is given.

Nothing but this module reads the wall clock or draws random numbers, so that a simulation can own
both (`docs/decisions.md`). Durations are the event loop's and need no entry here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

#: Unix time in milliseconds.
Millis: TypeAlias = int

T = TypeVar("T")


class Blocking(Protocol):
    """Run a function that blocks, away from the event loop."""

    def __call__(self, fn: Callable[[], T], /) -> Awaitable[T]: ...


def _system_wall_ms() -> Millis:
    return time.time_ns() // 1_000_000


async def _in_thread(fn: Callable[[], Any], /) -> Any:
    import asyncio  # here, because pure modules import `Millis` from this one

    return await asyncio.to_thread(fn)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What differs between a real run and a simulated one.

    `wall_ms` gives Unix milliseconds; `random` is the source of ids and jitter; `run_blocking` runs
    a blocking function elsewhere and awaits its result. `Runtime()` is the system's own.
    """

    wall_ms: Callable[[], Millis] = _system_wall_ms
    random: random.Random = field(default_factory=random.Random)
    run_blocking: Blocking = _in_thread

"""`Offloader`: runs CPU-bound work inline if it is small, else in a thread.

What this gives and what it does not: work in a thread lets the loop turn every few milliseconds, as
the interpreter switches between threads. One call into C that does not release the interpreter,
such as the parsing of a frame of many megabytes, holds everybody up for as long as it lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from patches.limits import Limits
from patches.runtime import Runtime

T = TypeVar("T")

#: What is decoded, applied or encoded in one step.
BYTES_PER_STEP: Final = 16
#: A step is about a microsecond; estimates are rough, and a loop has others to serve.
_STEPS_PER_MS: Final = 400
#: Longer work shares few threads, however much of it there is: stores need threads too, and every
#: document waits for those.
_LONG_STEPS: Final = 100_000
_LONG_AT_ONCE: Final = 2
#: More than this is large, however much more.
_ENOUGH: Final = 2_500
_SAMPLED: Final = 500


class HasOps(Protocol):
    """A change, checked or not."""

    @property
    def ops(self) -> object: ...


class HasBytes(Protocol):
    """A change or a row."""

    @property
    def encoded(self) -> bytes: ...


def steps_of(changes: Sequence[HasOps]) -> int:
    """About how many steps it takes to read all that changes hold: by their values, since one
    operation can write megabytes. Counting stops once the work is known to be large."""
    steps = len(changes)
    for change in changes:
        if steps > _ENOUGH:
            break
        steps += _values_in(change.ops)
    return steps


def steps_of_encoded(rows: Sequence[HasBytes]) -> int:
    """About how many steps it takes to decode and work on changes or rows as they are stored."""
    size = 0
    for row in rows[:_SAMPLED]:  # of many, their number says enough
        size += len(row.encoded)
    return 4 * len(rows) + size // BYTES_PER_STEP


def _values_in(value: object) -> int:
    waiting, count = [value], 0
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            item = item.values()
        elif not isinstance(item, list):
            continue
        count += len(item)
        if count > _ENOUGH:
            break
        waiting.extend(item)
    return count


class Offloader:
    """Runs small work inline, since a thread costs more, and larger work in a thread.

    `limits.yield_every_ms` says what is small; `None`: everything.
    """

    def __init__(self, runtime: Runtime, limits: Limits) -> None:
        self._runtime: Final = runtime
        every_ms = limits.yield_every_ms
        self._inline_steps: Final = (
            None if every_ms is None else min(every_ms * _STEPS_PER_MS, _ENOUGH)
        )
        self._long: Final = asyncio.Semaphore(_LONG_AT_ONCE)

    def is_small(self, steps: int) -> bool:
        """Whether so many steps are done at once."""
        return self._inline_steps is None or steps <= self._inline_steps

    async def __call__(self, steps: int, work: Callable[[], T]) -> T:
        """The result of `work`, which takes about so many steps and touches nothing but values."""
        if self._inline_steps is None or steps <= self._inline_steps:
            return work()
        if steps <= _LONG_STEPS:
            return await self._runtime.run_blocking(work)
        async with self._long:
            return await self._runtime.run_blocking(work)

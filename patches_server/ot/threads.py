"""Pure work of any size, kept off the event loop when there is much of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from patches.runtime import Runtime

T = TypeVar("T")

#: In steps of about a microsecond; smaller work is done at once, because a thread costs more.
INLINE_STEPS: Final = 2_000


async def in_thread_if_large(runtime: Runtime, steps: int, work: Callable[[], T]) -> T:
    """The result of `work`, which takes about so many steps and touches nothing but values."""
    if steps <= INLINE_STEPS:
        return work()
    return await runtime.run_blocking(work)

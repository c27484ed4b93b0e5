"""`Journal`: what a disk would lose with the power when it is not asked to sync every write.

`durability="relaxed"`: each transaction is whole, and a loss of power takes a random end of those
since the last sync. Stores in memory know no such thing: they are copied at a sync, and what was
written after it is written again, as far as it is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

#: The chance that a sync follows a write.
_SYNC_CHANCE: Final = 0.03


@dataclass(frozen=True, slots=True)
class Write:
    """One transaction: a call of a store, and what it returned."""

    store: str
    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    result: Any


class Journal:
    """The transactions since the last sync. `on_sync()` is told of each."""

    def __init__(self, backend: Any, random: Random, on_sync: Callable[[], None]) -> None:
        self._random, self._on_sync = random, on_sync
        self._writes: list[Write] = []
        self.start(backend)

    def start(self, backend: Any) -> None:
        """Everything is synced as it is now."""
        self._synced = copied(backend)
        self._writes.clear()

    def wrote(self, backend: Any, write: Write) -> None:
        """A transaction has been written."""
        self._writes.append(write)
        if self._random.random() < _SYNC_CHANCE:
            self._synced = copied(backend)
            self._writes.clear()
            self._on_sync()

    def after_power_loss(self) -> tuple[Any, list[Write], list[Write]]:
        """What is left: the backend, the transactions in it since the last sync, and those lost."""
        keep = self._random.randint(0, len(self._writes))
        kept, lost = self._writes[:keep], self._writes[keep:]
        backend = copied(self._synced)
        for write in kept:
            store, *parts = write.store.split(".")
            target = backend.stores.get(store, backend)
            for part in parts:
                target = getattr(target, part)
            _run_now(getattr(target, write.name)(*write.args, **write.options))
        self._writes = kept
        return backend, list(kept), lost


def copied(backend: Any) -> Any:
    """A copy of a backend in memory that shares nothing with it but its clock."""
    runtime = backend._runtime  # its clock goes on
    return copy.deepcopy(backend, {id(runtime): runtime})


def _run_now(call: Awaitable[Any]) -> None:
    """Run a call of a store in memory, which waits for nothing."""
    steps = call.__await__()
    try:
        next(steps)
    except StopIteration:
        return
    raise AssertionError("a store in memory has waited")

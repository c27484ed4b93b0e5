"""`SimDisk`: what survives a crash, with delays and failures in front of it.

The stores of a memory backend are the disk: each of their calls is one transaction. A process
reaches them through `backend_of(life)`. There every call takes time, may fail before or after its
effect, and is a crash point. A call whose caller is cancelled takes effect all the same, and
writes keep their order, as in `SqliteDatabase`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import Any, Final, TypeAlias

from patches.errors import CorruptDataError, StorageError
from patches.stores.backend import StoreFactory
from patches.testing.sim.journal import Journal, Write, copied
from patches.testing.sim.loop import Life
from patches.testing.sim.trace import Trace

_READS: Final = ("get_", "list_", "load_", "last_", "read", "algorithm_of", "made_by")
#: What reads the rows of one document, on a server and on a client.
_ROWS: Final = ("list_changes", "load_snapshot", "load_rows", "load_queue", "get_doc", "read")
#: What of a store or backend leads to stores.
_PARTS: Final = ("versions", "branches")

#: Told when a call has taken effect, before its caller knows.
OnEffect: TypeAlias = Callable[[Life, Write], None]
#: Passes a named crash point: it may not return.
PassPoint: TypeAlias = Callable[[Life, str], Awaitable[None]]


class SimDisk:
    """The disk of one node."""

    def __init__(
        self,
        backend: Any,
        *,
        random: Random,
        trace: Trace,
        points: Mapping[str, tuple[str, str]],
        pass_point: PassPoint,
        on_effect: OnEffect,
    ) -> None:
        self.backend: Any = backend
        self._random, self._trace = random, trace
        self._points, self._pass_point, self._on_effect = points, pass_point, on_effect
        self._free_at = 0.0
        #: What a loss of power would take; `None`: every write is synced.
        self.journal: Journal | None = None
        #: Faults: how often a call fails, until when every write does, and until when all is slow.
        self.error_rate: float = 0.0
        self.full_until: float = 0.0
        self.slow_until: float = 0.0
        #: Documents with a row that cannot be read, and until when.
        self.bad_docs: dict[str, float] = {}
        self.errors: int = 0

    def backend_of(self, life: Life) -> Any:
        """The disk as one process sees it, in place of a backend."""
        return _Part(self, life, "", self.backend)

    def heal(self) -> None:
        """All faults end."""
        self.error_rate = 0.0
        self.full_until = 0.0
        self.slow_until = 0.0
        self.bad_docs.clear()

    def lose_power(self) -> tuple[list[Write], list[Write]]:
        """The transactions since the last sync: those that are still there, and those that are not.

        Every process must have ended.
        """
        assert self.journal is not None
        self.backend, kept, lost = self.journal.after_power_loss()
        self._trace.add("disk", "power lost", f"{len(kept)} kept, {len(lost)} lost")
        return kept, lost

    def copy(self) -> Any:
        """What is on the disk now, for `set_back`."""
        return copied(self.backend)

    def set_back(self, backend: Any) -> None:
        """Put an older copy in place. Every process must have ended."""
        self.backend = backend
        if self.journal is not None:
            self.journal.start(backend)
        self._trace.add("disk", "set back")

    async def call(
        self,
        life: Life,
        store: str,
        name: str,
        method: Callable[..., Awaitable[Any]],
        *args: Any,
        **options: Any,
    ) -> Any:
        """One call of a store. Raises `StorageError` when the disk is at fault."""
        if not life.alive:
            raise StorageError(f"{life}: the process is gone")
        work = life.spawn(
            self._perform(life, store, name, method, args, options), name=f"disk {name}"
        )
        work.add_done_callback(_look_at_error)
        return await asyncio.shield(work)

    async def before_write(self, life: Life, name: str, point: str) -> None:
        """What comes before a write that is not a call of a store: the wait, a crash, a failure.

        Writes go on in the order in which they began to wait.
        """
        await asyncio.sleep(self._delay(writes=True))
        await self._pass_point(life, point)
        self._maybe_fail(life, name, writes=True)

    async def before_read(self, life: Life, name: str) -> None:
        """The same for a read."""
        await asyncio.sleep(self._delay(writes=False))
        self._maybe_fail(life, name, writes=False)

    async def after_write(self, life: Life, name: str, point: str) -> None:
        """What comes after it took effect: a crash, or a failure whose outcome is unknown."""
        self._trace.add(life, "disk", name)
        await self._pass_point(life, point)
        if self._random.random() < self.error_rate / 4:
            self.errors += 1
            self._trace.add(life, "disk error", f"after {name}")
            raise StorageError(f"{name}: simulated failure, the outcome is unknown")

    async def _perform(
        self,
        life: Life,
        store: str,
        name: str,
        method: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        writes = not name.startswith(_READS)
        await asyncio.sleep(self._delay(writes))
        before, after = self._points.get(name, (None, None))
        if before is not None:
            await self._pass_point(life, before)
        self._maybe_fail(life, name, writes)
        if name in _ROWS and self.bad_docs.get(args[0], 0.0) > asyncio.get_running_loop().time():
            self._trace.add(life, "bad row", f"{name} {args[0]}")
            raise CorruptDataError(f"{name}: simulated checksum error")
        result = await method(*args, **options)
        if writes:
            self._trace.add(life, "disk", f"{store} {name} {_short(args)}")
        write = Write(store, name, args, options, result)
        self._on_effect(life, write)
        if writes and self.journal is not None:
            self.journal.wrote(self.backend, write)
        if after is not None:
            await self._pass_point(life, after)
        if writes:
            await asyncio.sleep(self._random.uniform(0, 0.002))
            if self._random.random() < self.error_rate / 4:
                self.errors += 1
                self._trace.add(life, "disk error", f"after {name}")
                raise StorageError(f"{name}: simulated failure, the outcome is unknown")
        return result

    def _delay(self, writes: bool) -> float:
        now = asyncio.get_running_loop().time()
        delay = self._random.uniform(0.0001, 0.004)
        if now < self.slow_until:
            delay += self._random.uniform(0, 8.0)
        if not writes:
            return delay
        # never equal: of two timers for one instant, either may fire first
        self._free_at = max(self._free_at + 1e-6, now + delay)
        return self._free_at - now

    def _maybe_fail(self, life: Life, name: str, writes: bool) -> None:
        full = writes and asyncio.get_running_loop().time() < self.full_until
        if full or self._random.random() < self.error_rate:
            self.errors += 1
            self._trace.add(life, "disk error", f"before {name}")
            raise StorageError(f"{name}: simulated failure")


class _Part:
    """A backend or store through which calls take the way of `SimDisk.call`."""

    def __init__(self, disk: SimDisk, life: Life, name: str, inner: Any) -> None:
        self._disk, self._life, self._name, self._inner = disk, life, name, inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == "open_store":
            return self._open_store
        if name in _PARTS:
            return _Part(self._disk, self._life, f"{self._name}.{name}".strip("."), found)
        if inspect.iscoroutinefunction(found):
            if name == "close":
                return found
            return partial(self._disk.call, self._life, self._name, name, found)
        return found

    def _open_store(self, factory: StoreFactory[Any]) -> Any:
        return _Part(self._disk, self._life, factory.name, self._inner.open_store(factory))


def docs_of(backend: Any, algorithm: str) -> Mapping[str, Any]:
    """What a client's backend in memory holds of an algorithm's documents, by id."""
    store = backend.stores.get(algorithm)
    docs: Mapping[str, Any] = {} if store is None else store._docs
    return docs


def _look_at_error(work: asyncio.Task[Any]) -> None:
    if not work.cancelled():
        work.exception()  # a caller that was cancelled does not fetch it


def _short(args: tuple[Any, ...]) -> str:
    return " ".join(arg if isinstance(arg, str) else _size(arg) for arg in args[:3])


def _size(arg: Any) -> str:
    return f"[{len(arg)}]" if hasattr(arg, "__len__") else "-"

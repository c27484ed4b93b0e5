"""`SimLoop`: an event loop in virtual time, with nothing outside of it.

Time moves only when nothing can run; then it moves to the next timer. Tasks and futures hash by
the order in which they were made, not by address: asyncio keeps some of them in sets, and the order
of a set would otherwise differ between two runs of one seed.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVarTuple

Args = TypeVarTuple("Args")

#: The life that the running code belongs to; tasks inherit it from the task that makes them.
CURRENT_LIFE: Final[contextvars.ContextVar[Life | None]] = contextvars.ContextVar(
    "CURRENT_LIFE", default=None
)


class SleepForeverError(RuntimeError):
    """Every task waits and no timer is set: nothing will ever happen again."""


class Life:
    """One life of a process, from its start to its crash or end. It knows its tasks."""

    def __init__(self, name: str, number: int) -> None:
        self.name: str = name
        self.number: int = number
        self.alive: bool = True
        self.tasks: dict[SimTask, None] = {}

    def __repr__(self) -> str:
        return f"{self.name}.{self.number}"

    def end(self) -> None:
        """Whatever still runs is cancelled; disks and networks no longer listen to it."""
        self.alive = False
        for task in list(self.tasks):
            task.cancel()

    def spawn(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Run a coroutine as a task of this life."""
        return asyncio.get_running_loop().create_task(work, name=name, context=self.context())

    def context(self) -> contextvars.Context:
        """A context in which code belongs to this life."""
        context = contextvars.copy_context()
        context.run(CURRENT_LIFE.set, self)
        return context


class SimTask(asyncio.Task[Any]):
    """A task that hashes by its number."""

    number: int
    life: Life | None

    def __new__(cls, *args: Any, loop: SimLoop, **options: Any) -> SimTask:
        task = super().__new__(cls)
        task.number = loop.next_number()
        task.life = None
        return task

    def __hash__(self) -> int:
        return self.number


class SimFuture(asyncio.Future[Any]):
    """A future that hashes by its number."""

    number: int
    life: Life | None

    def __new__(cls, *, loop: SimLoop) -> SimFuture:
        future = super().__new__(cls)
        future.number = loop.next_number()
        future.life = CURRENT_LIFE.get()
        return future

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, at 0 when it is made.

    `on_unhandled(message, error, life)` is told of exceptions that nobody waits for.
    """

    def __init__(self, on_unhandled: Callable[[str, BaseException | None, Life | None], None]):
        self._world = _NoWorld()
        self._numbers = 0
        self._on_unhandled = on_unhandled
        self._frozen: dict[Life | None, list[asyncio.Handle]] = {}
        self._ready: deque[asyncio.Handle]  # asyncio's own: what runs next
        super().__init__(self._world)
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._unhandled)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._world.now

    def freeze(self, life: Life) -> None:
        """Let nothing of a process run until `thaw`, as when a laptop sleeps."""
        self._frozen.setdefault(life, [])

    def thaw(self, life: Life) -> None:
        """Let a process run again. Whatever was due meanwhile happens now, in its order."""
        for handle in self._frozen.pop(life, ()):
            self._ready.append(handle)

    def is_frozen(self, life: Life) -> bool:
        """Whether a process stands still."""
        return life in self._frozen

    def call_soon(
        self,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """As every loop has it, but what belongs to a frozen process waits for `thaw`."""
        if self._frozen:
            life = CURRENT_LIFE.get() if context is None else context.get(CURRENT_LIFE)
            if life in self._frozen:
                handle = asyncio.Handle(callback, args, self, context)
                self._frozen[life].append(handle)
                return handle
        return super().call_soon(callback, *args, context=context)

    def next_number(self) -> int:
        """The number of the next task or future."""
        self._numbers += 1
        return self._numbers

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return SimFuture(loop=self)

    def _make_task(
        self, _loop: Any, work: Any, context: contextvars.Context | None = None, **options: Any
    ) -> SimTask:
        task = SimTask(work, loop=self, context=context, **options)
        life = CURRENT_LIFE.get() if context is None else context.get(CURRENT_LIFE)
        if life is not None:
            task.life = life
            life.tasks[task] = None
            # in the task's own context: whoever makes it may stand still by then
            task.add_done_callback(_forget, context=context)
            if not life.alive:
                task.cancel()
        return task

    def _unhandled(self, _loop: Any, context: Mapping[str, Any]) -> None:
        owner = context.get("task") or context.get("future")
        life = getattr(owner, "life", None)
        self._on_unhandled(str(context.get("message")), context.get("exception"), life)


def _forget(task: asyncio.Task[Any]) -> None:
    assert isinstance(task, SimTask)
    if task.life is not None:
        task.life.tasks.pop(task, None)


class _NoWorld(selectors.BaseSelector):
    """A selector for which no socket ever becomes ready."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return self._keys[fd]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise SleepForeverError("every task waits and no timer is set")
        if timeout > 0:
            self.now += timeout
        return []

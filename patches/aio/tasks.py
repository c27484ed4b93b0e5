"""`TaskScope`: the one task of an object, which owns all its others.

An object with a life starts its scope when it is entered and ends it when it is left. Everything
that runs on the object's behalf is spawned here, so that nothing outlives it and nothing fails
unseen.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any

_log = logging.getLogger("patches.aio.tasks")


#: The scope on whose behalf a task runs.
_OWNER: contextvars.ContextVar[TaskScope | None] = contextvars.ContextVar("owner", default=None)


class Reported(Coroutine[Any, Any, None]):
    """Runs a coroutine and gives what it raises to `report`, instead of raising.

    A wrapper that closes what it wraps even if it was never started: a task that is cancelled
    before its first turn leaves no coroutine behind that was never awaited.
    """

    __slots__ = ("_coroutine", "_report")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], report: Callable[[Exception], None]
    ) -> None:
        self._coroutine = coroutine
        self._report = report

    def send(self, value: Any) -> Any:
        """One step."""
        try:
            return self._coroutine.send(value)
        except StopIteration:
            pass
        except Exception as exc:
            self._report(exc)
        raise StopIteration from None

    def throw(self, *error: Any) -> Any:
        """One step that begins with an error: a cancellation."""
        try:
            return self._coroutine.throw(*error)
        except StopIteration:
            pass
        except Exception as exc:
            self._report(exc)
        raise StopIteration from None

    def close(self) -> None:
        """End it where it is."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        try:
            yield from self._coroutine.__await__()
        except Exception as exc:
            self._report(exc)


class TaskScope:
    """Owns tasks from `start` to `close`. One that fails is reported and does not end the rest."""

    def __init__(self, name: str, *, on_error: Callable[[Exception], None] | None = None) -> None:
        self._name = name
        self._on_error = on_error
        self._task: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._waiting: list[Coroutine[Any, Any, Any]] = []
        self._ended = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether the scope is started and not closed."""
        return self._task is not None and not self._task.done()

    def start(self) -> None:
        """Begin to own tasks. Call it in a running event loop; starting twice does nothing."""
        if not self.running:
            self._ended = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str | None = None) -> None:
        """Run a coroutine as a task of this scope."""
        if self._group is not None:
            self._create(self._group, coroutine, name or self._name)
        elif self.running:
            self._waiting.append(coroutine)  # the scope's task has not had its first turn yet
        else:
            coroutine.close()
            _log.warning("%s is closed; %s was not started", self._name, name or "a task")

    @property
    def owns_current_task(self) -> bool:
        """Whether this is called by one of the scope's tasks, or on its behalf: `close` would end
        the caller.
        """
        return _OWNER.get() is self

    def finish(self) -> None:
        """Own no more tasks from now on, and end when those that run have ended."""
        self._ended.set()

    async def close(self) -> None:
        """Cancel every task of the scope and wait for them."""
        task, self._task = self._task, None
        if task is None:
            return
        self._ended.set()
        task.cancel()
        await asyncio.wait([task])
        self._drop_waiting()  # the scope's task never had a turn

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    for coroutine in self._waiting:
                        self._create(group, coroutine, self._name)
                    self._waiting.clear()
                    await self._ended.wait()
                finally:
                    self._group = None
        finally:
            self._drop_waiting()  # what tasks of the scope have spawned as they ended

    def _create(
        self, group: asyncio.TaskGroup, coroutine: Coroutine[Any, Any, Any], name: str
    ) -> None:
        context = contextvars.copy_context()
        context.run(_OWNER.set, self)  # tasks that this one makes are on its behalf
        group.create_task(Reported(coroutine, self._failed), name=name, context=context)

    def _drop_waiting(self) -> None:
        for coroutine in self._waiting:
            coroutine.close()
        self._waiting.clear()

    def _failed(self, error: Exception) -> None:
        if self._on_error is not None:
            self._on_error(error)
        else:
            _log.error("a task of %s failed", self._name, exc_info=error)

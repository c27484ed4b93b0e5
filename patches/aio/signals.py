"""Signals: how a layer reports an event to layers above that it does not know."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeAlias

from patches.aio.tasks import Reported

P = ParamSpec("P")

Unsubscribe: TypeAlias = Callable[[], None]
#: Takes over a coroutine that a subscriber returned: the owner's task scope.
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, Any]], None]

_log = logging.getLogger("patches.aio.signals")


class Signal(Generic[P]):
    """An event that anyone may subscribe to: call it with a function, sync or async.

    Returns the function that unsubscribes. Subscribers run in order, in the emitter's turn of the
    loop, over a copy of the list, after the state has changed. One that raises is reported and does
    not stop the rest. What an async one returns goes to `spawn`, the owner's tasks, or is awaited
    by `emit_and_wait`.
    """

    def __init__(self, name: str, *, spawn: Spawn | None = None) -> None:
        self._name = name
        self._spawn = spawn
        #: Replaced, never changed: an emission goes on over the tuple that it started with.
        self.subscribers: tuple[Callable[P, object], ...] = ()
        #: Whether all subscribers are plain functions, which have finished when `emit` returns.
        self.is_plain: bool = True

    def __call__(self, subscriber: Callable[P, object]) -> Unsubscribe:
        if not callable(subscriber):
            raise TypeError(f"{self._name} takes a function, not {subscriber!r}")
        if subscriber not in self.subscribers:
            self._replace((*self.subscribers, subscriber))

        def unsubscribe() -> None:
            self._replace(tuple(other for other in self.subscribers if other != subscriber))

        return unsubscribe

    def __bool__(self) -> bool:
        return bool(self.subscribers)

    def notify(self, subscriber: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call one subscriber, as `emit` would."""
        try:
            result = subscriber(*args, **kwargs)
        except Exception:  # boundary: a subscriber's failure is its own
            _log.exception("a subscriber of %s failed", self._name)
            return
        if result is not None and inspect.isawaitable(result):
            self._hand_over(result)

    def clear(self) -> None:
        """Forget all subscribers."""
        self._replace(())

    def emit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call every subscriber; async ones continue as tasks of the owner."""
        for subscriber in self.subscribers:  # as `notify`, inlined: every keystroke passes here
            try:
                result = subscriber(*args, **kwargs)
            except Exception:  # boundary: a subscriber's failure is its own
                _log.exception("a subscriber of %s failed", self._name)
                continue
            if result is not None and inspect.isawaitable(result):
                self._hand_over(result)

    async def emit_and_wait(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call every subscriber and wait until the async ones have finished."""
        waiting: list[Coroutine[Any, Any, None]] = []
        for subscriber in self.subscribers:
            try:
                result = subscriber(*args, **kwargs)
            except Exception:  # boundary: a subscriber's failure is its own
                _log.exception("a subscriber of %s failed", self._name)
                continue
            if inspect.isawaitable(result):
                waiting.append(self._reported(result))
        if waiting:
            await asyncio.gather(*waiting)

    def _replace(self, subscribers: tuple[Callable[P, object], ...]) -> None:
        self.subscribers = subscribers
        self.is_plain = not any(map(inspect.iscoroutinefunction, subscribers))

    def _hand_over(self, awaitable: Awaitable[object]) -> None:
        coroutine = self._reported(awaitable)
        if self._spawn is not None:
            self._spawn(coroutine)
        else:
            coroutine.close()
            _log.error("%s: an async subscriber needs a running owner", self._name)

    def _reported(self, awaitable: Awaitable[object]) -> Coroutine[Any, Any, None]:
        coroutine = awaitable if isinstance(awaitable, Coroutine) else _waiting_for(awaitable)
        return Reported(coroutine, self._failed)

    def _failed(self, error: Exception) -> None:
        _log.error("an async subscriber of %s failed", self._name, exc_info=error)


async def _waiting_for(awaitable: Awaitable[object]) -> None:
    await awaitable

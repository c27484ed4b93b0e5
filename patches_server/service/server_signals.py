"""`ServerSignals`: what a server's program can subscribe to, after the fact and in order.

A subscriber gets the events of all documents in the order in which they happened, one after the
other, from a task of its own: one that is slow delays no commit and no other subscriber. While it
is `MAX_BEHIND` events behind, it loses the oldest.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, ParamSpec

P = ParamSpec("P")

#: Events that wait for one subscriber.
MAX_BEHIND: Final = 1_000

_log = logging.getLogger("patches_server.service")


class ServerSignal(Generic[P]):
    """One kind of event. Call it with a function, or use it as a decorator."""

    def __init__(
        self,
        name: str,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """`begin` is called with the first subscriber."""
        self._name, self._spawn, self._begin = name, spawn, begin
        self._queues: tuple[_Queue, ...] = ()
        #: Events that subscribers have lost.
        self.lost: int = 0

    def __call__(self, subscriber: Callable[P, object]) -> Callable[[], None]:
        """Subscribe; the result unsubscribes. A coroutine function is awaited, event by event."""
        if not callable(subscriber):
            raise TypeError(f"{self._name} takes a function, not {subscriber!r}")
        if not self._queues:
            self._begin()
        queue = _Queue(subscriber)
        self._queues = (*self._queues, queue)

        def unsubscribe() -> None:
            self._queues = tuple(other for other in self._queues if other is not queue)

        return unsubscribe

    def __bool__(self) -> bool:
        return bool(self._queues)

    def emit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Give an event to every subscriber, in a later turn of the loop."""
        for queue in self._queues:
            if len(queue.waiting) >= MAX_BEHIND:
                queue.waiting.popleft()
                self.lost += 1
                if self.lost == 1:
                    _log.warning("%s: a subscriber is too slow, and loses events", self._name)
            queue.waiting.append((args, kwargs))
            if not queue.is_running:
                queue.is_running = True
                self._spawn(self._run(queue))

    async def _run(self, queue: _Queue) -> None:
        try:
            while queue.waiting:
                args, kwargs = queue.waiting.popleft()
                try:
                    result = queue.subscriber(*args, **kwargs)
                    if inspect.isawaitable(result):
                        await result
                except Exception:  # boundary: a subscriber's failure is its own
                    _log.exception("a subscriber of %s failed", self._name)
        finally:
            queue.is_running = False


class _Queue:
    """A subscriber, and the events that it has not been given."""

    def __init__(self, subscriber: Callable[..., object]) -> None:
        self.subscriber = subscriber
        self.waiting: deque[tuple[tuple[Any, ...], dict[str, Any]]] = deque()
        self.is_running = False

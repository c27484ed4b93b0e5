"""`LoopThread`: a background thread with an event loop, and one that calls subscribers."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from patches.aio.threads import call_on, wait_on
from patches.errors import WrongThreadError

T = TypeVar("T")

_log = logging.getLogger("patches.blocking")

#: How long the end of the callback thread is waited for.
_END_S: Final = 5.0


class LoopThread:
    """Runs an event loop until `stop`. All methods may be called from any thread of this process.

    Subscribers are called one at a time by a thread of their own, so that they may wait for the
    loop.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._callbacks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._stopped: asyncio.Event | None = None
        started: queue.SimpleQueue[asyncio.AbstractEventLoop] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(started)), name="patches loop", daemon=True
        )
        self._caller = threading.Thread(
            target=self._call_subscribers, name="patches subscribers", daemon=True
        )
        self._thread.start()
        self._caller.start()
        self.loop: Final = started.get()

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in one turn of the loop."""
        self._check_process()
        return call_on(self.loop, function)

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine as a task of the loop, and wait for it."""
        self._check_process()
        return wait_on(self.loop, make)

    def run_for(self, make: Callable[[], Coroutine[Any, Any, object]], seconds: float) -> None:
        """Run a coroutine for at most so long; a failure is logged. For the end of the program."""
        if os.getpid() != self._process:
            return

        async def limited() -> None:
            async with asyncio.timeout(seconds):
                await make()

        try:
            wait_on(self.loop, limited)
        except Exception:  # boundary: nobody is left to report it to
            _log.exception("the client could not be closed in order")

    def later(self, callback: Callable[[], object]) -> None:
        """Have the thread of subscribers call this, after what it was given before."""
        self._callbacks.put(callback)

    def stop(self) -> None:
        """End both threads. What subscribers were given before is called first."""
        if os.getpid() != self._process:
            return  # the threads are the parent's
        if self._stopped is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._stopped.set)
        self._callbacks.put(None)
        for thread in (self._thread, self._caller):
            if thread is not threading.current_thread():
                thread.join(_END_S)

    async def _live(self, started: queue.SimpleQueue[asyncio.AbstractEventLoop]) -> None:
        self._stopped = asyncio.Event()
        started.put(asyncio.get_running_loop())
        await self._stopped.wait()

    def _call_subscribers(self) -> None:
        while (callback := self._callbacks.get()) is not None:
            try:
                callback()
            except Exception:  # boundary: a subscriber's failure is its own
                _log.exception("a subscriber failed")

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise WrongThreadError("this client was made before a fork; connect again in the child")

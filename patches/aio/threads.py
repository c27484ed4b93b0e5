"""Work on an event loop for callers in other threads, who wait for it."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from patches.errors import WrongLoopError

T = TypeVar("T")

#: How often a waiting thread looks whether the loop is still there.
_LOOK_S: Final = 1.0


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], T]) -> T:
    """Call a function in one turn of `loop`, from any thread; what it returns or raises.

    Raises `WrongLoopError` if the loop has ended.
    """
    if _is_here(loop):
        return function()
    done: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        if not done.set_running_or_notify_cancel():  # the caller was interrupted
            return
        try:
            done.set_result(function())
        except BaseException as exc:
            done.set_exception(exc)

    try:
        loop.call_soon_threadsafe(run)
    except RuntimeError:
        raise _ended() from None
    return _result(done, loop)


def wait_on(loop: asyncio.AbstractEventLoop, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine as a task of `loop`, from another thread; what it returns or raises.

    An interrupted caller (Ctrl-C) cancels it. Raises `WrongLoopError` in the loop's own thread,
    which would wait for itself, and if the loop has ended.
    """
    if _is_here(loop):
        raise WrongLoopError("this call would wait for the event loop that it runs in; await it")
    if loop.is_closed():
        raise _ended()
    coroutine = make()
    try:
        done = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:
        coroutine.close()
        raise _ended() from None
    return _result(done, loop)


def _is_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _result(done: concurrent.futures.Future[T], loop: asyncio.AbstractEventLoop) -> T:
    try:
        while True:
            concurrent.futures.wait([done], _LOOK_S)
            if done.done():
                return done.result()
            if not loop.is_running():
                raise _ended()
    except BaseException:
        done.cancel()
        raise


def _ended() -> WrongLoopError:
    return WrongLoopError("the event loop that owns this object has ended")

"""`Owner`: the thread and the event loop that an object belongs to."""

from __future__ import annotations

import asyncio
import threading
from typing import NoReturn

from patches.errors import WrongLoopError, WrongThreadError


class Owner:
    """Created where an object is first used. Only `check` may be called from elsewhere."""

    __slots__ = ("_loop", "_thread", "_thread_name")

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._thread_name = threading.current_thread().name
        self._loop = asyncio.get_running_loop()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        return self._loop

    def check(self, what: str, elsewhere: str = "asyncio.run_coroutine_threadsafe(…)") -> None:
        """Raise `WrongThreadError` or `WrongLoopError` anywhere else.

        `what`: the object; `elsewhere`: what does the same from another thread.
        """
        if threading.get_ident() != self._thread:
            raise WrongThreadError(
                f"{what} belongs to thread {self._thread_name!r}; from other threads use "
                f"{elsewhere}, or patches.blocking"
            )
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise WrongLoopError(f"{what} needs its event loop, and none is running") from None
        if loop is not self._loop:
            raise WrongLoopError(
                f"{what} belongs to another event loop; create it inside the coroutine given to "
                f"asyncio.run()"
            )


class NotADict:
    """Errors that say what to write instead of `doc.title = "x"` and `doc["title"]`."""

    _sealed = False  # if True, new attributes cannot be set

    def __getattr__(self, name: str) -> NoReturn:
        # Reached only for a name that is no attribute.
        raise AttributeError(name if name.startswith("_") else _explanation(name))

    def __setattr__(self, name: str, value: object) -> None:
        if self._sealed and name[0] != "_" and name not in self.__dict__:
            if name == "state":
                raise AttributeError("doc.state is read-only; replace the state with doc.set(...)")
            if not hasattr(type(self), name):
                raise AttributeError(_explanation(name))
        object.__setattr__(self, name, value)

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError(_explanation(key))

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise TypeError(_explanation(key))

    def __delitem__(self, key: object) -> NoReturn:
        raise TypeError(_explanation(key))


def _explanation(key: object) -> str:
    return (
        f"a document has no {key!r}; read doc.state[{key!r}], edit with: "
        f"with doc.edit() as draft: draft[{key!r}] = …"
    )

"""`Subscribed`: the part of a document that notifies subscribers of every new state."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, Generic

from patches.aio.signals import Signal, Spawn, Unsubscribe
from patches.documents.shape import Shape, T
from patches.documents.updates import Updates
from patches.documents.watched import Watched

_log = logging.getLogger("patches.documents.document")

_MAX_ROUNDS: Final = 100


class Subscribed(Watched, Generic[T]):
    """A document as its subscribers know it."""

    #: The shown state changed: the new state. One that does not fit the type is left out.
    on_update: Signal[[T]]

    def __init__(self) -> None:
        super().__init__()
        #: Takes the coroutines of async subscribers; set by the owner.
        self.spawn: Spawn | None = None
        self.on_update = Signal("on_update", spawn=self._spawned)
        self._notifying = False  # subscribers are being called: a newer state makes one more round
        self._waiting: set[asyncio.Future[None]] = set()
        self._shape: Shape | None = None  # `None`: plain JSON

    @property
    @abstractmethod
    def state(self) -> T:
        """What the document shows."""

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """True after the last reference was closed."""

    def subscribe(self, subscriber: Callable[[T], object]) -> Unsubscribe:
        """Call `subscriber(state)` now and after every update. Returns the unsubscriber."""
        unsubscribe = self.on_update(subscriber)
        if self._is_readable():
            self.on_update.notify(subscriber, self.state)
        return unsubscribe

    def __aiter__(self) -> AsyncIterator[T]:
        """`async for state in doc`: the state now and after updates, until the document is closed.

        States that a slow reader missed are left out.
        """
        return Updates(self)

    # ---- inside ----------------------------------------------------------------------------------

    def _notify(self) -> None:
        """Call subscribers with the newest state. Each gets every state in order."""
        if self._waiting:
            self._wake()
        if self._notifying or not self.on_update.subscribers:
            return
        self._notifying = True
        try:
            for _ in range(_MAX_ROUNDS):
                changes = self._shown.changes
                if self._shape is None or self._is_readable():
                    self.on_update.emit(self.state)
                if changes == self._shown.changes:
                    return
            _log.error(
                "document %r: subscribers changed it %d times in a row; they are not called again",
                self.id,
                _MAX_ROUNDS,
            )
        finally:
            self._notifying = False

    def _is_readable(self) -> bool:
        shape = self._shape
        return shape is None or shape.misfit_of(self._shown.handed_out()) is None

    async def next_update(self) -> None:
        """Wait for the next update, or the close."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _spawned(self, coroutine: Coroutine[Any, Any, None]) -> None:
        if self.spawn is not None:
            self.spawn(coroutine)
        else:
            coroutine.close()
            _log.error("document %r: an async subscriber needs the document's Patches", self.id)

"""`NetworkBus`: what buses over a network have in common: a queue, a heartbeat, new connections.

A silent bus is a dead bus: neither driver surely notices a dead listener, and through a pooler that
shares connections between transactions nothing is received without an error. So each process sends
a heartbeat and must receive its own.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from patches.aio.tasks import TaskScope
from patches_server.bus.hints import Hint, decode_hints

BEAT_S: Final = 2.0
SILENT_S: Final = 5.0
_MAX_QUEUED: Final = 10_000
_MAX_BYTES: Final = 4 * 1024 * 1024
_FIRST_DELAY_S: Final = 0.1
_LAST_DELAY_S: Final = 5.0
_FLUSH_S: Final = 2.0

_log = logging.getLogger("patches_server.bus")


class NetworkBus(ABC):
    """A `HintBus`. A subclass connects, sends and receives.

    `beat_s`: how often a heartbeat is sent; `silent_s`: how long none may be received.
    """

    def __init__(self, *, beat_s: float = BEAT_S, silent_s: float = SILENT_S) -> None:
        self._beat_s, self._silent_s = beat_s, silent_s
        self._tasks = TaskScope(type(self).__name__)
        self._process = ""
        self._on_hint: Callable[[Hint], None] = lambda _hint: None
        self._on_gap: Callable[[], None] = lambda: None
        self._queue: deque[Hint] = deque()
        self._queued_bytes = 0
        self._queued = asyncio.Event()
        self._sent = asyncio.Event()
        self._sent.set()
        self._lost = asyncio.Event()
        self._is_connected = False
        self._received_at = 0.0

    @property
    def healthy(self) -> bool:
        """Whether an own heartbeat was received lately."""
        return self._is_connected and self._received_at > 0

    async def start(
        self, process: str, on_hint: Callable[[Hint], None], on_gap: Callable[[], None]
    ) -> None:
        self._process, self._on_hint, self._on_gap = process, on_hint, on_gap
        self._tasks.start()
        self._tasks.spawn(self._run(), name="hint bus")

    async def follow(self, doc_id: str) -> None:  # noqa: B027  # most have one channel for all
        """Every process receives everything, unless a subclass says otherwise."""

    def unfollow(self, doc_id: str) -> None:  # noqa: B027  # as above
        """As `follow`."""

    def publish(self, hint: Hint) -> None:
        is_full = len(self._queue) >= _MAX_QUEUED or self._queued_bytes >= _MAX_BYTES
        if is_full:
            if len(self._queue) >= 2 * _MAX_QUEUED:
                return  # the others poll
            hint = hint.without_changes()
        self._queue.append(hint)
        self._queued_bytes += hint.size
        self._queued.set()
        self._sent.clear()

    async def flush(self) -> None:
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self._sent.wait()
        except TimeoutError:
            _log.warning("%d hints could not be sent", len(self._queue))

    async def close(self) -> None:
        await self._tasks.close()
        await self._disconnect()

    # For subclasses.

    @abstractmethod
    async def _connect(self) -> None:
        """Connect, and listen to all that was followed."""

    @abstractmethod
    async def _send(self, hints: Sequence[Hint]) -> None:
        """Send hints, as few messages."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Drop the connection, if there is one. Never raises."""

    def _received(self, message: bytes) -> None:
        """A message has come."""
        for hint in decode_hints(message):
            if hint.kind == "h" and hint.process == self._process:
                self._received_at = asyncio.get_running_loop().time()
            self._on_hint(hint)

    def _connection_lost(self) -> None:
        """The driver says that the connection is gone."""
        self._lost.set()

    # The life of the bus.

    async def _run(self) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            try:
                self._lost.clear()
                await self._connect()
                self._is_connected = True
                self._received_at = 0.0
                began = asyncio.get_running_loop().time()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._send_queued())
                    group.create_task(self._beat(began))
            except Exception as exc:  # boundary: whatever a driver raises
                _log.warning("the hint bus is down: %s", _cause(exc))
            finally:
                self._is_connected = False
                await self._disconnect()
            await asyncio.sleep(delay_s)
            delay_s = min(_LAST_DELAY_S, delay_s * 1.5) if not self._received_at else _FIRST_DELAY_S

    async def _send_queued(self) -> None:
        while True:
            await self._queued.wait()
            await self._collect()
            hints = list(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
            self._queued.clear()
            await self._send(hints)
            if not self._queue:
                self._sent.set()

    async def _collect(self) -> None:
        """Wait for what else is to go out at once."""
        await asyncio.sleep(0)

    async def _beat(self, began: float) -> None:
        loop = asyncio.get_running_loop()
        was_received = False
        while True:
            self.publish(Hint(kind="h", process=self._process))
            for _ in range(4):
                try:
                    async with asyncio.timeout(self._beat_s / 4 if was_received else 0.05):
                        await self._lost.wait()
                    raise ConnectionError("the connection is lost")
                except TimeoutError:
                    pass
                if self._received_at and not was_received:
                    was_received = True
                    self._on_gap()  # what was published before now did not arrive
            if loop.time() - max(began, self._received_at) > self._silent_s:
                raise ConnectionError("no heartbeat was received")


def _cause(exc: BaseException) -> str:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return f"{type(exc).__name__}: {exc}"

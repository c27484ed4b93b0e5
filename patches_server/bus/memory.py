"""`MemoryBus`: hints between servers in one process, for tests and simulations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from patches_server.bus.hints import Hint, decode_hints


class MemoryChannel:
    """What the buses of several servers share. `passes` decides, for a test, what arrives."""

    def __init__(self) -> None:
        self.buses: list[MemoryBus] = []
        #: How often a hint arrives: 0 loses it.
        self.times: Callable[[Hint], int] = lambda _hint: 1


class MemoryBus:
    """A `HintBus`. Hints go through their encoded form, as over a network."""

    def __init__(self, channel: MemoryChannel) -> None:
        self._channel = channel
        self._on_hint: Callable[[Hint], None] | None = None
        self._on_gap: Callable[[], None] = lambda: None
        self._is_up = True

    @property
    def healthy(self) -> bool:
        """Whether hints arrive."""
        return self._is_up

    async def start(
        self, process: str, on_hint: Callable[[Hint], None], on_gap: Callable[[], None]
    ) -> None:
        self._on_hint, self._on_gap = on_hint, on_gap
        self._channel.buses.append(self)

    async def follow(self, doc_id: str) -> None:
        pass

    def unfollow(self, doc_id: str) -> None:
        pass

    def publish(self, hint: Hint) -> None:
        loop = asyncio.get_running_loop()
        if self._is_up:
            for _ in range(self._channel.times(hint)):
                loop.call_soon(self._deliver, hint.encode())

    def set_up(self, is_up: bool) -> None:
        """Let the bus of this server fail, or come back."""
        came_back = is_up and not self._is_up
        self._is_up = is_up
        if came_back:
            self._on_gap()

    async def flush(self) -> None:
        pass

    async def close(self) -> None:
        if self in self._channel.buses:
            self._channel.buses.remove(self)

    def _deliver(self, encoded: bytes) -> None:
        for bus in list(self._channel.buses):
            if bus._is_up and bus._on_hint is not None:
                for hint in decode_hints(encoded):
                    bus._on_hint(hint)

"""`HintBus`: what carries hints between processes.

`patches.testing.contracts.bus` holds the tests that every one passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from patches_server.bus.hints import Hint


class HintBus(Protocol):
    """Carries hints to the other processes, and to this one as well.

    It may lose, double, delay and reorder them. A commit never waits for it.
    """

    @property
    def healthy(self) -> bool:
        """Whether hints arrive, as far as is known. While they do not, the store is polled."""

    async def start(
        self, process: str, on_hint: Callable[[Hint], None], on_gap: Callable[[], None]
    ) -> None:
        """Begin. `on_gap` is called when hints may have been lost: at each new connection."""

    async def follow(self, doc_id: str) -> None:
        """Receive a document's hints from now on; returns when that is so, or the bus is down."""

    def unfollow(self, doc_id: str) -> None:
        """Its hints are needed no more. Some may still come."""

    def publish(self, hint: Hint) -> None:
        """Send a hint, soon and without waiting."""

    async def flush(self) -> None:
        """Wait until what was published is sent, or cannot be."""

    async def close(self) -> None:
        """End."""

"""`NoBus`: no hints at all. Other processes' commits are found by polling the store."""

from __future__ import annotations

from collections.abc import Callable

from patches_server.bus.hints import Hint


class NoBus:
    """A `HintBus` that is never healthy."""

    healthy = False

    async def start(
        self, process: str, on_hint: Callable[[Hint], None], on_gap: Callable[[], None]
    ) -> None:
        pass

    async def follow(self, doc_id: str) -> None:
        pass

    def unfollow(self, doc_id: str) -> None:
        pass

    def publish(self, hint: Hint) -> None:
        pass

    async def flush(self) -> None:
        pass

    async def close(self) -> None:
        pass

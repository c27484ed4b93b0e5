"""`ResponseDeadline`: answers a caller with 503 when its call takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class ResponseDeadline:
    """Calls `give_up` once when its body takes too long; the body goes on."""

    def __init__(self, give_up: Callable[[], None], timeout_s: float | None) -> None:
        self._give_up, self._timeout_s = give_up, timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self.has_passed: bool = False

    def is_over(self) -> bool:
        """Whether the caller was answered with 503."""
        return self.has_passed

    def __enter__(self) -> ResponseDeadline:
        if self._timeout_s is not None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._pass)
        return self

    def stop(self) -> None:
        """From now on the body may take as long as it takes."""
        if self._timer is not None:
            self._timer.cancel()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _pass(self) -> None:
        self.has_passed = True
        self._give_up()

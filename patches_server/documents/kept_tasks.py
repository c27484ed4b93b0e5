"""`KeptTasks`: work that goes on whether or not somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class KeptTasks:
    """Holds tasks until they are done. What they raise is for those who wait for them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as a task."""
        task = asyncio.get_running_loop().create_task(work, name=self._name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def __bool__(self) -> bool:
        return bool(self._running)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # a caller that has gone will not fetch it

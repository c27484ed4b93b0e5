"""`TurnMeter`: how much runs between two turns of an event loop, counted and not timed.

Lines of Python that the loop's own thread executes are counted from one callback of the loop to the
next; what runs in other threads is not. So a test can say that nothing long is done on the loop,
and gives the same answer on a slow machine. One call into C counts as one line, however long.
"""

from __future__ import annotations

import asyncio.events
import sys
from types import FrameType, TracebackType
from typing import Any, Final, Self

_CALLBACK: Final = asyncio.events.Handle._run.__code__


class TurnMeter:
    """Measures in its `with` block; `longest` is then the most lines of one turn."""

    def __init__(self) -> None:
        self.longest = 0
        self._lines = 0
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.settrace(self._before)
        self._turn()

    def _turn(self) -> None:
        self.longest = max(self.longest, self._lines)
        self._lines = 0

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code is _CALLBACK:
            self._turn()
        return self._count

    def _count(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "line":
            self._lines += 1
        return self._count

"""`Outbox`: what waits to be written to one peer, bounded, so that a slow one costs only itself.

Fan-out puts a ready frame into many outboxes and never waits; each connection's one writer task
empties its own (`spec/reliability.md` T32). Over the bound the peer is cut off with 1013: it
reconnects and catches up by revision.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from patches.limits import Limits

GOING_AWAY: Final = 1001
#: A service that this one needs is not there.
ASK_LATER: Final = 1011
TOO_SLOW: Final = 1013
#: The peer's sign-in has ended; from the range that is free for applications.
SIGNED_OUT: Final = 4401


@dataclass(frozen=True, slots=True)
class Close:
    """Why a connection is closed by the server."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A place between frames. A transport calls `taken` when its peer has all before it."""

    taken: Callable[[], object]


class Outbox:
    """Frames on their way to one peer, in the order of `put`."""

    def __init__(self, limits: Limits) -> None:
        self._max_bytes = limits.max_response_buffer_bytes
        self._max_frames = limits.max_response_buffer_msgs
        self._frames: deque[bytes | Mark] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self.closing: Close | None = None
        #: Called when the peer is cut off for being slow: its writer may be stuck in a write.
        self.on_cut: Callable[[], object] | None = None
        #: Whether the transport deals with marks; it then takes what is queued by `get_any`.
        self.keeps_marks = False

    def put(self, frame: bytes) -> None:
        """Queue a frame; after `close` it is dropped. Over the bound the outbox closes instead.

        The bound is measured before the frame is added: one larger answer fits an empty outbox.
        """
        if self.closing is not None:
            return
        if (self._max_bytes is not None and self._bytes > self._max_bytes) or (
            self._max_frames is not None and len(self._frames) >= self._max_frames
        ):
            self.close(TOO_SLOW, "reads too slowly", discard=True)
            if self.on_cut is not None:
                self.on_cut()
            return
        self._frames.append(frame)
        self._bytes += len(frame)
        self._filled.set()

    def when_taken(self, then: Callable[[], object]) -> None:
        """Call `then` once the peer has taken what is queued so far; at once if none can tell."""
        if self.closing is not None:
            return
        if self.keeps_marks:
            self._frames.append(Mark(then))
            self._filled.set()
        else:
            then()

    def close(self, code: int, reason: str, *, discard: bool = False) -> None:
        """Close the connection once what is queued has been written; `discard`: without it."""
        if self.closing is None:
            self.closing = Close(code, reason)
        if discard:
            self._frames.clear()
            self._bytes = 0
        self._filled.set()

    async def get(self) -> bytes | None:
        """The next frame, when there is one; `None` once the outbox is closed and empty."""
        return _frame(await self.get_any())

    def get_nowait(self) -> bytes | None:
        """The next frame if one is queued."""
        return _frame(self.get_any_nowait())

    async def get_any(self) -> bytes | Mark | None:
        """The next frame or mark, as `get`."""
        while not self._frames:
            if self.closing is not None:
                return None
            self._filled.clear()
            await self._filled.wait()
        return self._pop()

    def get_any_nowait(self) -> bytes | Mark | None:
        """The next frame or mark if one is queued."""
        return self._pop() if self._frames else None

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def queued_bytes(self) -> int:
        """Bytes that no transport has taken yet."""
        return self._bytes

    def _pop(self) -> bytes | Mark:
        item = self._frames.popleft()
        if not isinstance(item, Mark):
            self._bytes -= len(item)
        return item


def _frame(item: bytes | Mark | None) -> bytes | None:
    assert not isinstance(item, Mark), "a transport that keeps marks takes them, too"
    return item

"""`Outbox`: what waits to be written to one peer.

Fan-out puts one event into many outboxes and never waits; each connection's one writer task empties
its own. An event is a method and its encoded params; the door that the peer came through says how
it is written (`render`), and that is done once for all peers of a door.

Answers and what the peer did not request are bounded separately:

- Answers are never dropped. While `max_response_buffer_bytes` of them wait, the session reads no
  more calls of this peer (`has_room`), so that a slow reader slows itself down and nobody else.
- Broadcasts come whether or not the peer reads. Over the bound the peer is cut off with 1013: it
  reconnects and catches up by revision.
- Presence takes no room from broadcasts: while much waits, the newest message of each sender is
  kept beside the queue, and follows when little waits. What does not fit there is dropped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from patches.limits import Limits

GOING_AWAY: Final = 1001
#: A service that this one needs is not there.
TRY_LATER: Final = 1011
#: The storage has become another one; never sent for anything else.
ANOTHER_HISTORY: Final = 1012
#: The connection was lost; never sent.
LOST: Final = 1006
TOO_SLOW: Final = 1013
#: The peer's sign-in has ended; from the range that is free for applications.
SIGNED_OUT: Final = 4401
#: Presence may take this part of what may wait, in the queue and beside it.
_SHARE_OF_OFFERS: Final = 8

#: Without a bound of the queue, so many are kept beside it.
_MAX_LATE: Final = 1_000

#: Whose presence a message is about, and in which room.
About: TypeAlias = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Close:
    """Why a connection is closed by the server."""

    code: int
    reason: str


class Event:
    """Something that the server says: a method and its params, as JSON."""

    __slots__ = ("_rendered", "method", "params")

    def __init__(self, method: str, params: bytes) -> None:
        self.method: str = method
        self.params: bytes = params
        self._rendered: dict[Render, bytes] = {}

    def rendered(self, render: Render) -> bytes:
        """What a door writes. Kept: the next outbox wants the same."""
        frame = self._rendered.get(render)
        if frame is None:
            frame = self._rendered[render] = render(self)
        return frame


#: How a door writes an event. One function for all its peers.
Render: TypeAlias = Callable[[Event], bytes]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place between frames. A transport calls `taken` when its peer has all before it."""

    taken: Callable[[], object]


class Outbox:
    """Frames on their way to one peer, in the order in which they were put."""

    def __init__(self, limits: Limits, render: Render) -> None:
        self._render = render
        self._max_bytes = limits.max_response_buffer_bytes
        self._max_frames = limits.max_response_buffer_msgs
        self._frames: deque[bytes | _Answer | Mark] = deque()
        self._answers = 0
        self._answer_bytes = 0
        self._broadcast_bytes = 0
        self._late: dict[About, Event] = {}  # presence that waits for room in the queue
        self._late_bytes = 0
        #: How many offered events gave way to newer ones.
        self.superseded: int = 0
        self._filled = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        #: Whether `has_room` would not wait.
        self.takes_calls: bool = True
        self._waits = True
        self.closing: Close | None = None
        #: Called when the peer is cut off for being slow: its writer may be stuck in a write.
        self.on_cut: Callable[[], object] | None = None
        #: Whether the transport deals with marks; it then takes what is queued by `get_any`.
        self.keeps_marks = False
        #: Writes a broadcast or an answer to the transport at once, past the queue; whether it did.
        #: It is called only when nothing is queued and the writer waits for more.
        self.write_now: Callable[[Event | bytes], bool] | None = None
        #: Said by the writer itself, around its wait. Between its wake-up and its write nothing is
        #: queued either, and what was written then would overtake the frame that it has taken.
        self._writer_waits = False

    def put(self, event: Event, *, at_once: bool = True) -> None:
        """Queue a broadcast; after `close` it is dropped. Over the bound the outbox closes instead.

        `at_once`: it may be written now, if nothing else waits and the door can do that.

        The bound is measured before the frame is added: one larger broadcast fits when none waits.
        """
        if self.closing is not None:
            return
        if self._writer_waits and not self._frames:
            if at_once and self.write_now is not None and self.write_now(event):
                return
        elif self._is_full(self._max_bytes, self._max_frames):
            self.close(TOO_SLOW, "reads too slowly", discard=True)
            if self.on_cut is not None:
                self.on_cut()
            return
        frame = event.rendered(self._render)
        self._frames.append(frame)
        self._broadcast_bytes += len(frame)
        self._filled.set()

    def offer(self, event: Event, *, about: About | None = None) -> bool:
        """Queue an event that the peer can do without; whether the peer will get it.

        If much waits, it is dropped, or with `about` kept until there is room: the newest of each.
        """
        if self.closing is not None:
            return False
        if about in self._late:
            self._drop_late(about)
            self.superseded += 1
        if not self._takes_offers():
            return about is not None and self._keep_late(about, event)
        self._queue(event)
        return True

    def withdraw(self, *, sender: str | None = None, room: str | None = None) -> None:
        """Drop what was offered about a sender, or in a room, or both, and is not queued yet."""
        for about in list(self._late):
            if sender in (None, about[0]) and room in (None, about[1]):
                self._drop_late(about)

    def answer(self, answer: bytes | Event) -> None:
        """Queue the answer to a call, as its door writes it, or an event that is part of it.

        It is written now, if nothing else waits and the door can do that. After `close` it is
        dropped.
        """
        if self.closing is not None:
            return
        if self._writer_waits and not self._frames:
            if self.write_now is not None and self.write_now(answer):
                return
        frame = answer if isinstance(answer, bytes) else answer.rendered(self._render)
        self._frames.append(_Answer(frame))
        self._answers += 1
        self._answer_bytes += len(frame)
        if self._waits and not self._takes_answers():
            self._set_room(False)
        self._filled.set()

    async def has_room(self) -> None:
        """Wait while so many answers are queued that no more calls are to be begun."""
        await self._has_room.wait()

    def stop_waiting(self) -> None:
        """Let everybody through who waits for room, now and from now on: the server is closing."""
        self._waits = False
        self._set_room(True)

    def when_taken(self, then: Callable[[], object]) -> None:
        """Call `then` once the peer has taken what is queued so far; at once if nobody knows."""
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
            self._late.clear()
            self._late_bytes = 0
            self._answers = self._answer_bytes = self._broadcast_bytes = 0
        self._set_room(True)  # whoever waits is to see that the outbox is closed
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
            self._writer_waits = True
            try:
                await self._filled.wait()
            finally:
                self._writer_waits = False
        return self._pop()

    def get_any_nowait(self) -> bytes | Mark | None:
        """The next frame or mark if one is queued."""
        return self._pop() if self._frames else None

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def queued_bytes(self) -> int:
        """Bytes that no transport has taken yet."""
        return self._answer_bytes + self._broadcast_bytes

    @property
    def broadcast_bytes(self) -> int:
        """Bytes of broadcasts and presence that no transport has taken yet."""
        return self._broadcast_bytes

    def _queue(self, event: Event) -> None:
        frame = event.rendered(self._render)
        self._frames.append(frame)
        self._broadcast_bytes += len(frame)
        self._filled.set()

    def _takes_offers(self) -> bool:
        max_bytes = None if self._max_bytes is None else self._max_bytes // _SHARE_OF_OFFERS
        max_frames = None if self._max_frames is None else self._max_frames // _SHARE_OF_OFFERS
        return not self._is_full(max_bytes, max_frames)

    def _keep_late(self, about: About, event: Event) -> bool:
        max_events = (self._max_frames or _MAX_LATE * _SHARE_OF_OFFERS) // _SHARE_OF_OFFERS
        size = self._late_bytes + len(event.params)
        if len(self._late) >= max(1, max_events):
            return False
        if self._max_bytes is not None and size > self._max_bytes // _SHARE_OF_OFFERS:
            return False
        self._late[about] = event
        self._late_bytes = size
        return True

    def _drop_late(self, about: About | None) -> None:
        event = None if about is None else self._late.pop(about, None)
        if event is not None:
            self._late_bytes -= len(event.params)

    def _is_full(self, max_bytes: int | None, max_frames: int | None) -> bool:
        return (max_bytes is not None and self._broadcast_bytes > max_bytes) or (
            max_frames is not None and len(self._frames) - self._answers >= max_frames
        )

    def _set_room(self, there_is: bool) -> None:
        self.takes_calls = there_is
        if there_is:
            self._has_room.set()
        else:
            self._has_room.clear()

    def _takes_answers(self) -> bool:
        return (self._max_bytes is None or self._answer_bytes <= self._max_bytes) and (
            self._max_frames is None or self._answers < self._max_frames
        )

    def _pop(self) -> bytes | Mark:
        item = self._frames.popleft()
        if isinstance(item, _Answer):
            self._answers -= 1
            self._answer_bytes -= len(item.frame)
            if not self.takes_calls and self._takes_answers():
                self._set_room(True)
            return item.frame
        if not isinstance(item, Mark):
            self._broadcast_bytes -= len(item)
            if self._late and self.closing is None and self._takes_offers():
                about = next(iter(self._late))
                event = self._late[about]
                self._drop_late(about)
                self._queue(event)
        return item


@dataclass(frozen=True, slots=True)
class _Answer:
    frame: bytes


def _frame(item: bytes | Mark | None) -> bytes | None:
    assert not isinstance(item, Mark), "a transport that keeps marks takes them, too"
    return item

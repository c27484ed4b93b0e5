"""`Link`: one client's way to a server in the same process, and the switches that break it.

Frames of each direction stay in order, whatever is done to them; a cut loses those under way, as a
network does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

from patches.errors import NetworkError
from patches.model import codec
from patches.net.connection import RpcConnection
from patches.net.streams import StreamTransport
from patches.runtime import Runtime
from patches.testing.streams import MemoryStream

Direction: TypeAlias = Literal["both", "to_server", "to_client"]


class Link:
    """A way to a server that can be cut, held, slowed, and lose what goes over it.

    `accept` gets the server's end of each new connection.
    """

    def __init__(self, accept: Callable[[MemoryStream], None]) -> None:
        #: Whether the server can be reached; set to `False`, new connections are refused.
        self.up: bool = True
        #: How long a frame takes, each way.
        self.delay_s: float = 0.0
        #: How often the client has tried to connect.
        self.attempts: int = 0
        self._accept = accept
        self._held: set[Direction] = set()
        self._losing: dict[Direction, str | None] = {}
        self._asked: dict[Any, Any] = {}  # request id -> method, while an answer is to be lost
        self._streams: tuple[_LinkStream, _LinkStream] | None = None

    def connection(self, *, runtime: Runtime | None = None) -> RpcConnection:
        """A connection over this link, for a `PatchesSync`; it reconnects as a websocket does."""
        return RpcConnection(
            StreamTransport(self.dial, name="link", runtime=runtime), url="memory:"
        )

    async def dial(self) -> MemoryStream:
        """Connect. Raises `NetworkError` while the link is down."""
        self.attempts += 1
        if not self.up:
            raise NetworkError("cannot connect: the link is down")
        if self._streams is not None:
            self.cut()
        near, far = _LinkStream(self, "to_client"), _LinkStream(self, "to_server")
        near.join(far)
        self._streams = near, far
        self._accept(far)
        return near

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._streams is not None and not self._streams[0].is_closed

    def cut(self, *, code: int = 1006, lose: bool = True) -> None:
        """End the connection, for both sides at once; the client will try again by itself.

        What was on its way is lost; with `lose=False`, what has arrived is still read.
        """
        if self._streams is not None:
            self._streams[0].cut(code, lose=lose)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Within this block there is no connection, and no new one can be made."""
        self.up = False
        self.cut()
        try:
            yield
        finally:
            self.up = True

    def hold(self, direction: Direction = "both") -> None:
        """Let nothing through, from now to `release`. Neither side can tell: nothing is closed."""
        self._held.update(_ways(direction))

    def release(self) -> None:
        """Let everything through that was held, in order."""
        self._held.clear()
        for stream in self._streams or ():
            stream.pump()

    @contextmanager
    def held(self, direction: Direction = "both") -> Iterator[None]:
        """Hold within this block."""
        self.hold(direction)
        try:
            yield
        finally:
            self.release()

    def lose_answer(self, method: str | None = None) -> None:
        """The next answer, or the next to this method, is lost, and the connection with it: the
        server has done its part, and the client does not know.
        """
        self._losing["to_client"] = method

    def lose_request(self, method: str | None = None) -> None:
        """The next request, or the next of this method, is lost, and the connection with it."""
        self._losing["to_server"] = method

    def stops(self, direction: Direction) -> bool:
        """Whether frames of a direction are held."""
        return direction in self._held

    def loses(self, direction: Direction, frame: bytes) -> bool:
        """Whether this is the frame that is to be lost; then it is the only one."""
        if not self._losing:
            return False
        method = self._method_of(codec.decode(frame))
        if direction not in self._losing or method is None:
            return False
        if self._losing[direction] not in (None, method):
            return False
        del self._losing[direction]
        return True

    def _method_of(self, wire: Any) -> str | None:
        """What a request asks, or an answer answers; `None` for a notification."""
        if not isinstance(wire, dict) or "id" not in wire:
            return None
        if "method" in wire:
            self._asked[wire["id"]] = wire["method"]
            return str(wire["method"])
        return str(self._asked.pop(wire["id"], "unknown"))


class _LinkStream(MemoryStream):
    """One end of a connection. What comes to it goes through the link's switches first."""

    def __init__(self, link: Link, direction: Direction) -> None:
        super().__init__()
        self._link = link
        self._direction: Direction = direction
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def join(self, peer: _LinkStream) -> None:
        """Be the two ends of one connection."""
        self._peer, peer._peer = peer, self

    def cut(self, code: int = 1006, *, lose: bool = False) -> None:
        super().cut(code, lose=lose)
        for end in (self, self._peer):
            if isinstance(end, _LinkStream):
                end._under_way.clear()
                end._set_timer(None)

    def pump(self) -> None:
        """Hand over what is due."""
        self._set_timer(None)
        now = asyncio.get_running_loop().time()
        while self._under_way and not self._link.stops(self._direction):
            due, frame = self._under_way[0]
            if due > now:
                return self._set_timer(due)
            self._under_way.popleft()
            if self._link.loses(self._direction, frame):
                return self.cut(lose=True)
            super()._put(frame)

    def _put(self, frame: bytes) -> None:
        due = asyncio.get_running_loop().time() + self._link.delay_s
        self._under_way.append((due, frame))
        if self._timer is None:
            self.pump()

    def _set_timer(self, due: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer = asyncio.get_running_loop().call_at(due, self.pump)


def _ways(direction: Direction) -> tuple[Direction, ...]:
    return ("to_server", "to_client") if direction == "both" else (direction,)

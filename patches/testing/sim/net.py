"""`SimNet`: links between clients and servers, with the faults that a network may have.

A link keeps the order of frames in each direction, as a websocket does. When it is cut, each
direction loses a random end of what is under way; what is before that still arrives.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from patches.errors import NetworkError
from patches.testing.sim.loop import Life
from patches.testing.sim.trace import Trace

#: A half-open connection is noticed by the heartbeat within this time.
HEARTBEAT_S: Final = 37.5
#: Bytes under way in one direction before a sender has to wait.
_WINDOW: Final = 2 * 1024


@dataclass(frozen=True, slots=True)
class Latency:
    """Delays of frames: log-normal around a median, never above a maximum."""

    median_s: float = 0.02
    sigma: float = 1.0
    most_s: float = 5.0

    def draw(self, random: Random) -> float:
        """One delay."""
        return min(self.most_s, self.median_s * float(random.lognormvariate(0.0, self.sigma)))


class Pipe:
    """One direction of a link."""

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self.name: str = name
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[bytes] = deque()
        self._bytes = 0
        self._free_at = 0.0  # when the last frame that was sent arrives
        self._inbox: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._drained = asyncio.Event()
        self.silent = False  # half-open: what is sent vanishes
        self.breaks = False  # its end is no `NetworkError` to whoever reads, but some other error
        self.closed: bool = False  # nothing more can be sent
        self._ended = False  # nothing more will arrive

    async def send(self, frame: bytes) -> None:
        """Put a frame on its way. Raises `NetworkError` when the link is closed."""
        while not self.closed and self._bytes > _WINDOW:
            self._drained.clear()
            await self._drained.wait()
        if self.closed:
            raise NetworkError(f"{self.name}: closed")
        net = self._link.net
        if net.on_send is not None:
            await net.on_send(self._link, self, frame)
            if self.closed:
                raise NetworkError(f"{self.name}: closed")
        detail = f"{len(frame)}b {zlib.crc32(frame):08x} {frame[:100]!r}"
        net.trace.add(self.name, "lost" if self.silent else "send", detail)
        if self.silent:
            return
        self._under_way.append(frame)
        self._bytes += len(frame)
        arrives = max(self._free_at, self._loop.time() + net.latency.draw(net.random))
        if self._link.bytes_per_s:
            arrives += len(frame) / self._link.bytes_per_s
        self._free_at = arrives
        self._loop.call_at(arrives, self._arrive)

    async def receive(self) -> bytes:
        """The next frame. Raises `NetworkError` once the link has ended."""
        while not self._inbox:
            if self._ended and self.breaks:
                raise ConnectionResetError(f"{self.name}: cannot write to a closing transport")
            if self._ended:
                raise NetworkError(f"{self.name}: the connection was lost")
            self._changed.clear()
            await self._changed.wait()
        return self._inbox.popleft()

    def cut(self, keep: int) -> None:
        """Lose all but the first `keep` frames under way; nothing more can be sent."""
        if self.closed:
            return
        self.closed = True
        while len(self._under_way) > keep:
            self._bytes -= len(self._under_way.pop())
        self._drained.set()
        if not self._under_way:
            self._end()

    def lose_inbox(self) -> None:
        """The reader's process is gone, and what the system held for it."""
        self._inbox.clear()

    @property
    def under_way(self) -> int:
        """How many frames are under way."""
        return len(self._under_way)

    def lose_rest(self) -> None:
        """The heartbeat of the end that reads has noticed that the other one is gone."""
        self._under_way.clear()
        self._bytes = 0
        self._end()

    def _arrive(self) -> None:
        if not self._under_way:
            return  # it was lost
        frame = self._under_way.popleft()
        self._bytes -= len(frame)
        self._inbox.append(frame)
        self._link.net.trace.add(self.name, "arrive", f"{zlib.crc32(frame):08x}")
        self._drained.set()
        self._changed.set()
        if self.closed and not self._under_way:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._changed.set()


class Link:
    """One connection of a client to a server."""

    def __init__(
        self, net: SimNet, client: Life, server: str, number: int, bytes_per_s: float
    ) -> None:
        self.net: SimNet = net
        self.client: Life = client
        self.server: str = server
        self.server_life: Life | None = None  # set by whoever accepts it
        self.bytes_per_s = bytes_per_s
        self.up: Pipe = Pipe(self, f"{client}#{number}>{server}")
        self.down: Pipe = Pipe(self, f"{server}>{client}#{number}")

    @property
    def open(self) -> bool:
        """Whether either side can still send."""
        return not (self.up.closed and self.down.closed)

    def cut(self, *, graceful: bool = False) -> None:
        """End the link. Gracefully: what is under way arrives, unless the link is very slow."""
        if self.open:
            self.net.trace.add(self.up.name, "close" if graceful else "cut")
        for pipe in (self.up, self.down):
            keep = pipe.under_way if graceful else self.net.random.randint(0, pipe.under_way)
            pipe.cut(keep)
            if pipe.under_way:
                asyncio.get_running_loop().call_later(HEARTBEAT_S, pipe.lose_rest)
        self.net.links.pop(self, None)


class SimStream:
    """One end of a link: a `Stream` for a client's transport, and the same for the server."""

    def __init__(self, link: Link, out: Pipe, into: Pipe) -> None:
        self.link: Link = link
        self._out = out
        self._into = into

    async def send(self, frame: bytes) -> None:
        await self._out.send(frame)

    async def receive(self) -> bytes:
        return await self._into.receive()

    async def close(self) -> None:
        self.link.cut(graceful=True)


class SimNet:
    """The network between all nodes. Whoever dials gets one of the servers, by chance."""

    def __init__(self, *, random: Random, trace: Trace, latency: Latency | None = None) -> None:
        self.random: Random = random
        self.trace: Trace = trace
        self.latency: Latency = latency or Latency()
        #: Every server, and what takes its end of a new link: `None` while it is down.
        self.servers: dict[str, Callable[[SimStream], None] | None] = {}
        self.links: dict[Link, None] = {}
        self.refusing: dict[str, None] = {}  # clients that are cut off from the server
        self.slow: dict[str, float] = {}  # clients that read slowly: bytes per second
        #: Called before each frame that is sent: a crash point.
        self.on_send: Callable[[Link, Pipe, bytes], Awaitable[None]] | None = None
        self._count = 0

    async def dial(self, client: Life) -> SimStream:
        """Open a link. Raises `NetworkError` where there is no way or nobody there."""
        await asyncio.sleep(self.latency.draw(self.random))
        names = list(self.servers)
        server = names[0] if len(names) == 1 else self.random.choice(names)
        accept = self.servers[server]
        if accept is None or client.name in self.refusing or not client.alive:
            self.trace.add(client, "refused")
            raise NetworkError("connection refused")
        self._count += 1
        link = Link(self, client, server, self._count, self.slow.get(client.name, 0.0))
        self.links[link] = None
        self.trace.add(link.up.name, "open")
        accept(SimStream(link, link.down, link.up))
        return SimStream(link, link.up, link.down)

    def links_of(self, node: str) -> list[Link]:
        """The open links of a client or a server."""
        return [link for link in self.links if node in (link.client.name, link.server)]

    def half_open(self, link: Link, *, up: bool) -> None:
        """One direction goes silent, until the heartbeat notices."""
        pipe = link.up if up else link.down
        pipe.silent = True
        self.trace.add(pipe.name, "half-open")
        wait_s = self.random.uniform(0.5, HEARTBEAT_S)
        asyncio.get_running_loop().call_later(wait_s, link.cut)

    def slow_down(self, client: str, bytes_per_s: float, for_s: float) -> None:
        """A client reads slowly for a while."""
        self.slow[client] = bytes_per_s
        for link in self.links_of(client):
            link.bytes_per_s = bytes_per_s
        asyncio.get_running_loop().call_later(for_s, self._speed_up, client)

    def _speed_up(self, client: str) -> None:
        self.slow.pop(client, None)
        for link in self.links_of(client):
            link.bytes_per_s = 0.0

    def heal(self) -> None:
        """All faults end; links that are half-open end too."""
        self.refusing.clear()
        self.slow.clear()
        for link in list(self.links):
            if link.up.silent or link.down.silent or link.bytes_per_s:
                link.cut()

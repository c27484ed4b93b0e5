"""In-memory connections: both ends of a stream, and a network that a test cuts and refuses."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from patches.errors import NetworkError
from patches.net.streams import StreamTransport
from patches.net.websocket_stream import closed
from patches.runtime import Runtime


class MemoryStream:
    """One end of a connection. What one end sends, the other receives, in order."""

    def __init__(self) -> None:
        self._inbox: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._end: NetworkError | None = None
        self._peer: MemoryStream | None = None

    @classmethod
    def pair(cls) -> tuple[MemoryStream, MemoryStream]:
        """Both ends of a new connection."""
        near, far = cls(), cls()
        near._peer, far._peer = far, near
        return near, far

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self._end is not None

    async def send(self, frame: bytes) -> None:
        if self._end is not None or self._peer is None:
            raise self._end or NetworkError("closed")
        self._peer._put(frame)

    async def receive(self) -> bytes:
        while not self._inbox:
            if self._end is not None:
                raise self._end
            self._arrived.clear()
            await self._arrived.wait()
        return self._inbox.popleft()

    async def close(self) -> None:
        self.cut(1000)

    def cut(self, code: int = 1006, *, lose: bool = False) -> None:
        """End the connection, both ways, with a close code. `lose`: also what is under way."""
        for end in (self, self._peer):
            if end is not None and end._end is None:
                end._end = closed(code, None)
                if lose:
                    end._inbox.clear()
                end._arrived.set()

    def _put(self, frame: bytes) -> None:
        self._inbox.append(frame)
        self._arrived.set()


class MemoryNetwork:
    """A server's place in a network of one process. `dial` connects to it.

    `up` is whether it can be reached; `streams` are the clients' ends, the newest last.
    """

    def __init__(self, accept: Callable[[MemoryStream], None] | None = None) -> None:
        self.up = True
        self.attempts: int = 0
        self.streams: list[MemoryStream] = []
        self.accepted: asyncio.Queue[MemoryStream] = asyncio.Queue()
        self._accept = accept or self.accepted.put_nowait

    async def dial(self) -> MemoryStream:
        """Open a connection; the server's end goes to `accept`, or to the queue `accepted`."""
        self.attempts += 1
        if not self.up:
            raise NetworkError("cannot connect: nobody there")
        near, far = MemoryStream.pair()
        self.streams.append(near)
        self._accept(far)
        return near

    def cut(self, code: int = 1006, *, lose: bool = False) -> None:
        """End every connection."""
        for stream in self.streams:
            stream.cut(code, lose=lose)
        self.streams.clear()


def memory_transport(
    network: MemoryNetwork, *, name: str = "memory", runtime: Runtime | None = None
) -> StreamTransport:
    """A transport over a network of one process, with the real one's reconnecting."""
    return StreamTransport(network.dial, name=name, runtime=runtime)

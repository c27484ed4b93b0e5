"""The original's websocket transport (`docs/internals/sync.md` 3), over a real socket.

It tries again 1, 1.5, 2.25 ... s after a failure, at most 30 s; `second` says how long a second is
here. A `send` on a socket that is closed raises an ordinary error (`docs/internals/sync.md` 12.5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from socket import SHUT_RDWR
from typing import Literal, TypeAlias

import aiohttp

from patches.aio.tasks import TaskScope

State: TypeAlias = Literal["disconnected", "connecting", "connected", "error"]

_MAX_FRAME = 2**28  # the original has no limit


class OriginalSocket:
    """One client's transport, from `start` to `close`."""

    def __init__(
        self,
        url: str,
        *,
        on_frame: Callable[[str], None],
        on_state: Callable[[State], None],
        second: float,
    ) -> None:
        self._url, self._on_frame, self._on_state, self._second = url, on_frame, on_state, second
        self._scope = TaskScope("original socket")
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._outgoing: asyncio.Queue[str] = asyncio.Queue()
        self._wanted = asyncio.Event()
        self.state: State = "disconnected"
        #: What arrives is lost while this is set; until the next `drop`.
        self.deaf = False

    def start(self) -> None:
        """Begin; it connects once it is wanted."""
        self._session = aiohttp.ClientSession()
        self._scope.start()
        self._scope.spawn(self._run(), name="original socket")

    async def close(self) -> None:
        """End everything."""
        await self._scope.close()
        if self._session is not None:
            await self._session.close()

    def connect(self) -> None:
        """Want a connection from now on."""
        self._wanted.set()

    def disconnect(self) -> None:
        """Want none. The socket is let go of first: its late events are ignored."""
        self._wanted.clear()
        self.drop()

    def drop(self) -> None:
        """Cut the socket, with everything that is on its way in it."""
        socket, self._socket = self._socket, None
        self.deaf = False
        if socket is not None:
            raw = socket.get_extra_info("socket")
            if raw is not None:
                raw.shutdown(SHUT_RDWR)  # no closing handshake: both sides just see an end
            self._set("disconnected")

    def send(self, text: str) -> None:
        """Write a frame."""
        if self._socket is None or self._socket.closed:
            raise RuntimeError("WebSocket is not connected")
        self._outgoing.put_nowait(text)

    def _set(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)

    async def _run(self) -> None:
        wait_s = self._second
        while True:
            await self._wanted.wait()
            self._set("connecting")
            socket = await self._opened()
            if socket is None:
                self._set("error")
                self._set("disconnected")
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 1.5, 30 * self._second)
                continue
            self._socket, self._outgoing, wait_s = socket, asyncio.Queue(), self._second
            self._set("connected")
            writer = asyncio.ensure_future(self._write(socket, self._outgoing))
            try:
                await self._read(socket)
            finally:
                writer.cancel()
                await asyncio.wait([writer])
                await socket.close()
            if self._socket is socket:
                self._socket = None
                self._set("disconnected")
            if self._wanted.is_set():
                await asyncio.sleep(wait_s)

    async def _opened(self) -> aiohttp.ClientWebSocketResponse | None:
        assert self._session is not None
        try:
            return await self._session.ws_connect(self._url, max_msg_size=_MAX_FRAME)
        except aiohttp.ClientError:
            return None

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        # What one packet held is handed on in one go, without a turn of the loop in between.
        async for message in socket:
            if socket is not self._socket:
                return
            if message.type is aiohttp.WSMsgType.TEXT and not self.deaf:
                self._on_frame(message.data)

    async def _write(
        self, socket: aiohttp.ClientWebSocketResponse, outgoing: asyncio.Queue[str]
    ) -> None:
        try:
            while True:
                await socket.send_str(await outgoing.get())
        except (aiohttp.ClientError, ConnectionError):
            return  # the reader sees the end too

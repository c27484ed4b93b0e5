"""One websocket: frames in to a session, the session's outbox out, from one task.

The only part of the server that writes to a socket. It has never heard of a document.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from aiohttp import ClientConnectionError, WSMsgType, web

from patches.limits import Limits
from patches_server.service.fanout.outbox import TOO_SLOW, Mark, Outbox
from patches_server.service.session import ServerSession

#: Sub-protocols that a browser may name; a token can be sent as a second one beside it.
SUBPROTOCOLS: Final = ("patches",)
#: How long a peer may take to answer a closing handshake.
_CLOSE_TIMEOUT_S: Final = 2.0
#: Frames are written without looking at the clock up to this many bytes.
_BATCH_BYTES: Final = 64 * 1024


async def serve_websocket(
    request: web.Request, open_session: Callable[[], ServerSession], limits: Limits
) -> web.StreamResponse:
    """Serve a peer until either side closes. Authentication is over when this is called."""
    ws = web.WebSocketResponse(
        timeout=_CLOSE_TIMEOUT_S,
        heartbeat=limits.heartbeat_s,
        autoping=False,  # pings and pongs are signs of life that `_read` wants to see
        protocols=SUBPROTOCOLS,
        compress=limits.compress,
        max_msg_size=limits.max_frame_bytes,
        decode_text=False,  # bytes go to the parser as they are, invalid UTF-8 included
    )
    try:
        await ws.prepare(request)
    except ConnectionError:  # the peer has left meanwhile; aiohttp drops what we answer
        return web.Response()
    session = open_session()
    session.outbox.keeps_marks = True
    marks = _Marks(ws)
    transport = request.transport
    if transport is not None:
        session.outbox.on_cut = partial(
            asyncio.get_running_loop().call_later, _CLOSE_TIMEOUT_S, transport.abort
        )
    try:
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(
                _write(ws, session.outbox, marks, transport, limits.send_timeout_s),
                name="websocket writer",
            )
            with _Silent(transport, limits.heartbeat_s) as silent:
                watch = _Stalled(transport, limits.send_timeout_s)
                await _read(ws, session, marks, silent, watch)
            writer.cancel()
    finally:
        session.end()
    return ws


async def _read(
    ws: web.WebSocketResponse,
    session: ServerSession,
    marks: _Marks,
    silent: _Silent,
    watch: _Stalled,
) -> None:
    async for message in ws:
        silent.is_reading = False
        # A binary frame is taken for text, as the original's server does.
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            await session.receive(message.data)
        elif message.type is WSMsgType.PING:
            try:
                with watch:  # who pings and reads nothing would stop us here for ever
                    await ws.pong(message.data)
            except (ClientConnectionError, ConnectionError):
                return
        elif message.type is WSMsgType.PONG:
            marks.answered(message.data)
        silent.heard()


async def _write(
    ws: web.WebSocketResponse,
    outbox: Outbox,
    marks: _Marks,
    transport: asyncio.Transport | None,
    send_timeout_s: float | None,
) -> None:
    watch = _Stalled(transport, send_timeout_s)
    try:
        while (item := await outbox.get_any()) is not None:
            written = 0
            with watch:
                while item is not None:
                    if isinstance(item, Mark):
                        await marks.ask(item)
                    else:
                        await ws.send_frame(item, WSMsgType.TEXT)
                        written += len(item)
                    item = outbox.get_any_nowait() if written < _BATCH_BYTES else None
    except (ClientConnectionError, ConnectionError):
        pass  # the reader ends too, and with it the connection
    close = outbox.closing
    if close is None:
        return
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await ws.close(
                code=close.code, message=close.reason.encode(), drain=close.code != TOO_SLOW
            )
    except TimeoutError:
        pass
    if transport is not None and (close.code == TOO_SLOW or not transport.is_closing()):
        transport.abort()  # a peer that reads nothing never answers the closing handshake either


class _Marks:
    """Asks the peer by a ping whether it has taken what was written before a mark."""

    def __init__(self, ws: web.WebSocketResponse) -> None:
        self._ws = ws
        self._asked: deque[tuple[int, Mark]] = deque()
        self._count = 0

    async def ask(self, mark: Mark) -> None:
        """Write the ping of a mark."""
        self._count += 1
        self._asked.append((self._count, mark))
        await self._ws.ping(b"%d" % self._count)

    def answered(self, data: bytes | bytearray) -> None:
        """A pong came. A peer may answer the last of several pings alone (RFC 6455, 5.5.3)."""
        if not data.isdigit() or len(data) > 19:
            return  # that of a heartbeat, or none of ours
        while self._asked and self._asked[0][0] <= int(data):
            self._asked.popleft()[1].taken()


class _Silent:
    """Aborts a connection that sends no whole message, not even a pong, for too long.

    aiohttp's own heartbeat takes any byte for life, so that a message that comes byte by byte
    would keep a connection open for ever (`spec/reliability.md` T33).
    """

    def __init__(self, transport: asyncio.Transport | None, heartbeat_s: float | None) -> None:
        self._transport = transport
        self._longest_s = None if heartbeat_s is None else 1.5 * heartbeat_s + 0.5
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.is_reading = True

    def heard(self) -> None:
        """A message has been dealt with; the next one is waited for."""
        self._heard_at = self._loop.time()
        self.is_reading = True

    def __enter__(self) -> _Silent:
        self._look()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._transport is None or self._longest_s is None:
            return
        left_s = self._longest_s
        if self.is_reading:
            left_s -= self._loop.time() - self._heard_at
        if left_s <= 0:
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(left_s, self._look)


class _Stalled:
    """Aborts a connection whose peer takes no byte for a while. Entered around each write."""

    def __init__(self, transport: asyncio.Transport | None, timeout_s: float | None) -> None:
        self._transport, self._timeout_s = transport, timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0

    def __enter__(self) -> None:
        if self._timeout_s is not None and self._transport is not None:
            self._left = -1
            self._arm()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        assert self._timeout_s is not None
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._look)

    def _look(self) -> None:
        assert self._transport is not None
        left = self._transport.get_write_buffer_size()
        if left == self._left:
            self._transport.abort()
            return
        self._left = left
        self._arm()

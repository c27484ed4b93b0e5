"""One websocket: frames in to a session, the session's outbox out, from one task.

The only part of the server that writes to a socket. It knows no documents.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from aiohttp import ClientConnectionError, WSMsgType, web

from patches.limits import Limits
from patches_server.service.fanout.outbox import LOST, TOO_SLOW, Event, Mark, Outbox
from patches_server.service.json_rpc import JsonRpcPeer, render

#: Sub-protocols that a browser may name; a token can be sent as a second one beside it.
SUBPROTOCOLS: Final = ("patches",)
#: How long a peer may take to answer a closing handshake.
_CLOSE_TIMEOUT_S: Final = 2.0
#: Frames are written without reading the clock up to this many bytes.
_BATCH_BYTES: Final = 64 * 1024


async def serve_websocket(
    request: web.Request, open_session: Callable[[], JsonRpcPeer], limits: Limits
) -> web.StreamResponse:
    """Serve a peer until either side closes. Authentication is over when this is called."""
    ws = web.WebSocketResponse(
        timeout=_CLOSE_TIMEOUT_S,
        heartbeat=None,  # see `_Heartbeat`
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
    stalled = _Stalled(transport, limits.send_timeout_s)
    if transport is not None and not ws.compress:
        session.outbox.write_now = _DirectWriter(transport, stalled)
    try:
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(
                _write(ws, session.outbox, marks, transport, stalled),
                name="websocket writer",
            )
            with _Heartbeat(transport, session.outbox, limits.heartbeat_s) as heartbeat:
                watch = _Stalled(transport, limits.send_timeout_s)
                await _read(ws, session, marks, heartbeat, watch)
            session.outbox.write_now = None  # the closing handshake is over
            writer.cancel()
    finally:
        stalled.stop()
        session.end()
    return ws


async def _read(
    ws: web.WebSocketResponse,
    session: JsonRpcPeer,
    marks: _Marks,
    heartbeat: _Heartbeat,
    watch: _Stalled,
) -> None:
    async for message in ws:
        heartbeat.is_reading = False
        # A binary frame is taken for text, as the server of @dabble/patches 0.28.1 does.
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
        heartbeat.message_received()


async def _write(
    ws: web.WebSocketResponse,
    outbox: Outbox,
    marks: _Marks,
    transport: asyncio.Transport | None,
    watch: _Stalled,
) -> None:
    try:
        while (item := await outbox.get_any()) is not None:
            written = 0
            with watch:
                while item is not None:
                    if isinstance(item, Mark):
                        await marks.ping(item)
                    else:
                        await ws.send_frame(item, WSMsgType.TEXT)
                        written += len(item)
                    item = outbox.get_any_nowait() if written < _BATCH_BYTES else None
    except (ClientConnectionError, ConnectionError):
        # The reader ends too, and with it the connection. It may wait for room in the outbox.
        outbox.close(LOST, "the connection was lost", discard=True)
        return
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


def websocket_frame(event: Event) -> bytes:
    """An event as a whole websocket frame."""
    return text_frame(event.rendered(render))


def text_frame(payload: bytes) -> bytes:
    """A whole websocket frame of text, not masked, as servers write it (RFC 6455)."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class _DirectWriter:
    """Writes a frame straight to the transport, if that has nothing else to write.

    Not a large answer: `Outbox` is to know how much of those a peer has yet to take.
    """

    __slots__ = ("_stalled", "_transport")

    def __init__(self, transport: asyncio.Transport, stalled: _Stalled) -> None:
        self._transport, self._stalled = transport, stalled

    def __call__(self, frame: Event | bytes) -> bool:
        transport = self._transport
        if transport.get_write_buffer_size():
            return False
        if not isinstance(frame, bytes):
            transport.write(frame.rendered(websocket_frame))
        elif len(frame) <= _BATCH_BYTES:
            transport.write(text_frame(frame))
        else:
            return False
        if transport.get_write_buffer_size():
            self._stalled.start()
        return True


class _Marks:
    """Finds out by pings whether the peer has taken what was written before a mark."""

    def __init__(self, ws: web.WebSocketResponse) -> None:
        self._ws = ws
        self._pinged: deque[tuple[int, Mark]] = deque()
        self._count = 0

    async def ping(self, mark: Mark) -> None:
        """Write the ping of a mark."""
        self._count += 1
        self._pinged.append((self._count, mark))
        await self._ws.ping(b"%d" % self._count)

    def answered(self, data: bytes | bytearray) -> None:
        """A pong came. A peer may answer the last of several pings alone (RFC 6455, 5.5.3)."""
        if not data.isdigit() or len(data) > 19:
            return  # that of a heartbeat, or none of ours
        while self._pinged and self._pinged[0][0] <= int(data):
            self._pinged.popleft()[1].taken()


class _Heartbeat:
    """Pings a silent peer, and aborts the connection if it does not answer.

    aiohttp's own heartbeat takes any byte for life, so that a message that comes byte by byte keeps
    a connection open for ever. It also wants the answer to its ping in a fixed time, and cuts off a
    peer that is still busy taking a large answer. Here only whole messages count, and the clock
    stands still while there is something to be written (`_Stalled` watches that) or while the
    session takes no more calls.
    """

    def __init__(
        self, transport: asyncio.Transport | None, outbox: Outbox, interval_s: float | None
    ) -> None:
        self._transport, self._outbox, self._interval_s = transport, outbox, interval_s
        self._loop = asyncio.get_running_loop()
        self._received_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._has_pinged = False
        self.is_reading = True

    def message_received(self) -> None:
        """A message has been dealt with; the next one is waited for."""
        self._received_at = self._loop.time()
        self._has_pinged = False
        self.is_reading = True

    def __enter__(self) -> _Heartbeat:
        self._check()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        if self._transport is None or self._interval_s is None:
            return
        wait_s = self._interval_s / 2 if self._has_pinged else self._interval_s
        silent_since = self._received_at
        if not self.is_reading or self._is_writing():
            self._received_at = self._loop.time()
        elif self._loop.time() - silent_since >= wait_s:
            if self._has_pinged:
                self._transport.abort()
                return
            self._has_pinged = True
            self._received_at = self._loop.time()
            self._outbox.when_taken(self.message_received)
            wait_s = self._interval_s / 2
        self._timer = self._loop.call_at(self._received_at + wait_s, self._check)

    def _is_writing(self) -> bool:
        assert self._transport is not None
        return len(self._outbox) > 0 or self._transport.get_write_buffer_size() > 0


class _Stalled:
    """Aborts a connection whose peer takes no byte for a while.

    Entered around each write, or started after one that left bytes behind. It watches until they
    are written: a heartbeat does not count while there are any.
    """

    def __init__(self, transport: asyncio.Transport | None, timeout_s: float | None) -> None:
        self._transport, self._timeout_s = transport, timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self._is_entered = False

    def start(self) -> None:
        """Watch what is left to be written."""
        if self._timer is None and self._timeout_s is not None and self._transport is not None:
            self._left = -1
            self._arm()

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        self._is_entered = True
        self.start()

    def __exit__(self, *_: object) -> None:
        self._is_entered = False
        if self._transport is None or not self._transport.get_write_buffer_size():
            self.stop()

    def _arm(self) -> None:
        assert self._timeout_s is not None
        self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._check)

    def _check(self) -> None:
        assert self._transport is not None
        self._timer = None
        left = self._transport.get_write_buffer_size()
        if left and left == self._left:
            self._transport.abort()
        elif left or self._is_entered:
            self._left = left
            self._arm()

"""Websockets, by aiohttp: the only module of the client that opens a socket.

The `websocket` options are those of `aiohttp.ClientSession.ws_connect` (`headers`, `protocols`,
`proxy`, `ssl`, ...), and `session`, an `aiohttp.ClientSession` of yours. They are a mapping, or a
function, sync or async, that gives one at each attempt: the place to refresh a token. `headers` and
`protocols` may be such functions too.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

import aiohttp

from patches.errors import FrameTooLargeError, InvalidRequestError, NetworkError
from patches.limits import MIB
from patches.net.streams import StreamTransport
from patches.runtime import Runtime

_log = logging.getLogger("patches.net")

#: Options, or what gives them at each attempt.
WebSocketOptions: TypeAlias = (
    Mapping[str, Any] | Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
)

HEARTBEAT_S: Final = 25.0
HANDSHAKE_S: Final = 30.0
CLOSE_S: Final = 2.0
#: Larger than any document a server keeps; aiohttp's own 4 MiB would cut off a large answer.
MAX_FRAME_BYTES: Final = 128 * MIB

_KNOWN: Final = frozenset(inspect.signature(aiohttp.ClientSession._ws_connect).parameters) - {
    "self",
    "url",
    "autoclose",
    "autoping",
    "decode_text",
}


class WebSocketTransport(StreamTransport):
    """Frames over a websocket to `url`, opened again whenever it is lost."""

    def __init__(
        self,
        url: str,
        *,
        options: WebSocketOptions | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self.url = _checked_url(url)
        self._options = options
        if options is not None and not isinstance(options, Mapping) and not callable(options):
            raise InvalidRequestError(
                f"websocket must be a mapping of options or a function, not {options!r}"
            )
        if isinstance(options, Mapping):
            _checked_options(options)
        super().__init__(self._open_socket, name=f"websocket {self.url}", runtime=runtime)

    async def _open_socket(self) -> WebSocketStream:
        own_session = None
        try:
            async with asyncio.timeout(HANDSHAKE_S):  # a token that never comes must not stop us
                options = await _resolved(self._options)
                session = options.pop("session", None)
                if session is None:
                    session = own_session = aiohttp.ClientSession()
                socket = await session.ws_connect(self.url, **options)
            return WebSocketStream(socket, own_session)
        except BaseException as exc:
            if own_session is not None:
                await own_session.close()
            if isinstance(exc, aiohttp.ClientError | OSError | TimeoutError):
                raise NetworkError(f"cannot connect to {self.url}: {_cause(exc)}") from exc
            raise


class WebSocketStream:
    """One websocket."""

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse[bool],
        session: aiohttp.ClientSession | None,
    ) -> None:
        self._socket = socket
        self._session = session

    async def send(self, frame: bytes) -> None:
        try:
            await self._socket.send_frame(frame, aiohttp.WSMsgType.TEXT)
        except (aiohttp.ClientError, OSError, RuntimeError) as exc:
            raise NetworkError(f"the websocket was lost: {_cause(exc)}") from exc

    async def receive(self) -> bytes:
        while True:
            try:
                message = await self._socket.receive()
            except (aiohttp.ClientError, OSError, RuntimeError) as exc:
                # aiohttp answers a ping in here, also on a socket that the peer has closed
                raise NetworkError(f"the websocket was lost: {_cause(exc)}") from exc
            if message.type is aiohttp.WSMsgType.TEXT:
                data: bytes = message.data
                return data
            if message.type is not aiohttp.WSMsgType.BINARY:  # those are not in the protocol
                if isinstance(message.data, aiohttp.WebSocketError):
                    # Its code is ours: 1009 here says nothing of the frames that we sent.
                    _log.warning("a frame of the peer could not be taken: %s", message.data)
                    raise NetworkError(
                        f"a frame of the peer could not be taken (max_msg_size is the largest): "
                        f"{message.data}"
                    )
                raise closed(self._socket.close_code, message.extra or message.data)

    async def close(self) -> None:
        # a close that hangs or fails leaves nothing to be done
        with suppress(aiohttp.ClientError, OSError, RuntimeError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close()
        if self._session is not None:
            await self._session.close()


def closed(code: int | None, detail: object) -> NetworkError:
    """What a close code means. 1009 is about a frame of ours, which would be refused again."""
    text = f": {detail}" if isinstance(detail, str | Exception) and str(detail) else ""
    if code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
        return FrameTooLargeError(f"a frame was larger than the peer takes (close 1009){text}")
    meaning = _MEANINGS.get(code or 0, "the connection was lost")
    return NetworkError(f"{meaning} (close {code or 'without a code'}){text}")


_MEANINGS: Final = {
    1000: "the peer closed the connection",
    1001: "the peer is going away",
    1006: "the connection was lost",
    1008: "the peer refused the connection",
    1011: "the peer failed",
    1012: "the peer is restarting",
    1013: "the peer asks to try again later",
    4401: "the sign-in has ended",
    4403: "the right to connect was taken back",
}


def _cause(exc: BaseException) -> str:
    if isinstance(exc, aiohttp.WSServerHandshakeError):
        return f"the server answered {exc.status} {exc.message}".rstrip()
    if isinstance(exc, TimeoutError) and not str(exc):
        return "no answer in time"
    return str(exc) or type(exc).__name__


def _checked_url(url: str) -> str:
    scheme = str(url).partition("://")[0].lower()
    if scheme not in ("ws", "wss", "http", "https"):
        raise InvalidRequestError(f"{url!r} is not a websocket url: expected ws:// or wss://")
    return url


def _checked_options(options: Mapping[str, Any]) -> None:
    unknown = sorted(set(options) - _KNOWN - {"session"})
    if unknown:
        raise InvalidRequestError(
            f"unknown websocket option {unknown[0]!r}; known are those of aiohttp's ws_connect "
            f"and 'session'"
        )


async def _resolved(options: WebSocketOptions | None) -> dict[str, Any]:
    given = await _called(options) if options is not None else {}
    _checked_options(given)
    resolved: dict[str, Any] = {
        "heartbeat": HEARTBEAT_S,
        "max_msg_size": MAX_FRAME_BYTES,
        "timeout": aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
        "decode_text": False,
        **given,
    }
    for name in ("headers", "protocols"):
        if name in resolved:
            resolved[name] = await _called(resolved[name])
    return resolved


async def _called(value: Any) -> Any:
    """`value`, or what it gives when it is a function, sync or async."""
    if callable(value):
        value = value()
    return await value if inspect.isawaitable(value) else value

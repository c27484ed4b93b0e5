"""One websocket, by aiohttp: the only module of the client that imports it, at the first dial."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import aiohttp

from patches.errors import FrameTooLargeError, NetworkError
from patches.net.refusals import cause_of, dial_error

_log = logging.getLogger("patches.net")

CLOSE_S: Final = 2.0

#: The options that aiohttp's `ws_connect` takes, less those that are ours to set.
KNOWN_OPTIONS: Final = frozenset(
    inspect.signature(aiohttp.ClientSession._ws_connect).parameters
) - {"self", "url", "autoclose", "autoping", "decode_text"}


async def dial(url: str, options: Mapping[str, Any]) -> WebSocketStream:
    """Open a websocket. Raises `NetworkError`; what of it was opened before is closed."""
    given = dict(options)
    own_session = None
    try:
        session = given.pop("session", None)
        address = url
        if url.startswith("ws+unix://"):
            socket_path, _, path = url.removeprefix("ws+unix://").partition(":")
            connector = aiohttp.UnixConnector(socket_path)
            session = own_session = aiohttp.ClientSession(connector=connector)
            address = f"ws://localhost{path}"
        elif session is None:
            session = own_session = aiohttp.ClientSession()
        defaults = {"timeout": aiohttp.ClientWSTimeout(ws_close=CLOSE_S), "decode_text": False}
        socket = await session.ws_connect(address, **{**defaults, **given})
        return WebSocketStream(socket, own_session)
    except BaseException as exc:
        if own_session is not None:
            await own_session.close()
        if isinstance(exc, aiohttp.ClientError | OSError | TimeoutError):
            raise dial_error(url, exc) from exc
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
            raise NetworkError(f"the websocket was lost: {cause_of(exc)}") from exc

    async def receive(self) -> bytes:
        while True:
            try:
                message = await self._socket.receive()
            except (aiohttp.ClientError, OSError, RuntimeError) as exc:
                # aiohttp answers a ping in here, also on a socket that the peer has closed
                raise NetworkError(f"the websocket was lost: {cause_of(exc)}") from exc
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

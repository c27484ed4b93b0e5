"""`WebSocketTransport`: frames over websockets.

aiohttp, which opens them, is imported at the first dial: a client that works offline or over
another transport starts faster without it.

The `websocket` options are those of `aiohttp.ClientSession.ws_connect` (`headers`, `protocols`,
`proxy`, `ssl`, ...), and `session`, an `aiohttp.ClientSession` of yours. They are a mapping, or a
function, sync or async, that gives one at each attempt: the place to refresh a token. `headers` and
`protocols` may be such functions too.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from patches.errors import InvalidRequestError, NetworkError
from patches.limits import MIB
from patches.net.streams import Stream, StreamTransport
from patches.runtime import Runtime

_log = logging.getLogger("patches.net")

#: Options, or what gives them at each attempt.
WebSocketOptions: TypeAlias = (
    Mapping[str, Any] | Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
)

#: The scheme of a websocket over a unix socket: `ws+unix:///run/patches.sock:/ws`.
UNIX: Final = "ws+unix"
HEARTBEAT_S: Final = 25.0
HANDSHAKE_S: Final = 30.0
#: Larger than any document a server keeps; aiohttp's own 4 MiB would cut off a large answer.
MAX_FRAME_BYTES: Final = 128 * MIB


class WebSocketTransport(StreamTransport):
    """Frames over a websocket to `url`, opened again whenever it is lost.

    `ws+unix:///run/patches.sock:/ws` is the path `/ws` of a server on a unix socket.
    """

    def __init__(
        self,
        url: str,
        *,
        options: WebSocketOptions | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        self.url: str = _checked_url(url)
        self._options = options
        if options is not None and not isinstance(options, Mapping) and not callable(options):
            raise InvalidRequestError(
                f"websocket must be a mapping of options or a function, not {options!r}"
            )
        if isinstance(options, Mapping):
            _checked_options(options)
        super().__init__(self._open_socket, name=f"websocket {self.url}", runtime=runtime)

    async def _open_socket(self) -> Stream:
        from patches.net.websocket_stream import dial

        try:
            async with asyncio.timeout(HANDSHAKE_S):  # a token that never comes must not stop us
                return await dial(self.url, await _resolved(self._options))
        except TimeoutError as exc:
            raise NetworkError(f"cannot connect to {self.url}: no answer in time") from exc


def _checked_url(url: str) -> str:
    scheme, _, rest = str(url).partition("://")
    if scheme.lower() == UNIX and not re.fullmatch(r"/[^:]+:/.*", rest):
        raise InvalidRequestError(f"{url!r} names no socket: expected {UNIX}:///run/a.sock:/ws")
    if scheme.lower() not in ("ws", "wss", "http", "https", UNIX):
        raise InvalidRequestError(f"{url!r} is not a websocket url: expected ws:// or wss://")
    return url


def _checked_options(options: Mapping[str, Any]) -> None:
    from patches.net.websocket_stream import KNOWN_OPTIONS

    unknown = sorted(set(options) - KNOWN_OPTIONS - {"session"})
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

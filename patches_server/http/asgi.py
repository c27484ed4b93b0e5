"""`AsgiApp`: the server as an ASGI 3 application, on its own or mounted in another.

The same sessions as of the aiohttp application, over the websockets of uvicorn, hypercorn and their
like. ASGI has no pings and no way to abort a connection: the server below pings, and a peer that
takes nothing for `send_timeout_s` is left to it (`docs/asgi.md`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cached_property
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import quote

from multidict import CIMultiDict, MultiDict
from yarl import URL

from patches.errors import StatusError
from patches.limits import Limits
from patches.model import codec
from patches.model.json_values import Json
from patches.net.transport import REASON_HEADER
from patches_server.http.headers import PROXY_HEADERS, READABLE
from patches_server.http.websocket import SUBPROTOCOLS
from patches_server.service.admission import Arrival, Entrance, is_loopback
from patches_server.service.fanout.outbox import LOST, TOO_SLOW
from patches_server.service.json_rpc import JsonRpcPeer

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_log = logging.getLogger("patches_server.http.asgi")

NOT_STARTED: Final = (
    "patches: server not started; write FastAPI(lifespan=server.lifespan), or enter 'async with "
    "server' in your own lifespan"
)
#: Close codes of refusals, for servers that cannot answer with a status: 4000 and the status.
_REFUSED: Final = 4000
_FRAME_TOO_LARGE: Final = 1009
_SILENT: Final = 1001
#: How long the last words to a peer may take.
_CLOSE_S: Final = 2.0


class Hosted(Protocol):
    """What is needed of a server."""

    limits: Limits
    entrance: Entrance
    epoch: str

    @property
    def sessions(self) -> Mapping[str, object]:
        """The connections, by id."""

    @property
    def is_running(self) -> bool:
        """Whether it was entered and not left."""

    async def readiness(self) -> str:
        """`"ok"`, or why new connections are not served."""

    def connect(self, principal: object = None) -> JsonRpcPeer:
        """A peer that has been let in."""

    def lifespan(self, _app: object) -> AbstractAsyncContextManager[None]:
        """Runs it."""


@dataclass(frozen=True)
class AsgiRequest:
    """What `authenticate` gets: the names that it can use with every door.

    An `aiohttp.web.Request` has all of them but `raw`, which is the ASGI scope here.
    """

    raw: Scope
    path: str
    method: str = "GET"

    @cached_property
    def headers(self) -> CIMultiDict[str]:
        """The headers; names in any case."""
        pairs: Iterable[tuple[bytes, bytes]] = self.raw.get("headers", ())
        return CIMultiDict((name.decode("latin-1"), each.decode("latin-1")) for name, each in pairs)

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        """The cookies; none if they cannot be read."""
        found: SimpleCookie = SimpleCookie()
        try:
            for header in self.headers.getall("Cookie", []):
                found.load(header)
        except CookieError:
            return {}
        return {name: morsel.value for name, morsel in found.items()}

    @cached_property
    def query(self) -> MultiDict[str]:
        """The parameters of the query."""
        query = self.raw.get("query_string", b"").decode("latin-1")
        return MultiDict(URL.build(query_string=query).query)

    @property
    def remote(self) -> str | None:
        """The address of the peer, as the server below says."""
        client = self.raw.get("client")
        return str(client[0]) if client else None

    @property
    def scheme(self) -> str:
        """`ws` or `wss`."""
        return str(self.raw.get("scheme", "ws"))


class AsgiApp:
    """Serves `/ws`, `/healthz` and `/readyz` below where it is mounted.

    `idle_s`: close a connection that has sent nothing for so long; for servers that do not ping.
    """

    def __init__(self, server: Hosted, *, idle_s: float | None = None) -> None:
        self._server, self._idle_s = server, idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI 3 has it."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] == "websocket" and (await receive())["type"] != "websocket.connect":
            return
        path = _relative_path(scope)
        if not self._server.is_running:
            _log.error(NOT_STARTED)
            await self._refuse(scope, send, 503, "the server was not started")
        elif scope["type"] == "websocket" and path == "/ws":
            await self._serve(scope, receive, send)
        elif scope["type"] == "http" and path in ("/healthz", "/readyz"):
            await self._report_health(send, path)
        elif scope["type"] == "http" and path == "/ws":
            await _answer(send, 426, {"message": "this is a websocket"}, "http.response")
        else:
            await self._refuse(scope, send, 404, "there is nothing here")

    async def _live(self, receive: Receive, send: Send) -> None:
        """Run the server, where this is the outermost application."""
        await receive()
        try:
            async with self._server.lifespan(self):
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as exc:
            ended = "shutdown" if self._server.is_running else "startup"
            await send({"type": f"lifespan.{ended}.failed", "message": str(exc)})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    async def _report_health(self, send: Send, path: str) -> None:
        body: dict[str, Json] = {"status": "ok"}
        if path == "/healthz":
            body |= {"connections": len(self._server.sessions), "epoch": self._server.epoch}
        else:
            body = {"status": await self._server.readiness()}
        await _answer(send, 200 if body["status"] == "ok" else 503, body, "http.response")

    # ---- one websocket ---------------------------------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = AsgiRequest(scope, scope["path"])
        arrival = Arrival(
            request=request,
            address=request.remote,
            origins=request.headers.getall("Origin", []),
            host=request.headers.get("Host"),
            is_local=_is_for_this_machine(scope, request),
        )
        try:
            async with self._server.entrance.admitted(arrival) as principal:
                peer = self._server.connect(principal)
                offered = scope.get("subprotocols", ())
                chosen = next((name for name in offered if name in SUBPROTOCOLS), None)
                try:
                    await send({"type": "websocket.accept", "subprotocol": chosen})
                    await self._converse(peer, receive, send)
                finally:
                    peer.end()
        except StatusError as exc:
            await self._refuse(scope, send, exc.code, str(exc), exc.data)

    async def _converse(self, peer: JsonRpcPeer, receive: Receive, send: Send) -> None:
        """Read and write until one of both ends, or the peer is cut off while a write is stuck."""
        cut = asyncio.Event()
        peer.outbox.on_cut = cut.set
        parts = [
            asyncio.ensure_future(part)
            for part in (self._read(peer, receive), self._write(peer, send), cut.wait())
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            if parts[0] in done and peer.outbox.closing is not None:
                await asyncio.wait(parts[1:2], timeout=_CLOSE_S)  # it says why
            for part in done:
                part.result()  # a failure of ours is the server's to log
        finally:
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)

    async def _read(self, peer: JsonRpcPeer, receive: Receive) -> None:
        limits = self._server.limits
        while peer.outbox.closing is None:
            try:
                async with asyncio.timeout(self._idle_s):
                    message = await receive()
            except TimeoutError:
                peer.close(_SILENT, "nothing was received for too long")
                return
            if message["type"] == "websocket.disconnect":
                peer.outbox.close(LOST, "the connection was lost", discard=True)
                return
            frame = message.get("text")
            if frame is None:
                frame = message.get("bytes") or b""
            if _size(frame) > limits.max_frame_bytes:
                peer.close(_FRAME_TOO_LARGE, "the frame is too large")
                return
            await peer.receive(frame)

    async def _write(self, peer: JsonRpcPeer, send: Send) -> None:
        outbox, timeout_s = peer.outbox, self._server.limits.send_timeout_s
        try:
            while (frame := await outbox.get()) is not None:
                async with asyncio.timeout(timeout_s):
                    await send({"type": "websocket.send", "text": frame.decode()})
        except TimeoutError:
            outbox.close(TOO_SLOW, "reads too slowly", discard=True)
        except OSError:  # what servers raise for a peer that is gone
            outbox.close(LOST, "the connection was lost", discard=True)
        close = outbox.closing
        if close is None or close.code == LOST:
            return
        try:
            async with asyncio.timeout(_CLOSE_S):
                await send({"type": "websocket.close", "code": close.code, "reason": close.reason})
        except (TimeoutError, OSError):
            pass  # the server below ends the connection when this application returns

    async def _refuse(
        self,
        scope: Scope,
        send: Send,
        status: int,
        reason: str,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        body: dict[str, Json] = {"message": reason}
        wait_ms = (data or {}).get("retryAfterMs")
        headers = [] if wait_ms is None else [(b"retry-after", b"%d" % (int(wait_ms) // 1000))]
        headers.append((REASON_HEADER.lower().encode(), quote(reason[:500], READABLE).encode()))
        if scope["type"] == "http":
            await _answer(send, status, body, "http.response", headers)
        elif "websocket.http.response" in scope.get("extensions", {}):
            await _answer(send, status, body, "websocket.http.response", headers)
        else:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": _REFUSED + status, "reason": reason})


async def _answer(
    send: Send,
    status: int,
    body: Mapping[str, Json],
    kind: str,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    encoded = codec.encode(dict(body))
    length = (b"content-length", b"%d" % len(encoded))
    all_headers = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": f"{kind}.start", "status": status, "headers": all_headers})
    await send({"type": f"{kind}.body", "body": encoded})


def _relative_path(scope: Scope) -> str:
    """The path below where the application is mounted. `path` holds `root_path` or not: both are
    in use."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path


def _is_for_this_machine(scope: Scope, request: AsgiRequest) -> bool:
    """Whether a request came to a loopback address, and not through a proxy."""
    if any(name in request.headers for name in PROXY_HEADERS):
        return False
    match scope.get("server"):
        case [str() as address, *_]:
            return is_loopback(address)
        case _:
            return False


def _size(frame: str | bytes) -> int:
    if isinstance(frame, bytes) or frame.isascii():
        return len(frame)
    return len(frame.encode("utf-8", "surrogatepass"))

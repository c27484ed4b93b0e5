"""`HttpRoutes`: what a server answers over HTTP: the websocket, single calls, its health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final
from urllib.parse import quote

from aiohttp import web

from patches.errors import StatusError
from patches.net.transport import REASON_HEADER
from patches_server.bus.none import NoBus
from patches_server.http.headers import PROXY_HEADERS, READABLE
from patches_server.http.post import answer_call
from patches_server.http.websocket import serve_websocket
from patches_server.service.admission import Arrival, Entrance, is_loopback
from patches_server.service.server import PatchesServer


class HttpRoutes:
    """The handlers of one server, whatever application they are in."""

    def __init__(
        self,
        server: PatchesServer,
        entrance: Entrance,
        epoch: Callable[[], str],
        readiness: Callable[[], Awaitable[str]],
    ) -> None:
        self._server: Final = server
        self._entrance: Final = entrance
        self._epoch: Final = epoch
        self._readiness: Final = readiness

    def add_to(self, app: web.Application) -> None:
        """Put them into an application."""
        app.router.add_get("/ws", self._websocket)
        app.router.add_post("/rpc", self._rpc)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)

    def _admitted(self, request: web.Request) -> AbstractAsyncContextManager[object]:
        arrival = Arrival(
            request=request,
            address=request.remote,
            origins=request.headers.getall("Origin", []),
            host=request.headers.get("Host"),
            is_local=_is_for_this_machine(request),
        )
        return self._entrance.admitted(arrival)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        server = self._server
        try:
            async with self._admitted(request) as principal:
                return await serve_websocket(
                    request, lambda: server.connect(principal), server.limits
                )
        except StatusError as exc:
            return _refusal(exc)

    async def _rpc(self, request: web.Request) -> web.Response:
        """One call, in the body of a POST."""
        try:
            async with self._admitted(request) as principal:
                frame = await _body(request, self._server.limits.max_frame_bytes)
                answer = await answer_call(self._server, principal, frame)
        except StatusError as exc:
            return _refusal(exc)
        headers = {"Cache-Control": "no-store"}
        if answer is None:
            return web.Response(status=204, headers=headers)
        return web.Response(body=answer, content_type="application/json", headers=headers)

    async def _healthz(self, _request: web.Request) -> web.Response:
        """That the process is alive, and which file it serves: another epoch is another file."""
        return web.json_response(
            {
                "status": "ok",
                "connections": len(self._server.sessions),
                "epoch": self._epoch(),
                **_process_of(self._server),
            }
        )

    async def _readyz(self, _request: web.Request) -> web.Response:
        """Whether new connections will be served: not while ending, nor while the store fails."""
        status = await self._readiness()
        return web.json_response({"status": status}, status=200 if status == "ok" else 503)


async def _body(request: web.Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > most:
            raise StatusError(413, f"the body is larger than {most} bytes (max_frame_bytes)")
        parts.append(part)
    return b"".join(parts)


def _refusal(error: StatusError) -> web.Response:
    wait_ms = (error.data or {}).get("retryAfterMs")
    headers = {} if wait_ms is None else {"Retry-After": str(wait_ms // 1000)}
    headers[REASON_HEADER] = quote(str(error)[:500], safe=READABLE)
    return web.json_response({"message": str(error)}, status=error.code, headers=headers)


def _is_for_this_machine(request: web.Request) -> bool:
    """Whether a request came to a loopback address, and not through a proxy: no page can set the
    headers of a proxy."""
    if any(name in request.headers for name in PROXY_HEADERS) or request.transport is None:
        return False
    address = request.transport.get_extra_info("sockname")
    if isinstance(address, str):  # a unix socket
        return True
    return isinstance(address, tuple) and is_loopback(str(address[0]))


def _process_of(server: PatchesServer) -> dict[str, str]:
    """What a server says of itself that is one of several."""
    cluster = server.cluster
    if cluster is None:
        return {}
    state = "ok" if cluster.bus.healthy else "down"
    return {
        "process": cluster.process,
        "bus": "none" if isinstance(cluster.bus, NoBus) else state,
    }

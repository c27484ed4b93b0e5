"""What a dial that failed says: the address, what was wrong with it, and the way out."""

from __future__ import annotations

import ssl
from urllib.parse import unquote, urlsplit

import aiohttp

from patches.errors import NetworkError, SignInRefusedError
from patches.net.backoff import SIGN_IN_AGAIN_S
from patches.net.transport import REASON_HEADER


def dial_error(url: str, error: BaseException) -> NetworkError:
    """The error of a websocket to `url` that could not be opened. Its query is left out: it may
    hold a token."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    address = f"{origin}{parts.path}"
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return _handshake_error(origin, parts.path, error)
    if parts.scheme == "ws+unix":
        socket_path = parts.path.partition(":")[0]
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
            return NetworkError(
                f"nothing listens on {socket_path}; start patches-server --host unix:{socket_path}"
            )
        return NetworkError(f"cannot connect to {socket_path}: {cause_of(error)}")
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ConnectionRefusedError):
        port = parts.port or (443 if parts.scheme in ("wss", "https") else 80)
        return NetworkError(
            f"nothing listens on {parts.hostname}:{port} (connection refused); start "
            f"patches-server, or use connect(background=True) to keep trying"
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in _NOT_TLS:
        return NetworkError(
            f"{origin} does not speak TLS; use {parts.scheme[:-1]}://, or the address of "
            f"the TLS proxy"
        )
    return NetworkError(f"cannot connect to {address}: {cause_of(error)}")


def cause_of(error: BaseException) -> str:
    """What an exception of a socket says, in words where it says nothing."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__


#: What OpenSSL says of an answer in plain HTTP.
_NOT_TLS = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
)


def _handshake_error(origin: str, path: str, error: aiohttp.WSServerHandshakeError) -> NetworkError:
    address, status = f"{origin}{path}", error.status
    reason = unquote(error.headers.get(REASON_HEADER, "")) if error.headers else ""
    because = f": {reason}" if reason else ""
    if status == 401:
        return SignInRefusedError(
            f"{address} refused the sign-in (401{because}); check the token or cookie; trying "
            f"again in {SIGN_IN_AGAIN_S:.0f} s"
        )
    if status == 101:  # the answer of a websocket server of another kind
        return NetworkError(f"{address} does not open a websocket as asked: {error.message}")
    if reason or status == 403 or status >= 429:
        return NetworkError(f"{address} refused the connection ({status}{because})")
    said = f"{address} answered {status} instead of opening a websocket"
    if path.endswith("/ws"):
        return NetworkError(said)
    usual = f"{origin}{path.rstrip('/')}/ws"
    return NetworkError(f"{said}; the endpoint is usually /ws: {usual}")

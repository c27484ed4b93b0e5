"""Who is let in: the page's origin, how many there are already, and the sign-in, in this order.

Every door uses `Entrance.admitted`, a context manager around the whole of a connection. Nothing of
a peer is read before it, and no hook is called for a peer that its origin or a limit refuses.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, deque
from collections.abc import AsyncIterator, Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from patches.errors import (
    InvalidRequestError,
    StatusError,
    TooManyRequestsError,
    UnavailableError,
)
from patches.limits import Limits
from patches_server.auth.access import Access, principal_key

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A peer that wants to be let in.

    `request` is what `authenticate` gets. `address` is where it comes from, if that is to be
    counted. A browser names the `origins` of its page, and the `host` that it thinks this is.
    `is_local`: it came to a loopback address, and not through a proxy.
    """

    request: object
    address: str | None = None
    origins: Sequence[str] = ()
    host: str | None = None
    is_local: bool = False


class Entrance:
    """Lets peers in to one server, whatever their doors."""

    def __init__(self, server: Server, allowed_origins: str | Collection[str] = ()) -> None:
        self._server = server
        self._origins = checked_origins(allowed_origins)
        self._admission = Admission(server.limits)

    @asynccontextmanager
    async def admitted(self, arrival: Arrival) -> AsyncIterator[object]:
        """Count a peer while it is here. Gives its principal; raises `StatusError`."""
        server, address = self._server, arrival.address
        only_loopback = arrival.is_local and not server.access.signs_in
        for origin in arrival.origins:
            if not origin_allowed(origin, arrival.host, self._origins, only_loopback=only_loopback):
                raise StatusError(403, "this origin may not connect")
        self._admission.check(address, now=asyncio.get_running_loop().time())
        with self._admission.counted(address):  # from here on: hooks take their time, too
            principal = await self._signed_in(arrival.request)
            key = principal_key(principal)
            self._admission.check_principal(key)
            if server.closing:
                raise StatusError(503, "the server is going away")
            with self._admission.counted_principal(key):
                yield principal

    async def _signed_in(self, request: object) -> object:
        try:
            async with asyncio.timeout(self._server.limits.handshake_timeout_s):
                return await self._server.access.authenticate(request)
        except TimeoutError:
            raise UnavailableError("authentication timed out") from None


class Server(Protocol):
    """What the entrance needs of a server."""

    limits: Limits
    access: Access
    closing: bool


def origin_allowed(
    origin: str | None, host: str | None, allowed: Collection[str], *, only_loopback: bool = False
) -> bool:
    """Whether a page of `origin` may open a socket to `host`.

    No `Origin` means no browser. Otherwise it must be in `allowed` (`"https://app.example"`, or
    `"*"` for any), or a web page of the server's own host and port. `null` is refused.

    `only_loopback`: the server is meant for this machine alone, so its own host is a loopback name.
    Any other name may belong to a page of somebody else that made it point to this machine (DNS
    rebinding).
    """
    if origin is None:
        return True
    if "*" in allowed or origin in allowed:
        return True
    own = _host_and_port(origin)
    if own is None or host is None or own != _host_and_port(origin, host):
        return False
    return not only_loopback or is_loopback(own[0])


def checked_origins(origins: object) -> frozenset[str]:
    """`allowed_origins` as a set. Raises `InvalidRequestError` for what is no origin.

    One origin may be given as a string.
    """
    given = [origins] if isinstance(origins, str) else origins
    if not isinstance(given, Iterable):
        raise InvalidRequestError(f"allowed_origins takes a list of origins, not {origins!r}")
    return frozenset(map(_checked_origin, given))


def _checked_origin(origin: object) -> str:
    if isinstance(origin, str):
        try:
            parts = urlsplit(origin)
        except ValueError:
            parts = urlsplit("")
        if origin == "*" or (parts.netloc and origin == f"{parts.scheme}://{parts.netloc}"):
            return origin
    raise InvalidRequestError(
        f"an allowed origin is a scheme and a host, such as https://app.example: {origin!r}"
    )


def _host_and_port(origin: str, host: str | None = None) -> tuple[str, int] | None:
    try:
        parts = urlsplit(origin)
        default = _DEFAULT_PORTS.get(parts.scheme)
        if default is None:
            return None  # no web page: a browser's extension, a file
        if host is not None:
            parts = urlsplit(f"//{host}")
        port = parts.port or default
    except ValueError:
        return None
    if not parts.hostname or port is None:
        return None
    return parts.hostname.lower(), port


class Admission:
    """Counts the open connections of a process. Loopback peers, such as a proxy beside the server,
    are not counted by address."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._total = 0
        self._by_address: Counter[str] = Counter()
        self._by_principal: Counter[Hashable] = Counter()
        self._recent: dict[str, deque[float]] = {}

    def check(self, address: str | None, *, now: float) -> None:
        """Count an attempt to connect. Raises `StatusError` if it may not be made now."""
        limits = self._limits
        if limits.max_connections is not None and self._total >= limits.max_connections:
            raise StatusError(503, "too many connections")
        if address is None or is_loopback(address):
            return
        if (
            limits.max_connections_per_ip is not None
            and self._by_address[address] >= limits.max_connections_per_ip
        ):
            raise StatusError(429, "too many connections from this address")
        self._check_rate(address, now)

    def check_principal(self, key: Hashable | None) -> None:
        """Raise `StatusError` if somebody may not open one more connection; anonymous ones are not
        counted."""
        maximum = self._limits.max_connections_per_principal
        if key is not None and maximum is not None and self._by_principal[key] >= maximum:
            raise StatusError(429, "too many connections of one principal")

    @contextmanager
    def counted(self, address: str | None) -> Iterator[None]:
        """Count a connection from when it is let in, its authentication included, to its end."""
        self._total += 1
        if address is not None:
            self._by_address[address] += 1
        try:
            yield
        finally:
            self._total -= 1
            if address is not None:
                _uncount(self._by_address, address)

    @contextmanager
    def counted_principal(self, key: Hashable | None) -> Iterator[None]:
        """Count a principal's connection while it is open."""
        if key is not None:
            self._by_principal[key] += 1
        try:
            yield
        finally:
            if key is not None:
                _uncount(self._by_principal, key)

    def _check_rate(self, address: str, now: float) -> None:
        maximum = self._limits.connects_per_min_per_ip
        if maximum is None:
            return
        if len(self._recent) > 10_000:  # addresses that have been quiet
            self._recent = {
                each: times for each, times in self._recent.items() if times[-1] > now - _MINUTE
            }
        times = self._recent.setdefault(address, deque())
        while times and times[0] <= now - _MINUTE:
            times.popleft()
        if len(times) >= maximum:
            wait_s = max(1, round(times[0] + _MINUTE - now))
            raise TooManyRequestsError(
                "too many connections per minute", retry_after_ms=1000 * wait_s
            )
        times.append(now)


def is_loopback(address: str) -> bool:
    """Whether an address, or a name such as `localhost`, is this machine's own."""
    if address == "localhost" or address.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(address.split("%")[0]).is_loopback
    except ValueError:
        return False


def _uncount(counter: Counter[Any], key: Hashable) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]

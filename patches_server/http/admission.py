"""Who may open a socket at all: the page's origin, and how many there are already.

Decided on the HTTP request, before any hook is called.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, deque
from collections.abc import Collection, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from patches.errors import InvalidRequestError
from patches.limits import Limits

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer in place of an upgrade."""

    status: int
    reason: str
    retry_after_s: int | None = None


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

    def look(self, address: str | None, *, now: float) -> Refusal | None:
        """Why a connection from this address may not be made now; counts the attempt."""
        limits = self._limits
        if limits.max_connections is not None and self._total >= limits.max_connections:
            return Refusal(503, "too many connections")
        if address is None or is_loopback(address):
            return None
        if (
            limits.max_connections_per_ip is not None
            and self._by_address[address] >= limits.max_connections_per_ip
        ):
            return Refusal(429, "too many connections from this address")
        return self._look_at_rate(address, now)

    def look_at_principal(self, key: Hashable | None) -> Refusal | None:
        """Why somebody may not open one more connection; anonymous ones are not counted."""
        maximum = self._limits.max_connections_per_principal
        if key is not None and maximum is not None and self._by_principal[key] >= maximum:
            return Refusal(429, "too many connections of one principal")
        return None

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

    def _look_at_rate(self, address: str, now: float) -> Refusal | None:
        maximum = self._limits.connects_per_min_per_ip
        if maximum is None:
            return None
        if len(self._recent) > 10_000:  # addresses that have been quiet
            self._recent = {
                each: times for each, times in self._recent.items() if times[-1] > now - _MINUTE
            }
        times = self._recent.setdefault(address, deque())
        while times and times[0] <= now - _MINUTE:
            times.popleft()
        if len(times) >= maximum:
            return Refusal(
                429, "too many connections per minute", max(1, round(times[0] + _MINUTE - now))
            )
        times.append(now)
        return None


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

"""Who may open a socket at all."""

from __future__ import annotations

import pytest

from patches.errors import InvalidRequestError, StatusError, TooManyRequestsError
from patches.limits import Limits
from patches_server.service.admission import (
    Admission,
    checked_origins,
    is_loopback,
    origin_allowed,
)


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "expected"),
    [
        (None, "example.org", (), True),
        ("https://example.org", "example.org", (), True),
        ("https://example.org:443", "example.org", (), True),
        ("http://example.org", "example.org:80", (), True),
        ("HTTPS://Example.org", "example.ORG", (), True),
        ("http://localhost:8000", "localhost:8000", (), True),
        ("http://[::1]:8000", "[::1]:8000", (), True),
        ("https://example.org:8443", "example.org", (), False),
        ("http://localhost:8000", "localhost:9000", (), False),
        ("https://example.org.evil.example", "example.org", (), False),
        ("https://evil.example", "example.org", (), False),
        ("null", "example.org", (), False),
        ("", "example.org", (), False),
        ("file://", "example.org", (), False),
        ("https://example.org:99999", "example.org", (), False),
        ("https://example.org", None, (), False),
        ("https://app.example", "example.org", ("https://app.example",), True),
        ("http://app.example", "example.org", ("https://app.example",), False),
        ("https://evil.example", "example.org", ("*",), True),
        ("chrome-extension://example.org:80", "example.org:80", (), False),
        ("chrome-extension://abc", "example.org", ("chrome-extension://abc",), True),
        ("http://[::1", "[::1", (), False),
    ],
)
def test_a_page_may_connect_to_its_own_server_and_where_it_was_allowed(
    origin: str | None, host: str | None, allowed: tuple[str, ...], expected: bool
) -> None:
    assert origin_allowed(origin, host, allowed) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("app.localhost:8000", True),
        ("evil.example:8000", False),
        ("127.0.0.1.evil.example:8000", False),
        ("notlocalhost:8000", False),
    ],
)
def test_a_server_for_this_machine_has_pages_of_loopback_names_alone(
    host: str, expected: bool
) -> None:
    origin = f"http://{host}"
    assert origin_allowed(origin, host, (), only_loopback=True) is expected
    assert origin_allowed(origin, host, (origin,), only_loopback=True)
    assert origin_allowed(None, host, (), only_loopback=True)


def test_one_origin_may_be_given_as_text() -> None:
    assert checked_origins("https://app.example") == {"https://app.example"}
    assert checked_origins(["*", "http://[::1]:80"]) == {"*", "http://[::1]:80"}


@pytest.mark.parametrize("origins", ["app.example", ["https://app.example/"], [""], [7], 7, None])
def test_what_is_no_origin_is_refused(origins: object) -> None:
    with pytest.raises(InvalidRequestError, match="origin"):
        checked_origins(origins)


def refusal(
    admission: Admission, address: str | None = None, *, now: float = 0.0, key: str | None = None
) -> tuple[int, str] | None:
    """Why a connection is refused."""
    try:
        admission.check(address, now=now)
        admission.check_principal(key)
    except StatusError as exc:
        return exc.code, str(exc)
    return None


def test_connections_are_counted_while_they_are_open() -> None:
    admission = Admission(Limits(max_connections=2, max_connections_per_ip=1))
    with admission.counted("192.0.2.1"):
        too_many = (429, "too many connections from this address")
        assert refusal(admission, "192.0.2.1") == too_many
        assert refusal(admission, "192.0.2.2") is None
        with admission.counted("192.0.2.2"):
            assert refusal(admission, "192.0.2.3") == (503, "too many connections")
    assert refusal(admission, "192.0.2.1") is None


def test_attempts_per_minute_are_limited_and_told_when_to_come_back() -> None:
    admission = Admission(Limits(connects_per_min_per_ip=2))
    assert refusal(admission, "192.0.2.1") is None
    assert refusal(admission, "192.0.2.1", now=10.0) is None
    with pytest.raises(TooManyRequestsError) as refused:
        admission.check("192.0.2.1", now=20.0)
    assert refused.value.data == {"retryAfterMs": 40_000}
    assert refusal(admission, "192.0.2.1", now=60.5) is None


def test_peers_on_this_machine_are_not_counted_by_address() -> None:
    admission = Admission(Limits(max_connections_per_ip=1, connects_per_min_per_ip=1))
    with admission.counted("127.0.0.1"):
        assert all(refusal(admission, "127.0.0.1") is None for _ in range(5))


def test_connections_of_one_principal_are_counted() -> None:
    admission = Admission(Limits(max_connections_per_principal=1))
    with admission.counted_principal("ann"):
        assert refusal(admission, key="ann") == (429, "too many connections of one principal")
        assert refusal(admission, key="bob") is None
        assert refusal(admission, key=None) is None
    assert refusal(admission, key="ann") is None


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_loopback_addresses(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected

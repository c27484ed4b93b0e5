"""Fixtures for tests of code that uses this toolkit (`docs/testing.md`).

pytest loads this at every start where the toolkit is installed, so that it imports what the
fixtures are made of only when one is used. The async fixtures are pytest-asyncio's where that is
installed, in its strict and its auto mode; otherwise they are left to whatever runs such fixtures.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

try:
    from pytest_asyncio import fixture as async_fixture
except ImportError:  # not installed: another plugin may run async fixtures
    async_fixture = pytest.fixture  # type: ignore[assignment]  # called in the same way below

if TYPE_CHECKING:
    from patches.testing.clock import FakeClock
    from patches.testing.fixtures import ClientFixture, PatchesClient, ServerFixture


@pytest.fixture
def patches_clock() -> Iterator[FakeClock]:
    """Time that stands still until the test moves it. The server and all clients live in it."""
    from patches.testing.clock import FakeClock

    clock = FakeClock()
    yield clock
    clock.uninstall()


@pytest.fixture
def patches_server_options() -> Mapping[str, Any]:
    """The arguments of `create_app` for the server. Override it to set rights, routes, limits."""
    return {}


@async_fixture
async def patches_server(
    request: pytest.FixtureRequest, patches_server_options: Mapping[str, Any]
) -> AsyncIterator[ServerFixture]:
    """A running server in this process, ended with all its clients after the test."""
    from patches.testing.fixtures import ServerFixture

    clock = None
    if "patches_clock" in request.fixturenames:
        clock = request.getfixturevalue("patches_clock")
    async with ServerFixture(patches_server_options, clock=clock) as server:
        yield server


@pytest.fixture
def patches_client(patches_server: ServerFixture) -> PatchesClient:
    """Makes connected clients: `await patches_client("ann", store=path)`."""
    return patches_server.client


@async_fixture
async def patches_pair(patches_server: ServerFixture) -> tuple[ClientFixture, ClientFixture]:
    """Two clients of one server, connected."""
    return await patches_server.client("first"), await patches_server.client("second")

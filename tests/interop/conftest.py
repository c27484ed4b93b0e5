"""A server in this process, or as the command itself, and everybody around it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from patches.testing.server_process import ServerProcess
from tests.interop.serving import in_process
from tests.interop.world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Around a server in this process, reached through real sockets."""
    async with in_process() as url, World(url) as world:
        yield world


@pytest.fixture
async def command() -> AsyncIterator[World]:
    """Around `python -m patches_server --store memory:`."""
    async with ServerProcess("memory:") as server, World(server.url) as world:
        yield world

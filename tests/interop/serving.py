"""Servers to test against: in this process, behind a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.test_utils import TestServer

from patches_server import allow_all, create_app


@asynccontextmanager
async def in_process(**options: Any) -> AsyncIterator[str]:
    """The url of a server's websocket. `options`: of `create_app`."""
    app = create_app(**{"auth": allow_all, **options})
    async with TestServer(app) as server:
        yield str(server.make_url("/ws"))

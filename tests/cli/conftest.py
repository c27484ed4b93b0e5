"""A server in a thread, and the command with a store of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from patches.cli.main import main
from patches.errors import ChangeRefusedError
from patches_server import Principal, create_app


class Anybody:
    """Ann may do everything but write to `read/*`, and may list."""

    async def authenticate(self, request: Any) -> Principal | None:
        token = request.headers.get("Authorization")
        return Principal(id="ann") if token in (None, "Bearer secret") else None

    def can_access(
        self, principal: Principal, doc_id: str, kind: str, method: str, params: Any
    ) -> bool:
        return kind == "read" or not doc_id.startswith("read/")

    def can_list(self, principal: Principal, prefix: str) -> bool:
        return True


async def refuse_or_delay(principal: Any, doc_id: str, changes: Any) -> None:
    if doc_id.startswith("no/"):
        raise ChangeRefusedError(changes[0].id, "not here")
    if doc_id.startswith("slow/"):
        await asyncio.sleep(5)


class Served:
    """A server on a loopback port, in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        auth: Any = Anybody()
        self._runner = web.AppRunner(
            create_app("memory:", auth=auth, validate=refuse_or_delay, drain_s=0.1)
        )
        self.url: str = self._wait(self._start())

    async def _start(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"ws://127.0.0.1:{self._runner.addresses[0][1]}/ws"

    def stop(self) -> None:
        self._wait(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    served = Served()
    yield served
    served.stop()


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Run:
    """Run the command: its exit status, what it printed, and what it said on stderr."""
    for name in ("PATCHES_TOKEN", "PATCHES_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATCHES_STORE", str(tmp_path / "here.db"))
    monkeypatch.setenv("PATCHES_SERVER", server.url)

    def run_it(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run_it

"""s41: client and server meet on a unix socket that only its owner may open."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from patches import Patches, PatchesSync
from patches.errors import InvalidRequestError, NetworkError


async def started(path: Path, *options: str) -> tuple[asyncio.subprocess.Process, str]:
    """A server on a socket, and what it prints until it serves or has ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "patches_server", "--store", "memory:", "--no-page"),
        *("--host", f"unix:{path}", *options),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    printed = ""
    async with asyncio.timeout(60):
        while "Ctrl-C" not in printed and (line := await process.stdout.readline()):
            printed += line.decode()
    return process, printed


async def test_s41_they_meet_and_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "patches.sock"
    url = f"ws+unix://{path}:/ws"
    async with Patches() as patches:
        with pytest.raises(NetworkError, match=f"nothing listens on {path}"):
            await PatchesSync(patches, url).connect()
    server, printed = await started(path)
    try:
        assert url in printed
        assert "everybody who may open the socket" in printed
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with Patches() as ann, Patches() as ben:
            async with PatchesSync(ann, url), PatchesSync(ben, url):
                plan = await ann.open_doc("plan")
                plan.change(lambda draft: draft.update(title="Here"))
                await plan.settled(20)
                same = await ben.open_doc("plan")
                await same.settled(20)
                assert same.state == {"title": "Here"}
        second, said = await started(path)
        assert await second.wait() == 1
        assert said == f"patches-server: another server listens on {path}\n"
        server.kill()
        await server.wait()
        assert path.is_socket()  # it was killed, and left it
        server, printed = await started(path)
        assert url in printed
        server.send_signal(signal.SIGTERM)
        assert await server.wait() == 0
    finally:
        if server.returncode is None:
            server.kill()
            await server.wait()


@pytest.mark.parametrize("url", ["ws+unix://", "ws+unix:///run/a.sock", "ws+unix://a.sock:/ws"])
async def test_an_address_that_names_no_socket_is_refused(url: str) -> None:
    async with Patches() as patches:
        with pytest.raises(InvalidRequestError, match="names no socket"):
            PatchesSync(patches, url)


async def test_a_place_that_cannot_be_listened_on_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process, said = await started(tmp_path / "file" / "patches.sock")
    assert await process.wait() == 1
    assert said.count("\n") == 1
    assert "cannot listen on" in said

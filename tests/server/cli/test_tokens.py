"""s55: a token from the command opens exactly the documents that it names, until it is revoked."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from patches import Patches, PatchesSync
from patches.errors import ForbiddenError, UnauthorizedError
from patches.testing.server_process import ServerProcess
from patches_server.cli.main import main


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "patches_server", "token", *arguments],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout


async def test_s55_a_token_opens_what_it_names_until_it_is_revoked(tmp_path: Path) -> None:
    file = ("--file", str(tmp_path / "tokens.json"))
    token = (await asyncio.to_thread(
        run, *file, "create", "ann", "--docs", "team/*=rw", "--expires", "30d"
    )).strip()  # fmt: skip
    listed = await asyncio.to_thread(run, *file, "list")
    assert "ann" in listed
    assert "team/*=rw" in listed
    assert token not in listed
    server = ServerProcess("memory:", options=("--auth", "tokens", "--tokens", file[1]))
    await server.start()
    try:
        websocket = {"headers": {"Authorization": f"Bearer {token}"}}
        async with Patches() as patches:
            async with PatchesSync(patches, server.url, websocket=websocket) as sync:
                plan = await patches.open_doc("team/plan")
                plan.change(lambda draft: draft.update(n=1))
                await plan.settled(20)
                other = await patches.open_doc("private/plan")
                with pytest.raises(ForbiddenError):
                    await other.settled(20)
                await patches.untrack_docs(["private/plan"])
                lost = asyncio.Event()
                sync.on_state_change(lambda state: None if state.connected else lost.set())
                await asyncio.to_thread(run, *file, "revoke", listed.split()[0])
                async with asyncio.timeout(20):
                    await lost.wait()
            with pytest.raises(UnauthorizedError):
                await PatchesSync(patches, server.url, websocket=websocket).connect()
    finally:
        await server.kill()


def test_wrong_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = ("--file", str(tmp_path / "tokens.json"))
    for arguments, said in (
        (("create", "ann", "--docs", "team/*"), "expected PATTERN=r or PATTERN=rw"),
        (
            ("create", "ann", "--docs", "*=r", "--expires", "soon"),
            "a time is 30m, 12h, 30d",
        ),
        (("create", "ann"), "--docs"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["token", *file, *arguments])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
    assert main(["token", *file, "revoke", "nobody"]) == 1
    assert capsys.readouterr().err == "patches-server token: there is no token 'nobody'\n"
    assert main(["token", *file, "list"]) == 0

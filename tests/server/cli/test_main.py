"""The command line, as a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest

from patches_server.cli.main import main

Run: TypeAlias = Callable[..., Awaitable["Command"]]


class Command:
    """A server process; `announced` is what it printed until it was ready."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.announced = ""

    async def ready(self) -> str:
        """Wait until it serves; the URL of its websocket."""
        assert self.process.stdout is not None
        while "Ctrl-C" not in self.announced:
            line = await self.process.stdout.readline()
            assert line, f"it ended: {await self.errors()}"
            self.announced += line.decode()
        found = re.search(r"ws://\S+", self.announced)
        assert found is not None
        return found[0]

    async def errors(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def ended(self) -> tuple[int, str]:
        """Its exit status and what it wrote to stderr."""
        async with asyncio.timeout(20):
            errors = await self.errors()
            return await self.process.wait(), errors


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """Starts the command with the arguments given; its data directory is the test's own."""
    started: list[Command] = []

    async def start(*arguments: str) -> Command:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "patches_server",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path)},
        )
        started.append(Command(process))
        return started[-1]

    yield start
    for command in started:
        if command.process.returncode is None:
            command.process.kill()
        await command.process.communicate()


async def call(ws: Any, method: str, *params: Any) -> Any:
    await ws.send_json({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
    while "id" not in (answer := await ws.receive_json(timeout=10)):
        pass
    return answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
async def test_it_says_where_it_is_and_ends_cleanly(run: Run, number: int) -> None:
    server = await run("--port", "0", "--store", "memory:")
    url = await server.ready()
    assert "Nothing is protected: everybody on this machine may read and change everything" in (
        server.announced
    )
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        assert "result" in await call(ws, "getDoc", "d")
        server.process.send_signal(number)
        message = await ws.receive(timeout=10)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    assert await server.ended() == (0, "")


async def test_documents_are_kept_in_the_users_data_directory(run: Run) -> None:
    commit = [{"id": "c1", "ops": [{"op": "replace", "path": "/a", "value": 1}]}]
    for round_ in range(2):
        server = await run("--port", "0")
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(await server.ready()) as ws:
                if round_ == 0:
                    await call(ws, "commitChanges", "d", commit)
                assert len((await call(ws, "getChangesSince", "d", 0))["result"]) == 1
        server.process.terminate()
        assert (await server.ended())[0] == 0


async def test_routes_choose_the_algorithm(run: Run) -> None:
    server = await run("--port", "0", "--store", "memory:", "--route", "board/*=lww")
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(await server.ready()) as ws:
            states = [
                (await call(ws, "getDoc", doc_id))["result"]["state"]
                for doc_id in ("board/a", "lww/a", "a")
            ]
    assert states == [{}, {}, None], "an empty LWW document is an object, an OT one null"


async def test_replay_without_actions_is_a_gate_and_a_log(run: Run) -> None:
    server = await run("--port", "0", "--store", "memory:", "--route", "lists/*=replay")
    row = {"id": "a", "title": "Milk"}
    change = {
        "id": "c1",
        "ops": [{"op": "add", "path": "/todos/a", "value": row}],
        "baseRev": 0,
        "kind": "action",
        "action": {"name": "add@1", "args": {}},
        "clock": [1, 0, "me"],
    }
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(await server.ready()) as ws:
            committed = (await call(ws, "commitChanges", "lists/a", [change]))["result"]
            got = (await call(ws, "getDoc", "lists/a"))["result"]
    (answered,) = committed["changes"]
    assert (answered["runner"], answered["rev"]) == ("client", 1)
    assert got["runner"] == "client"
    assert got["state"] == {"todos": {"a": row}}


async def test_an_occupied_port_is_one_line(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, errors = await (await run("--port", str(port), "--store", "memory:")).ended()
    assert status == 1
    assert errors == (
        f"patches-server: port {port} on 127.0.0.1 is in use; choose another with --port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--store", "sqlite:////proc/nowhere/x.db"), "/proc/nowhere/x.db"),
        (("--store", "sqlite:////dev/null/x.db"), "/dev/null/x.db"),
        (("--store", "mongodb://ann:secret@host/x"), "no store for"),
        (("--route", "a=crdt"), "no algorithm 'crdt'"),
        (("--host", "0.0.0.0"), "--auth"),
        (("--auth", "nowhere:thing"), "nowhere"),
        (("--auth", "thing"), "MODULE:NAME"),
        (("--auth", "os:path"), "authenticate"),
        (("--auth", "patches_server.auth.jwt:JwtAuth"), "missing"),
        (("--store", ""), "no store for ''"),
        (("--host", "no.such.host.invalid", "--auth", "allow-all"), "cannot listen"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_one_line_and_a_status(
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert main(["--port", "0", *arguments]) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert "secret" not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("--route", "lww"),
        ("--port", "x"),
        ("--port", "70000"),
        ("--allow-origin", "app.example"),
        ("--allow-origin", "https://app.example/"),
        ("--nonsense",),
    ],
)
def test_bad_usage_shows_the_usage(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err

"""s66: the tutorial, followed word by word: its files, its terminals, and what they show."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

PAGE = Path(__file__).parent.parent / "docs" / "tutorial.md"
BIN = Path(sys.executable).parent
#: What the reader does, in the order of the page: a file, a terminal, Ctrl-C.
_STEP = re.compile(
    r"Save this as `(?P<file>[\w.]+)`:\n\n```python no-run\n(?P<text>.*?)^```"
    r"|```console\n(?P<terminal>.*?)^```"
    r"|Press Ctrl-C (?P<ended>there|in the first terminal)"
    r"|The second terminal shows it at once: `(?P<shown>[^`]+)`",
    re.M | re.S,
)


@dataclass
class Reader:
    """Somebody at the terminals, in a folder; 8000 is another port here."""

    folder: Path
    port: int
    server: asyncio.subprocess.Process | None = None
    watching: asyncio.subprocess.Process | None = None
    files: list[str] = field(default_factory=list)

    async def start(self, command: str) -> asyncio.subprocess.Process:
        program, *words = command.split()
        if program == "patches-server":
            words += ["--port", str(self.port)]
        return await asyncio.create_subprocess_exec(
            str(BIN / program), *words,
            cwd=self.folder, stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip

    async def types(self, terminal: str) -> None:
        """Run the commands of a terminal; each shows what the page says."""
        for part in re.split(r"(?m)^\$ ", terminal)[1:]:
            command, *expected = part.splitlines()
            process = await self.start(command)
            for line in expected:
                assert await line_of(process) == line, command
            if command.startswith("patches-server"):
                while "Ctrl-C stops it" not in await line_of(process):
                    pass  # it says first where it listens
                self.server = process
            elif command == "python watch.py":
                self.watching = process
            else:
                assert await process.wait() == 0, command

    async def press_ctrl_c(self, where: str) -> None:
        process = self.server if where == "in the first terminal" else self.watching
        assert process is not None
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0

    async def leave(self) -> None:
        for process in (self.server, self.watching):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line, "it ended"
    return line.decode().rstrip("\n")


@pytest.mark.long
async def test_s66_each_step_shows_what_it_promises(tmp_path: Path) -> None:
    reader = Reader(tmp_path, unused_port())
    try:
        async with asyncio.timeout(120):
            for step in _STEP.finditer(PAGE.read_text("utf-8")):
                if step["file"]:
                    text = step["text"].replace("127.0.0.1:8000", f"127.0.0.1:{reader.port}")
                    (tmp_path / step["file"]).write_text(text, "utf-8")
                    reader.files.append(step["file"])
                elif step["terminal"]:
                    await reader.types(step["terminal"])
                elif step["shown"]:
                    assert reader.watching is not None
                    assert await line_of(reader.watching) == step["shown"]
                else:
                    await reader.press_ctrl_c(step["ended"])
        assert reader.files == ["add.py", "watch.py", "offline.py", "vote.py"]
    finally:
        await reader.leave()

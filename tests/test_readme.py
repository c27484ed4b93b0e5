"""The first program of the README runs as it is pasted, in two terminals and one more."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from patches.testing.server_process import ServerProcess

ROOT = Path(__file__).parent.parent
ALL = ["bread", "milk", "salt"]


def first_program() -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    found = re.search(r"`shopping\.py`:\n\n```python no-run\n(.*?)^```", text, re.M | re.S)
    assert found is not None
    return found[1]


async def started(program: Path, *items: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(program), *items, stdout=asyncio.subprocess.PIPE
    )


async def shows_all(process: asyncio.subprocess.Process) -> bool:
    assert process.stdout is not None
    async for line in process.stdout:
        if all(repr(item) in line.decode() for item in ALL):
            return True
    return False


async def test_both_terminals_show_what_either_added(tmp_path: Path) -> None:
    text = first_program()
    assert "patches-server --store memory:" in (ROOT / "README.md").read_text("utf-8")
    server = ServerProcess("memory:")
    await server.start()
    program = tmp_path / "shopping.py"
    program.write_text(text.replace("ws://127.0.0.1:8000/ws", server.url), "utf-8")
    terminals = [await started(program, "milk", "bread"), await started(program, "salt")]
    try:
        async with asyncio.timeout(30):
            assert await asyncio.gather(*map(shows_all, terminals)) == [True, True]
    finally:
        for terminal in terminals:
            terminal.kill()
            await terminal.wait()
        await server.kill()

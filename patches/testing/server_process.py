"""`ServerProcess`: the command `patches-server` as a process of its own, to kill and start again.

async with ServerProcess("sqlite:////tmp/docs.db") as server:
    ...                          # clients on `server.url`
    await server.kill()          # SIGKILL: nothing is finished, nothing is closed
    await server.start()         # on the same port
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

#: How long a start or an end may take on a busy machine.
PATIENCE_S: Final = 30.0


class ServerProcess:
    """A server on a loopback port, which it keeps from start to start."""

    def __init__(
        self, store: str, *, options: Sequence[str] = (), log: str | Path | None = None
    ) -> None:
        self._store = store
        self._options = tuple(options)
        self._log = None if log is None else Path(log)
        self._process: asyncio.subprocess.Process | None = None
        self.port: int = 0

    @property
    def url(self) -> str:
        """Its websocket; known once it has been started."""
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self) -> None:
        """Start it and wait until it serves. Raises `RuntimeError` with what it wrote otherwise."""
        with self._opened_log() as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "patches_server", "--no-page", "--port", str(self.port)),
                *("--store", self._store, *self._options),
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
            announced = await self._announced(self._process)
            found = re.search(r"ws://\S+:(\d+)/ws", announced)
            if found is None:
                errors.seek(0)
                raise RuntimeError(f"the server did not start: {errors.read()[-2_000:]!r}")
        self.port = int(found[1])

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        await self.end(signal.SIGKILL)

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; its exit status."""
        process, self._process = self._process, None
        assert process is not None, "it is not running"
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            await process.communicate()
        assert process.returncode is not None
        return process.returncode

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            await self.kill()

    def _opened_log(self) -> IO[bytes]:
        return tempfile.TemporaryFile() if self._log is None else self._log.open("ab+", buffering=0)

    async def _announced(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        text = ""
        async with asyncio.timeout(PATIENCE_S):
            while "Ctrl-C" not in text:
                line = await process.stdout.readline()
                if not line:
                    break
                text += line.decode()
        return text

"""A real Redis for tests: one server for each test process, on a free loopback port."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

MISSING: Final = (
    "Redis or its driver is not installed: apt-get install redis-server; pip install redis"
)


class RedisServer:
    """A server that can be killed and started again on its port."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port: int = sock.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        arguments = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        die_with_us = ["setpriv", "--pdeathsig=KILL"] if shutil.which("setpriv") else []
        self._process = subprocess.Popen(
            [*die_with_us, "redis-server", *arguments, "--dir", self._folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


def is_installed() -> bool:
    """Whether there is a server and a driver."""
    return shutil.which("redis-server") is not None and find_spec("redis") is not None


@contextmanager
def running_redis() -> Iterator[RedisServer]:
    """A server of its own."""
    with tempfile.TemporaryDirectory(prefix="patches-redis-") as folder:
        server = RedisServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.kill()

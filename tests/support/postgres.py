"""A real PostgreSQL for tests: one server for each test process, an empty database for each test.

The server listens on a free loopback port, keeps its files in a temporary directory, and dies with
the process that started it. PostgreSQL refuses to run as root: then it runs as the user `postgres`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Final

MISSING: Final = (
    "PostgreSQL or its driver is not installed: apt-get install postgresql; pip install asyncpg"
)
#: For tests that never lose power; those that kill servers leave it out.
FAST: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
_TEMPLATE: Final = "patches_template"
_STARTS_IN_S: Final = 30.0


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs; `None` if they or the driver are not installed."""
    if find_spec("asyncpg") is None:
        return None
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


class PostgresServer:
    """A running server, and the databases that tests have on it."""

    def __init__(self, folder: Path, programs: Path, options: tuple[str, ...]) -> None:
        self._data, self._programs, self._options = folder / "data", programs, options
        self._names = count(1)
        self._has_template = False
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-N")

    def url(self, database: str = "postgres") -> str:
        """The store URL of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=200",
            "shared_buffers=32MB",
            "autovacuum=off",
            *self._options,
        ]
        arguments = [part for setting in settings for part in ("-c", setting)]
        with (self._data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_user(), str(self._programs / "postgres"), "-D", str(self._data), *arguments],
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=self._data.parent,
            )
        deadline = time.monotonic() + _STARTS_IN_S
        while subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)],
            check=False,
        ).returncode:
            if time.monotonic() > deadline or self._process.poll() is not None:
                said = (self._data.parent / "log").read_text()
                raise RuntimeError(f"PostgreSQL does not start: {said[-2000:]}")
            time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End the server: SIGINT at once but cleanly, SIGQUIT as a crash does."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    async def create_database(self) -> str:
        """The URL of a new database with the schema of this version, but no documents."""
        conn = await _connect(self.url())
        try:
            if not self._has_template:
                await conn.execute(f"CREATE DATABASE {_TEMPLATE}")
                from patches_server.stores.postgres.migrations import migrate  # needs the driver

                await migrate(self.url(_TEMPLATE))
                self._has_template = True
            name = f"test_{next(self._names)}"
            await conn.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        finally:
            await conn.close()
        return self.url(name)

    async def create_empty_database(self) -> str:
        """The URL of a new database without any schema."""
        conn = await _connect(self.url())
        name = f"empty_{next(self._names)}"
        try:
            await conn.execute(f"CREATE DATABASE {name}")
        finally:
            await conn.close()
        return self.url(name)

    async def drop_database(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        conn = await _connect(self.url())
        try:
            await conn.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")
        finally:
            await conn.close()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_as_user(), str(self._programs / program), "-D", str(self._data), *arguments]
        done = subprocess.run(command, capture_output=True, check=False, cwd=self._data.parent)
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')}")


@contextmanager
def running_postgres(*options: str) -> Iterator[PostgresServer]:
    """A server of its own, with further settings (`name=value`)."""
    programs = binaries()
    assert programs is not None, MISSING
    folder = Path(tempfile.mkdtemp(prefix="patches-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        server = PostgresServer(folder, programs, options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _connect(url: str) -> Any:
    import asyncpg  # an extra: this module is imported where it is not installed, too

    return await asyncpg.connect(url)


def _as_user() -> list[str]:
    """What a command begins with so that it is not run by root, and ends with this process."""
    if os.geteuid() == 0:
        who = ["--reuid=postgres", "--regid=postgres", "--clear-groups"]
        return ["setpriv", *who, "--pdeathsig=QUIT"]
    return ["setpriv", "--pdeathsig=QUIT"] if shutil.which("setpriv") else []


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def terminate_connections(url: str) -> int:
    """Cut every connection to a database, as an administrator would; how many there were."""
    conn = await _connect(url)
    try:
        cut = await conn.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await conn.close()
    await asyncio.sleep(0)
    return int(cut)

"""Where the command listens: on a port, or on a unix socket."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Final

from aiohttp import web

#: Before the path of a unix socket, as `--host` takes it.
UNIX: Final = "unix:"


class UsageError(Exception):
    """What the person at the terminal should change; one line."""


async def listen(runner: web.AppRunner, host: str, port: int) -> None:
    """Listen on a port, or on `unix:PATH`. Raises `UsageError`."""
    if host.startswith(UNIX):
        await _listen_on_socket(runner, host.removeprefix(UNIX))
        return
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} on {host} is in use; choose another with --port"
            ) from exc
        raise UsageError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc


async def _listen_on_socket(runner: web.AppRunner, path: str) -> None:
    """Listen on a unix socket that only its owner may use."""
    try:
        _remove_stale(Path(path))
        mask = os.umask(0o177)
        try:
            await web.UnixSite(runner, path).start()
        finally:
            os.umask(mask)
    except OSError as exc:
        raise UsageError(f"cannot listen on {path}: {exc.strerror or exc}") from exc


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody serves, left by a server that was killed."""
    if not path.parent.is_dir():
        raise UsageError(f"cannot listen on {path}: there is no folder {path.parent}")
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise UsageError(f"another server listens on {path}")

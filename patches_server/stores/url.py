"""`open_backend`: a server's stores from the URL that the command line takes."""

from __future__ import annotations

import os
from urllib.parse import quote, unquote

from patches.errors import InvalidRequestError
from patches.runtime import Runtime
from patches.stores.sqlite.database import Durability
from patches_server.documents.backend import Backend
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend


def open_backend(
    url: str, *, durability: Durability = "full", runtime: Runtime | None = None
) -> Backend:
    """The backend that `url` names: `memory:` or `sqlite:///path`.

    A path after three slashes is relative, after four absolute, as elsewhere. Nothing is opened
    before the first use. Raises `InvalidRequestError` for any other URL.
    """
    if url in ("memory:", "memory://"):
        return MemoryBackend(runtime=runtime)
    path = sqlite_path(url)
    if path is not None:
        return SqliteBackend(path, durability=durability, runtime=runtime)
    raise InvalidRequestError(
        f"no store for {_without_password(url)!r}: use memory: or sqlite:///path/to/file.db"
    )


def sqlite_path(url: str) -> str | None:
    """The path in a SQLite URL, `None` if it is none."""
    path = unquote(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else ""
    return path or None


def sqlite_url(path: str | os.PathLike[str]) -> str:
    """The store URL of a file, which `sqlite_path` reads back."""
    return "sqlite:///" + quote(os.fspath(path), safe="/ \\:~()")


def _without_password(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{'…' if credentials else ''}{at}{place}" if at else url

"""`open_backend`: a server's stores from the URL that the command line takes."""

from __future__ import annotations

from typing import TypeAlias
from urllib.parse import unquote

from patches.errors import InvalidRequestError
from patches.runtime import Runtime
from patches_server.stores.memory import MemoryBackend
from patches_server.stores.sqlite import SqliteBackend

Backend: TypeAlias = MemoryBackend | SqliteBackend


def open_backend(url: str, *, runtime: Runtime | None = None) -> Backend:
    """The backend that `url` names: `memory:` or `sqlite:///path`.

    A path after three slashes is relative, after four absolute, as elsewhere. Nothing is opened
    before the first use. Raises `InvalidRequestError` for any other URL.
    """
    if url in ("memory:", "memory://"):
        return MemoryBackend(runtime=runtime)
    if url.startswith("sqlite:///") and url != "sqlite:///":
        return SqliteBackend(unquote(url.removeprefix("sqlite:///")), runtime=runtime)
    raise InvalidRequestError(
        f"no store for {_without_password(url)!r}: use memory: or sqlite:///path/to/file.db"
    )


def _without_password(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{'…' if credentials else ''}{at}{place}" if at else url

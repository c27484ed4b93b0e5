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
    url: str,
    *,
    durability: Durability = "full",
    may_migrate: bool = False,
    runtime: Runtime | None = None,
) -> Backend:
    """The backend that `url` names: `memory:`, `sqlite:///path` or `postgresql://host/database`.

    A path after three slashes is relative, after four absolute, as elsewhere. Nothing is opened
    before the first use. Raises `InvalidRequestError` for any other URL, and for PostgreSQL without
    the extra `postgres`. `may_migrate`: bring an older PostgreSQL schema up to date.
    """
    if url in ("memory:", "memory://"):
        return MemoryBackend(runtime=runtime)
    path = sqlite_path(url)
    if path is not None:
        return SqliteBackend(path, durability=durability, runtime=runtime)
    if is_postgres(url):
        return _postgres(url, durability, may_migrate, runtime)
    raise InvalidRequestError(
        f"no store for {without_password(url)!r}: use memory:, sqlite:///path/to/file.db or "
        "postgresql://user@host/database"
    )


def is_postgres(url: str) -> bool:
    """Whether a URL names a PostgreSQL database."""
    return url.startswith(("postgresql://", "postgres://"))


def _postgres(
    url: str, durability: Durability, may_migrate: bool, runtime: Runtime | None
) -> Backend:
    try:
        from patches_server.stores.postgres.backend import PostgresBackend  # needs an extra
    except ModuleNotFoundError as exc:
        raise InvalidRequestError(
            "a PostgreSQL store needs the extra postgres: pip install 'patches-sync[postgres]'"
        ) from exc
    return PostgresBackend(url, durability=durability, may_migrate=may_migrate, runtime=runtime)


def sqlite_path(url: str) -> str | None:
    """The path in a SQLite URL, `None` if it is none."""
    path = unquote(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else ""
    return path or None


def sqlite_url(path: str | os.PathLike[str]) -> str:
    """The store URL of a file, which `sqlite_path` reads back."""
    return "sqlite:///" + quote(os.fspath(path), safe="/ \\:~()")


def without_password(url: str) -> str:
    """A store URL as it may be shown."""
    scheme, mark, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{mark}{'…' if credentials else ''}{at}{place}" if at else url

"""The command line's store URLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from patches.errors import InvalidRequestError
from patches.stores.sqlite.database import Durability
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend
from patches_server.stores.url import open_backend, sqlite_url


def test_memory() -> None:
    assert isinstance(open_backend("memory:"), MemoryBackend)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///notes.db", "notes.db"),
        ("sqlite:////var/lib/notes.db", "/var/lib/notes.db"),
        ("sqlite:///a%20b.db", "a b.db"),
    ],
)
def test_sqlite_paths(url: str, path: str) -> None:
    backend = open_backend(url)
    assert isinstance(backend, SqliteBackend)
    assert backend.database.path == path
    assert not Path(path).exists()  # nothing is opened before the first use


@pytest.mark.parametrize("url", ["", "notes.db", "sqlite:notes.db", "sqlite:///", "redis://x"])
def test_other_urls_are_refused_with_what_to_use_instead(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="sqlite:///"):
        open_backend(url)


def test_a_password_stays_out_of_the_message() -> None:
    with pytest.raises(InvalidRequestError) as error:
        open_backend("mystery://user:secret@host/db")
    assert "secret" not in str(error.value)
    assert "host/db" in str(error.value)


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("relaxed", 1)])
async def test_durability_reaches_the_file(
    tmp_path: Path, durability: Durability, synchronous: int
) -> None:
    backend = open_backend(sqlite_url(tmp_path / "x.db"), durability=durability)
    assert isinstance(backend, SqliteBackend)
    shown = await backend.database.write(lambda conn: conn.execute("PRAGMA synchronous").fetchone())
    assert shown == (synchronous,)
    await backend.close()

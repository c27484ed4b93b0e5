"""The version stores, in memory and in SQLite, pass their contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from patches.errors import DocDeletedError
from patches.testing.contracts.versions import NOW, VersionStoreContract, a_version
from patches_server.documents.records import Tombstone
from patches_server.documents.version_store import VersionStore
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.backend import SqliteBackend
from patches_server.stores.sqlite.versions import delete_versions


@pytest.fixture
async def backend() -> AsyncIterator[SqliteBackend]:
    backend = SqliteBackend(":memory:")
    yield backend
    await backend.close()


class TestMemory(VersionStoreContract):
    @pytest.fixture
    def store(self) -> VersionStore:
        return MemoryBackend().versions


class TestSqlite(VersionStoreContract):
    @pytest.fixture
    def store(self, backend: SqliteBackend) -> VersionStore:
        return backend.versions


async def test_a_deleted_document_gets_no_version(backend: SqliteBackend) -> None:
    stone = Tombstone(doc_id="d", deleted_at=NOW, last_rev=0)
    await backend.database.write(lambda conn: documents.put_tombstone(conn, stone))
    memory = MemoryBackend()
    memory.documents.put_tombstone(stone)
    for store in (backend.versions, memory.versions):
        with pytest.raises(DocDeletedError):
            await store.create_version("d", a_version("v", 1), b"{}")
        assert await store.list_versions("d") == []


async def test_the_versions_of_a_document_can_be_forgotten(backend: SqliteBackend) -> None:
    memory = MemoryBackend()
    for store in (backend.versions, memory.versions):
        await store.create_version("d", a_version("v", 1), b"{}")
        await store.create_version("e", a_version("w", 1), b"{}")
    await backend.database.write(lambda conn: delete_versions(conn, "d"))
    memory.versions.delete_versions("d")
    for store in (backend.versions, memory.versions):
        assert await store.list_versions("d") == []
        assert len(await store.list_versions("e")) == 1


async def test_a_large_state_takes_less_room_than_its_text(backend: SqliteBackend) -> None:
    state = b'{"text":"' + b"all work and no play " * 10_000 + b'"}'
    await backend.versions.create_version("d", a_version("v", 1), state)
    size = await backend.database.read(
        lambda conn: conn.execute("SELECT length(state) FROM server_versions").fetchone()[0]
    )
    assert size < len(state) / 20
    assert await backend.versions.load_version_state("d", "v") == state

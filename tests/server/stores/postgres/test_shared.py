"""What is removed of deleted documents, and what processes ask about each other."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from patches.testing.contracts.lww_server import write
from patches.testing.contracts.ot_server import NOW, filled
from patches_server.documents.backend import DocAt
from patches_server.lww.stores.factory import LWW_STORES
from patches_server.ot.stores.factory import OT_STORES

pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)
from patches_server.stores.postgres.backend import PostgresBackend


@pytest.fixture
async def backend(postgres_url: str) -> AsyncIterator[PostgresBackend]:
    backend = PostgresBackend(postgres_url, durability="relaxed")
    yield backend
    await backend.close()


async def count(backend: PostgresBackend, table: str) -> int:
    found: int = await backend.database.read(
        lambda conn: conn.fetchval(f"SELECT count(*) FROM {table}")
    )
    return found


async def test_rows_of_deleted_documents_and_expired_ids_are_removed(
    backend: PostgresBackend,
) -> None:
    """Scenario 17, with 300 changes."""
    ot, lww = backend.open_store(OT_STORES), backend.open_store(LWW_STORES)
    await filled(ot, "d", 300)
    await filled(ot, "kept", 2)
    await write(lww, "l", 1, {"/a": 1}, change_ids=["x"], expires_at=NOW + 5, head_id="x")
    await write(lww, "l", 2, {"/a": 2}, change_ids=["y"], expires_at=NOW + 50, head_id="y")
    await ot.delete_doc("d", None, now=NOW)
    assert await count(backend, "ot_changes") == 302
    while await backend.clean_up(NOW + 10):
        pass
    assert await count(backend, "ot_changes") == await count(backend, "ot_change_ids") == 2
    assert await count(backend, "garbage") == 0
    assert await count(backend, "lww_change_ids") == 1
    assert await lww.made_by("l", 1, "other") is None, "ids up to it are forgotten"
    assert (await filled(ot, "d", 1)).rev == 1


async def test_what_moved_is_told_apart(backend: PostgresBackend) -> None:
    ot = backend.open_store(OT_STORES)
    head = await filled(ot, "d", 2)
    known = {"d": DocAt(head.token, 2), "none": DocAt()}
    assert await backend.moved(known) == {}
    await ot.delete_doc("d", None, now=NOW)
    assert await backend.moved(known) == {"d": DocAt()}

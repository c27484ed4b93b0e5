"""The OT server stores, in memory and in SQLite, pass their contract."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from patches.errors import CorruptDataError, RevConflictError
from patches.runtime import Runtime
from patches.testing.contracts.ot_server import (
    NOW,
    OTServerStoreContract,
    a_change,
    check_algorithm_is_kept,
    filled,
    revs,
)
from patches_server.ot import OTServerStore
from patches_server.ot.stores.factory import OT_STORES
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.backend import SqliteBackend

RUNTIME = Runtime(wall_ms=lambda: NOW)


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    backend = SqliteBackend(tmp_path / "server.db", durability="relaxed", runtime=RUNTIME)
    yield backend
    await backend.close()


class TestMemory(OTServerStoreContract):
    @pytest.fixture
    def store(self) -> OTServerStore:
        return MemoryBackend(runtime=RUNTIME).open_store(OT_STORES)


class TestSqlite(OTServerStoreContract):
    @pytest.fixture
    def store(self, backend: SqliteBackend) -> OTServerStore:
        return backend.open_store(OT_STORES)


async def test_two_processes_on_one_file_arbitrate(backend: SqliteBackend, tmp_path: Path) -> None:
    second = SqliteBackend(tmp_path / "server.db", durability="relaxed", runtime=RUNTIME)
    try:
        head = await filled(backend.open_store(OT_STORES), "d", 1)
        saves = [
            store.save_changes("d", [a_change(2, f"x{n}")], expected=head, now=NOW)
            for n, store in enumerate((backend.open_store(OT_STORES), second.open_store(OT_STORES)))
        ]
        results = await asyncio.gather(*saves, return_exceptions=True)
        assert {type(result) for result in results} == {type(None), RevConflictError}
        assert await revs(second.open_store(OT_STORES), "d") == [1, 2]
    finally:
        await second.close()


async def test_a_document_of_another_algorithm_is_refused(backend: SqliteBackend) -> None:
    await backend.database.write(lambda conn: documents.require_writable(conn, "d", "lww", now=NOW))
    await check_algorithm_is_kept(backend.open_store(OT_STORES), "d")
    memory = MemoryBackend()
    memory.documents.require_writable("d", "lww", now=NOW)
    await check_algorithm_is_kept(memory.open_store(OT_STORES), "d")


async def test_the_algorithm_is_recorded_until_the_document_is_deleted(
    backend: SqliteBackend,
) -> None:
    for each in (backend, MemoryBackend(runtime=RUNTIME)):
        assert await each.algorithm_of("d") is None
        await filled(each.open_store(OT_STORES), "d", 1)
        assert await each.algorithm_of("d") == "ot"
        await each.open_store(OT_STORES).delete_doc("d", None, now=NOW)
        assert await each.algorithm_of("d") is None


async def test_documents_survive_a_restart(tmp_path: Path) -> None:
    first = SqliteBackend(tmp_path / "server.db", runtime=RUNTIME)
    head = await filled(first.open_store(OT_STORES), "d", 2)
    await first.close()
    second = SqliteBackend(tmp_path / "server.db", runtime=RUNTIME)
    assert await second.open_store(OT_STORES).get_head("d") == head
    assert await revs(second.open_store(OT_STORES), "d") == [1, 2]
    assert await second.open_store(OT_STORES).last_server_time() == NOW
    await second.close()


async def test_a_damaged_row_is_found(backend: SqliteBackend, tmp_path: Path) -> None:
    await filled(backend.open_store(OT_STORES), "d", 2)
    await filled(backend.open_store(OT_STORES), "e", 2)
    with closing(sqlite3.connect(tmp_path / "server.db")) as conn, conn:
        conn.execute("UPDATE ot_changes SET change = x'7b7d' WHERE doc_id = 'd' AND rev = 2")
    with pytest.raises(CorruptDataError, match=r"'d': revision 2") as raised:
        await backend.open_store(OT_STORES).list_changes("d")
    assert raised.value.data == {"reason": "CORRUPT"}
    with pytest.raises(CorruptDataError):
        await backend.open_store(OT_STORES).load_snapshot("d")
    assert await revs(backend.open_store(OT_STORES), "e") == [1, 2]


async def test_every_query_of_a_log_is_a_search_by_an_index(backend: SqliteBackend) -> None:
    await filled(backend.open_store(OT_STORES), "d", 1)
    queries = (
        "SELECT change FROM ot_changes WHERE doc_id = 'd' AND rev > 5 ORDER BY rev LIMIT 9",
        "SELECT change FROM ot_changes WHERE doc_id = 'd' ORDER BY rev DESC LIMIT 1",
        "SELECT rev FROM ot_heads WHERE doc_id = 'd'",
        """SELECT state FROM server_versions WHERE doc_id = 'd' AND origin = 'main'
        AND end_rev <= 7 ORDER BY end_rev DESC, seq DESC LIMIT 1""",
    )

    def explain(conn: sqlite3.Connection) -> list[str]:
        return [row[3] for query in queries for row in conn.execute(f"EXPLAIN QUERY PLAN {query}")]

    plans = await backend.database.read(explain)
    assert len(plans) == len(queries), plans
    assert all(plan.startswith("SEARCH") for plan in plans), plans

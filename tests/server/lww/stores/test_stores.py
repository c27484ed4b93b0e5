"""The LWW server stores, in memory and in SQLite, pass their contract."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from patches.errors import CorruptDataError
from patches.testing.contracts.lww_server import (
    NOW,
    LWWServerStoreContract,
    SharedDocumentsContract,
    check_algorithm_is_kept,
    paths_of,
    write,
)
from patches_server.lww.store import LWWServerStore
from patches_server.lww.stores.factory import LWW_STORES
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.backend import SqliteBackend


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    backend = SqliteBackend(tmp_path / "server.db", durability="relaxed")
    yield backend
    await backend.close()


class TestMemory(LWWServerStoreContract):
    @pytest.fixture
    def store(self) -> LWWServerStore:
        return MemoryBackend().open_store(LWW_STORES)


class TestSqlite(LWWServerStoreContract):
    @pytest.fixture
    def store(self, backend: SqliteBackend) -> LWWServerStore:
        return backend.open_store(LWW_STORES)


class TestTwoConnections(SharedDocumentsContract):
    @pytest.fixture
    async def stores(
        self, backend: SqliteBackend, tmp_path: Path
    ) -> AsyncIterator[Sequence[LWWServerStore]]:
        second = SqliteBackend(tmp_path / "server.db", durability="relaxed")
        yield backend.open_store(LWW_STORES), second.open_store(LWW_STORES)
        await second.close()


async def test_a_document_of_another_algorithm_is_refused(backend: SqliteBackend) -> None:
    await backend.database.write(lambda conn: documents.require_writable(conn, "d", "ot", now=NOW))
    await check_algorithm_is_kept(backend.open_store(LWW_STORES), "d")
    memory = MemoryBackend()
    memory.documents.require_writable("d", "ot", now=NOW)
    await check_algorithm_is_kept(memory.open_store(LWW_STORES), "d")


async def test_the_algorithm_is_recorded_until_the_document_is_deleted(
    backend: SqliteBackend,
) -> None:
    for each in (backend, MemoryBackend()):
        assert await each.algorithm_of("d") is None
        await write(each.open_store(LWW_STORES), "d", 1, {"/a": 1})
        assert await each.algorithm_of("d") == "lww"
        await each.open_store(LWW_STORES).delete_doc("d", None, now=NOW)
        assert await each.algorithm_of("d") is None


async def test_a_refused_write_records_no_algorithm(backend: SqliteBackend) -> None:
    with pytest.raises(Exception, match="Revision conflict"):
        await write(backend.open_store(LWW_STORES), "d", 5, {"/a": 1})
    assert await backend.algorithm_of("d") is None
    memory = MemoryBackend()
    with pytest.raises(Exception, match="Revision conflict"):
        await write(memory.open_store(LWW_STORES), "d", 5, {"/a": 1})
    assert await memory.algorithm_of("d") is None


async def test_documents_survive_a_restart(tmp_path: Path) -> None:
    first = SqliteBackend(tmp_path / "server.db")
    await write(first.open_store(LWW_STORES), "d", 1, {"/a": 1}, now=NOW + 3)
    await first.close()
    second = SqliteBackend(tmp_path / "server.db")
    assert await paths_of(second.open_store(LWW_STORES), "d") == ["/a"]
    assert await second.open_store(LWW_STORES).last_server_time() == NOW + 3
    await second.close()


async def test_a_damaged_row_is_found(backend: SqliteBackend, tmp_path: Path) -> None:
    await write(backend.open_store(LWW_STORES), "d", 1, {"/a": 1})
    await write(backend.open_store(LWW_STORES), "e", 1, {"/a": 1})
    with closing(sqlite3.connect(tmp_path / "server.db")) as conn, conn:
        conn.execute("UPDATE lww_rows SET op = x'7b7d' WHERE doc = 1")
    with pytest.raises(CorruptDataError, match="'d'"):
        await backend.open_store(LWW_STORES).load_rows("d", now=NOW)
    assert await paths_of(backend.open_store(LWW_STORES), "e") == ["/a"]


async def test_a_commit_looks_only_at_what_it_touches(backend: SqliteBackend) -> None:
    """The plan of every statement of a commit is a search by more than the document."""
    values: dict[str, object] = {f"/f{number}": number for number in range(50)}
    store = backend.open_store(LWW_STORES)
    await write(store, "d", 1, values, change_ids=["a", "b"], expires_at=NOW + 1)
    await store.load_rows("d", now=NOW, paths=())  # the first look counts all rows
    statements: list[str] = []
    for access in (backend.database.read, backend.database.write):
        await access(lambda conn: conn.set_trace_callback(statements.append))
    now = NOW + 5  # the ids have expired
    await store.load_rows("d", now=now, paths=["/f1", "/x/y"], since_rev=1, change_ids=["a"])
    await write(store, "d", 2, {"/f1": ...}, hide=["/f2"], change_ids=["c"], now=now)
    await store.drop_removals("d", stored_before=now + 1, limit=9)
    for access in (backend.database.read, backend.database.write):
        await access(lambda conn: conn.set_trace_callback(None))
    ours = {sql for sql in statements if " lww_" in sql}
    assert len(ours) >= 10

    def explain(conn: sqlite3.Connection) -> list[str]:
        return [
            row[3] for sql in ours for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
        ]

    plans = await backend.database.read(explain)
    assert any("lww_change_ids_by_expiry" in plan for plan in plans)
    bad = [
        plan
        for plan in plans
        if plan.startswith("SCAN") or (plan.endswith("(doc=?)") and "lww_docs" not in plan)
    ]
    assert bad == []

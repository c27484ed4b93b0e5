"""LWW documents in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from patches.errors import CorruptDataError, RevConflictError
from patches.testing.contracts.lww_server import (
    NOW,
    LWWServerStoreContract,
    SharedDocumentsContract,
    check_algorithm_is_kept,
    paths_of,
    write,
)
from patches.testing.contracts.ot_server import filled
from patches_server.lww.store import LWWServerStore
from patches_server.lww.stores.factory import LWW_STORES
from patches_server.lww.stores.postgres_rows import MAX_KEY, Save, arguments
from patches_server.ot.stores.factory import OT_STORES

pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)
from patches_server.stores.postgres.backend import PostgresBackend
from patches_server.stores.postgres.database import Connection


@pytest.fixture
async def backend(postgres_url: str) -> AsyncIterator[PostgresBackend]:
    backend = PostgresBackend(postgres_url, durability="relaxed")
    yield backend
    await backend.close()


class TestPostgres(LWWServerStoreContract):
    @pytest.fixture
    def store(self, backend: PostgresBackend) -> LWWServerStore:
        return backend.open_store(LWW_STORES)


class TestTwoProcesses(SharedDocumentsContract):
    @pytest.fixture
    async def stores(
        self, backend: PostgresBackend, postgres_url: str
    ) -> AsyncIterator[Sequence[LWWServerStore]]:
        other = PostgresBackend(postgres_url, durability="relaxed")
        yield backend.open_store(LWW_STORES), other.open_store(LWW_STORES)
        await other.close()


async def test_long_paths_are_told_apart_and_found_below(backend: PostgresBackend) -> None:
    """Scenario 35: paths of 4,096 bytes, two of which are equal for longer than a key."""
    store = backend.open_store(LWW_STORES)
    stem = "/" + "a" * (MAX_KEY + 500)
    deep = stem + "/b"
    paths = [stem, deep, stem + "0", deep + "/" + "c" * (4_094 - len(deep)), "/" + "é" * 2_000]
    await write(store, "d", 1, {path: number for number, path in enumerate(paths)})
    assert await paths_of(store, "d") == paths
    assert await paths_of(store, "d", paths=[deep]) == [stem, deep, paths[3]]
    await write(store, "d", 2, {deep: 9})
    assert await paths_of(store, "d") == [stem, stem + "0", paths[4], deep]
    assert max(len(path.encode()) for path in paths) > 4_000


async def test_a_parent_written_after_its_child_replaces_it(backend: PostgresBackend) -> None:
    store = backend.open_store(LWW_STORES)
    await write(store, "d", 1, {"/a/b": 1, "/x": 1})
    await write(store, "d", 2, {"/a/b": 2, "/a": 3, "/a/c": 4})
    assert await paths_of(store, "d") == ["/x", "/a", "/a/c"]


async def test_many_documents_are_saved_in_few_statements(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = backend.open_store(LWW_STORES)
    for number in range(20):
        await write(store, f"d{number}", 1, {"/a": 1})
    calls: list[int] = []

    def counted(saves: Sequence[Save]) -> list[list[object]]:
        calls.append(len(saves))
        return arguments(saves)

    monkeypatch.setattr("patches_server.lww.stores.postgres.arguments", counted)
    await asyncio.gather(
        *(write(store, f"d{number}", 2, {"/a": 2, "/b": number}) for number in range(20)),
        write(store, "new", 1, {"/a": 1}),
    )
    assert calls == [20, 1]
    for number in range(20):
        assert await paths_of(store, f"d{number}") == ["/a", "/b"]


async def test_one_of_a_group_that_lost_does_not_hinder_the_others(
    backend: PostgresBackend,
) -> None:
    store = backend.open_store(LWW_STORES)
    for doc_id in "abc":
        await write(store, doc_id, 1, {"/a": 1})
    await write(store, "b", 2, {"/a": 2})
    results = await asyncio.gather(
        *(write(store, doc_id, 2, {"/a": 3}) for doc_id in "abc"), return_exceptions=True
    )
    assert [type(each) for each in results] == [type(None), RevConflictError, type(None)]


async def test_a_save_that_was_cut_off_after_it_took_effect_counts_once(
    backend: PostgresBackend,
) -> None:
    store = backend.open_store(LWW_STORES)
    await write(store, "d", 1, {"/a": 1})
    database, cuts = backend.database, [ConnectionResetError()]
    inner = database.save

    async def cut(do):  # type: ignore[no-untyped-def]
        async def run(conn: Connection, may_have_run: bool) -> object:
            done = await do(conn, may_have_run)
            if cuts:
                raise cuts.pop()
            return done

        return await inner(run)

    database.save = cut  # type: ignore[method-assign]
    await write(store, "d", 2, {"/a": 2}, change_ids=["x"], expires_at=NOW + 9, head_id="x")
    assert await store.get_current_rev("d") == 2
    assert database.unknown_outcomes == 1


async def test_a_torn_row_is_noticed(backend: PostgresBackend) -> None:
    store = backend.open_store(LWW_STORES)
    await write(store, "d", 1, {"/a": 1, "/b": 1})
    await backend.database.write(
        lambda conn: conn.execute("UPDATE lww_rows SET ts = ts + 1 WHERE key = '/a'")
    )
    with pytest.raises(CorruptDataError):
        await store.load_rows("d", now=NOW)


async def test_another_algorithms_documents_are_left_alone(backend: PostgresBackend) -> None:
    await filled(backend.open_store(OT_STORES), "o", 2)
    await check_algorithm_is_kept(backend.open_store(LWW_STORES), "o")

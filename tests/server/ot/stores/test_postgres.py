"""OT documents in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from patches.errors import CorruptDataError, DuplicateChangeIdsError, RevConflictError
from patches.testing.contracts.ot_server import (
    NOW,
    OTServerStoreContract,
    a_change,
    check_algorithm_is_kept,
    filled,
    revs,
)
from patches_server.lww.stores.factory import LWW_STORES
from patches_server.ot import OTServerStore
from patches_server.ot.store import NO_DOC, DocHead
from patches_server.ot.stores.factory import OT_STORES

pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)
from patches_server.ot.stores.postgres_saves import Append, append
from patches_server.stores.postgres.backend import PostgresBackend
from patches_server.stores.postgres.database import Connection
from tests.support.postgres import terminate_connections


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresBackend]:
    backend = PostgresBackend(url, durability="relaxed")
    try:
        yield backend
    finally:
        await backend.close()


@pytest.fixture
async def backend(postgres_url: str) -> AsyncIterator[PostgresBackend]:
    async with opened(postgres_url) as backend:
        yield backend


class TestPostgres(OTServerStoreContract):
    @pytest.fixture
    def store(self, backend: PostgresBackend) -> OTServerStore:
        return backend.open_store(OT_STORES)


async def test_of_two_processes_one_takes_a_revision(
    backend: PostgresBackend, postgres_url: str
) -> None:
    first = backend.open_store(OT_STORES)
    head = await filled(first, "d", 1)
    async with opened(postgres_url) as other:
        second = other.open_store(OT_STORES)
        for _ in range(20):
            head = await first.get_head("d")
            results = await asyncio.gather(
                *(
                    store.save_changes(
                        "d", [a_change(head.rev + 1, f"x{n}-{head.rev}")], expected=head, now=NOW
                    )
                    for n, store in enumerate((first, second))
                ),
                return_exceptions=True,
            )
            assert {type(result) for result in results} == {type(None), RevConflictError}
        assert await revs(second, "d") == list(range(1, 22))


async def test_saves_of_many_documents_are_few_statements(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = backend.open_store(OT_STORES)
    for number in range(64):
        await filled(store, f"d{number}", 1)
    heads = {f"d{number}": await store.get_head(f"d{number}") for number in range(64)}
    calls: list[int] = []

    async def counted(conn: Connection, saves: Sequence[Append]) -> set[int]:
        calls.append(len(saves))
        return await append(conn, saves)

    monkeypatch.setattr("patches_server.ot.stores.postgres.append", counted)
    await asyncio.gather(
        *(
            store.save_changes(doc_id, [a_change(2)], expected=head, now=NOW)
            for doc_id, head in heads.items()
        )
    )
    assert calls == [64]
    for doc_id in heads:
        assert await revs(store, doc_id) == [1, 2]


async def test_saves_upon_each_other_are_one(backend: PostgresBackend) -> None:
    store = backend.open_store(OT_STORES)
    head = await filled(store, "d", 1)
    saves = []
    for rev in range(2, 40):
        change = a_change(rev)
        saves.append(store.save_changes("d", [change], expected=head, now=NOW))
        head = DocHead(rev=rev, change_id=change.id, created_at=change.created_at, token=head.token)
    await asyncio.gather(*saves)
    assert await revs(store, "d") == list(range(1, 40))


async def test_a_refused_save_takes_those_upon_it_along_and_no_other(
    backend: PostgresBackend,
) -> None:
    store = backend.open_store(OT_STORES)
    head, other = await filled(store, "d", 1), await filled(store, "e", 1)
    second, third = a_change(2, "c1"), a_change(3, "c3")  # the first id is taken
    results = await asyncio.gather(
        store.save_changes("d", [second], expected=head, now=NOW),
        store.save_changes("d", [third], expected=DocHead(rev=2, change_id="c1"), now=NOW),
        store.save_changes("e", [a_change(2)], expected=other, now=NOW),
        store.save_changes("f", [a_change(1)], expected=NO_DOC, now=NOW),
        return_exceptions=True,
    )
    assert [type(each) for each in results] == [
        DuplicateChangeIdsError,
        RevConflictError,
        type(None),
        type(None),
    ]
    assert await revs(store, "d") == [1]
    assert await revs(store, "e") == [1, 2]


async def test_a_cut_connection_delays_a_save(backend: PostgresBackend, postgres_url: str) -> None:
    store = backend.open_store(OT_STORES)
    head = await filled(store, "d", 1)
    for rev in range(2, 12):
        saving = asyncio.ensure_future(
            store.save_changes("d", [a_change(rev)], expected=head, now=NOW)
        )
        await terminate_connections(postgres_url)
        await saving
        head = await store.get_head("d")
    assert await revs(store, "d") == list(range(1, 12))


async def test_a_save_that_was_cut_off_after_it_took_effect_counts_once(
    backend: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = backend.open_store(OT_STORES)
    head = await filled(store, "d", 1)
    cuts = [ConnectionResetError()]

    async def cut(conn: Connection, saves: Sequence[Append]) -> set[int]:
        done = await append(conn, saves)
        if cuts:
            raise cuts.pop()
        return done

    monkeypatch.setattr("patches_server.ot.stores.postgres.append", cut)
    await store.save_changes("d", [a_change(2)], expected=head, now=NOW)
    await store.save_changes("new", [a_change(1)], expected=NO_DOC, now=NOW)
    assert await revs(store, "d") == [1, 2]
    assert backend.database.unknown_outcomes == 1


async def test_damage_and_holes_are_noticed(backend: PostgresBackend) -> None:
    store = backend.open_store(OT_STORES)
    for doc_id in ("torn", "hole", "end", "whole"):
        await filled(store, doc_id, 5)
    life = "life = (SELECT life FROM docs WHERE doc_id = '{}')"
    for sql in (
        "UPDATE ot_changes SET created_at = 7 WHERE rev = 3 AND " + life.format("torn"),
        "DELETE FROM ot_changes WHERE rev = 3 AND " + life.format("hole"),
        "DELETE FROM ot_changes WHERE rev = 5 AND " + life.format("end"),
    ):
        await backend.database.write(lambda conn, sql=sql: conn.execute(sql))  # type: ignore[misc]
    for doc_id in ("torn", "hole", "end"):
        with pytest.raises(CorruptDataError):
            await store.list_changes(doc_id)
    assert await revs(store, "whole") == [1, 2, 3, 4, 5]


async def test_another_algorithms_documents_are_left_alone(backend: PostgresBackend) -> None:
    lww = backend.open_store(LWW_STORES)
    await lww.seed("l", b"{}", [], now=NOW)
    await check_algorithm_is_kept(backend.open_store(OT_STORES), "l")

"""`LWWSqliteStore` keeps the contract, survives a restart, and undoes what a function did."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from patches.algorithms.lww.stores.sqlite import LWWSqliteStore
from patches.algorithms.lww.tables import DocTables, LWWStore
from patches.stores.sqlite.database import SqliteDatabase
from patches.testing.contracts.lww_client import DOC, LWWClientStoreContract, fill, write


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "client.db", durability="relaxed")
    yield database
    await database.close()


def count_rows(connection: sqlite3.Connection, *, table: str) -> int:
    count: int = connection.execute(
        f"SELECT COUNT(*) FROM {table}"  # noqa: S608 - the names in the test
    ).fetchone()[0]
    return count


class TestLWWSqliteStore(LWWClientStoreContract):
    @pytest.fixture
    def store(self, database: SqliteDatabase) -> LWWStore:
        return LWWSqliteStore(database)

    async def test_a_function_that_raises_after_writing_is_undone(self, store: LWWStore) -> None:
        def fail(tables: DocTables) -> None:
            fill(tables)
            raise KeyError("after it wrote")

        with pytest.raises(KeyError):
            await store.change(DOC, fail)
        assert await store.list_docs() == []
        assert await store.read(DOC, lambda tables: tables.pending.any()) is False

    async def test_a_reopened_file_holds_what_was_written(
        self, store: LWWStore, database: SqliteDatabase
    ) -> None:
        await store.change(DOC, fill)
        again = SqliteDatabase(database.path)
        reopened = LWWSqliteStore(again)
        try:
            assert await reopened.read(DOC, lambda tables: tables.pending.ops()) == [
                write("/p", ts=2)
            ]
            assert [doc.committed_rev for doc in await reopened.list_docs()] == [4]
        finally:
            await again.close()

    async def test_forgetting_a_document_leaves_no_rows(
        self, store: LWWStore, database: SqliteDatabase
    ) -> None:
        await store.change(DOC, fill)
        await store.change(DOC, lambda tables: tables.remove_head())
        for table in ("lww_docs", "lww_rows", "lww_pieces", "lww_snapshots"):
            assert await database.read(partial(count_rows, table=table)) == 0, table

"""`CollectionsSqliteStore` keeps the contract, undoes what a function did, and finds damage."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from patches.algorithms.collections import transactions
from patches.algorithms.collections.stores.sqlite import CollectionsSqliteStore
from patches.algorithms.collections.tables import CollectionsStore, DocTables
from patches.errors import CorruptDataError
from patches.stores.sqlite.database import SqliteDatabase
from patches.testing.contracts.collections_client import (
    DOC,
    CollectionsClientStoreContract,
    fill,
    write,
)


class TestCollectionsSqliteStore(CollectionsClientStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[CollectionsStore]:
        database = SqliteDatabase(tmp_path / "client.db")
        yield CollectionsSqliteStore(database)
        await database.close()

    async def test_what_raises_in_the_middle_leaves_nothing(self, store: CollectionsStore) -> None:
        await store.change(DOC, fill)

        def failing(tables: DocTables) -> None:
            tables.put_row("tasks", "b", {"id": "b"})
            tables.add_pending(write("w9"))
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await store.change(DOC, failing)
        work = await store.read(DOC, transactions.load)
        assert work is not None
        assert work.rows["tasks"].keys() == {"a", "\ud83d"}
        assert [change.id for change in work.pending] == ["w2", "w1"]


DAMAGE = {
    "a row is changed": ("UPDATE collections_rows SET row = '{}' WHERE key = 'a'", "committed"),
    "a row is gone": ("DELETE FROM collections_rows WHERE key = 'a'", "committed"),
    "a pending change is changed": ("UPDATE collections_pending SET change = '{}'", "pending"),
    "a pending change is gone": (
        "DELETE FROM collections_pending WHERE change_id = CAST('w1' AS BLOB)",
        "pending",
    ),
    "the record is changed": ("UPDATE collections_docs SET committed_rev = 9", "record"),
    "the record is gone": ("DELETE FROM collections_docs", "record"),
}


@pytest.mark.parametrize(("sql", "part"), DAMAGE.values(), ids=DAMAGE.keys())
async def test_damage_is_found_where_the_document_is_loaded(
    tmp_path: Path, sql: str, part: str
) -> None:
    file = tmp_path / "client.db"
    database = SqliteDatabase(file)
    await CollectionsSqliteStore(database).change(DOC, fill)
    await database.close()
    sql = sql.replace("'a'", "CAST('a' AS BLOB)").replace("'{}'", "CAST('{}' AS BLOB)")
    with closing(sqlite3.connect(file)) as db, db:
        assert db.execute(sql).rowcount
    database = SqliteDatabase(file)
    store = CollectionsSqliteStore(database)
    with pytest.raises(CorruptDataError) as caught:
        await store.read(DOC, transactions.load)
    assert (caught.value.part, caught.value.doc_id) == (part, DOC)
    if part == "record":
        assert [doc.is_damaged for doc in await store.list_docs()] == [True]
    await store.change(DOC, transactions.untrack)
    assert await store.list_docs() == []
    assert await store.read(DOC, transactions.load) is None
    await database.close()


async def test_a_row_put_back_to_an_older_content_is_found(tmp_path: Path) -> None:
    file = tmp_path / "client.db"
    database = SqliteDatabase(file)
    store = CollectionsSqliteStore(database)
    await store.change(DOC, fill)
    where = "WHERE name = CAST('tasks' AS BLOB) AND key = CAST('a' AS BLOB)"
    with closing(sqlite3.connect(file)) as db:
        old = db.execute(f"SELECT row, sum FROM collections_rows {where}").fetchone()
    await store.change(DOC, lambda tables: tables.put_row("tasks", "a", {"id": "a", "n": 2}))
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(f"UPDATE collections_rows SET row = ?, sum = ? {where}", old)
    with pytest.raises(CorruptDataError, match="another time"):
        await store.read(DOC, transactions.load)
    await database.close()

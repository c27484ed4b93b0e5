"""`LWWSqliteStore` keeps the contract, survives a restart, and undoes what a function did."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from patches.algorithms.lww import reading, transactions
from patches.algorithms.lww.stores.factory import LWW_STORES
from patches.algorithms.lww.stores.sqlite import LWWSqliteStore
from patches.algorithms.lww.tables import DocTables, LWWStore
from patches.errors import CorruptDataError
from patches.model.change import Change, Snapshot
from patches.model.codec import encode
from patches.stores.sqlite.backend import SqliteBackend
from patches.stores.sqlite.database import SqliteDatabase
from patches.testing.contracts.lww_client import DOC, LWWClientStoreContract, fill, write

BEFORE_CHECKSUMS = """
CREATE TABLE lww_docs (
    doc INTEGER PRIMARY KEY AUTOINCREMENT,
    doc_id BLOB NOT NULL UNIQUE,
    committed_rev INTEGER NOT NULL,
    version INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    edits BLOB NOT NULL DEFAULT '[]'  -- ids of the last edits, a JSON list
);
CREATE TABLE lww_snapshots (
    doc INTEGER PRIMARY KEY REFERENCES lww_docs ON DELETE CASCADE,
    rev INTEGER NOT NULL,
    state BLOB NOT NULL
);
CREATE TABLE lww_rows (
    doc INTEGER NOT NULL REFERENCES lww_docs ON DELETE CASCADE,
    pending INTEGER NOT NULL,
    path BLOB NOT NULL,
    position INTEGER NOT NULL,
    op BLOB NOT NULL,
    PRIMARY KEY (doc, pending, path)
) WITHOUT ROWID;
CREATE INDEX lww_rows_in_order ON lww_rows (doc, pending, position);
CREATE TABLE lww_pieces (
    doc INTEGER NOT NULL REFERENCES lww_docs ON DELETE CASCADE,
    position INTEGER NOT NULL,
    change BLOB NOT NULL,
    PRIMARY KEY (doc, position)
) WITHOUT ROWID;
CREATE TABLE lww_quarantine (
    doc_id BLOB NOT NULL,
    change_id BLOB NOT NULL,
    position INTEGER NOT NULL,
    change BLOB NOT NULL,
    reason BLOB NOT NULL,
    quarantined_at INTEGER NOT NULL,
    PRIMARY KEY (doc_id, change_id)
) WITHOUT ROWID;
"""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "client.db", durability="relaxed")
    yield database
    await database.close()


def count_rows(connection: sqlite3.Connection, *, table: str) -> int:
    count: int = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
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


async def test_a_file_of_the_version_before_checksums_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "client.db"
    piece = Change(id="sent", ops=[write("/s", ts=3)], base_rev=4, rev=5, created_at=3)
    bad = piece.replace(id="bad")
    with closing(sqlite3.connect(path)) as db:
        db.executescript(BEFORE_CHECKSUMS)
        db.execute("INSERT INTO lww_docs VALUES (7, x'6c77772f646f63', 4, 9, 0, ?)", (b'["e1"]',))
        db.execute("INSERT INTO lww_docs VALUES (8, x'676f6e65', 1, 2, 1, '[]')")
        db.execute("INSERT INTO lww_snapshots VALUES (7, 2, ?)", (b'{"old":1}',))
        for pending, op, position in [
            (0, write("/b", ts=50, rev=4), 2),
            (0, write("/a", ts=40, rev=3), 1),
            (1, write("/p", ts=60), 3),
        ]:
            row = (7, pending, op["path"].encode(), position, encode(op))
            db.execute("INSERT INTO lww_rows VALUES (?, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO lww_pieces VALUES (7, 0, ?)", (piece.encoded,))
        db.execute(
            "INSERT INTO lww_quarantine VALUES (x'6c77772f646f63', x'626164', 1, ?, x'776879', 5)",
            (bad.encoded,),
        )
        db.commit()

    def look(tables: DocTables) -> None:
        head = tables.head()
        assert head is not None
        assert (head.committed_rev, head.newest_ts, head.pending_id) == (4, 50, "")
        assert tables.snapshot().state == {"old": 1}
        assert [op["path"] for op in tables.committed.ops()] == ["/a", "/b"]
        assert tables.pending.ops() == [write("/p", ts=60)]
        assert tables.sending() == [piece]
        assert tables.has_edit("e1")

    for _ in range(2):
        backend = SqliteBackend(path)
        store = backend.open_store(LWW_STORES)
        await store.read(DOC, look)
        assert [entry.change for entry in await store.list_quarantined(DOC)] == [bad]
        assert [(doc.doc_id, doc.deleted) for doc in await store.list_docs(True)] == [
            (DOC, False),
            ("gone", True),
        ]
        await backend.close()


DAMAGE = [
    ("committed", "UPDATE lww_snapshots SET state = x'7b7d'"),
    ("committed", "DELETE FROM lww_snapshots"),
    ("committed", "UPDATE lww_rows SET op = x'00' || op WHERE NOT pending"),
    ("committed", "UPDATE lww_rows SET path = x'2f7a' WHERE NOT pending"),
    ("committed", "DELETE FROM lww_rows WHERE NOT pending"),
    ("pending", "UPDATE lww_rows SET position = position + 1 WHERE pending"),
    ("pending", "DELETE FROM lww_rows WHERE pending"),
    ("pending", "UPDATE lww_pieces SET change = x'00' || change"),
    ("pending", "DELETE FROM lww_pieces"),
    ("record", "UPDATE lww_docs SET committed_rev = 3"),
    ("record", "UPDATE lww_docs SET doc_id = x'64'"),
    ("record", "DELETE FROM lww_docs"),
]


@pytest.mark.parametrize(("part", "damage"), DAMAGE, ids=[damage for _, damage in DAMAGE])
async def test_damage_is_told_with_its_document_and_part(
    database: SqliteDatabase, part: str, damage: str
) -> None:
    store = LWWSqliteStore(database)
    await store.change(DOC, fill)
    await store.change(DOC, lambda tables: tables.put_snapshot(Snapshot(state={"a": 1}, rev=1)))
    await database.write(lambda db: db.execute(damage))
    with pytest.raises(CorruptDataError, match=f"document {DOC!r}") as told:
        await store.read(DOC, reading.load)
    assert (told.value.doc_id, told.value.part) == (DOC, part)


async def test_a_record_that_is_gone_is_missed(database: SqliteDatabase) -> None:
    store = LWWSqliteStore(database)
    await store.change(DOC, fill)
    await store.change("empty", transactions.track)
    await database.write(
        lambda db: db.execute("DELETE FROM lww_docs WHERE doc_id = x'6c77772f646f63'")
    )
    assert sorted(doc.doc_id for doc in await store.list_docs()) == ["empty", DOC]
    await database.write(lambda db: db.execute("DELETE FROM lww_docs"))
    with pytest.raises(CorruptDataError, match="2 records of 'lww'"):
        await store.list_docs()
    await database.write(lambda db: db.execute("DELETE FROM lww_quarantine"))
    with pytest.raises(CorruptDataError, match="1 quarantined"):
        await store.list_quarantined()

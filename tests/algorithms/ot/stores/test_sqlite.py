"""The OT SQLite store keeps the contract, also for two processes, and over a restart."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from patches.algorithms.ot.stores.factory import OT_STORES
from patches.algorithms.ot.stores.sqlite import OTSqliteStore
from patches.errors import CorruptDataError
from patches.model.change import Change, Snapshot
from patches.stores.sqlite.backend import SqliteBackend
from patches.stores.sqlite.database import SqliteDatabase
from patches.testing.contracts.ot_client import OTClientStoreContract
from patches.testing.contracts.ot_client_steps import (
    DOC,
    commit,
    committed,
    committed_rev,
    ids,
    pending,
    quarantine,
    queued,
    receive,
    save,
    state_at,
)

BEFORE_CHECKSUMS = """
CREATE TABLE ot_docs (
    doc_id BLOB PRIMARY KEY,
    committed_rev INTEGER NOT NULL,
    deleted INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE ot_snapshots (
    doc_id BLOB PRIMARY KEY,
    rev INTEGER NOT NULL,
    state BLOB NOT NULL
);
CREATE TABLE ot_committed (
    doc_id BLOB NOT NULL,
    rev INTEGER NOT NULL,
    change BLOB NOT NULL,
    PRIMARY KEY (doc_id, rev)
) WITHOUT ROWID;
CREATE TABLE ot_pending (
    doc_id BLOB NOT NULL,
    rev INTEGER NOT NULL,
    change_id BLOB NOT NULL,
    change BLOB NOT NULL,
    PRIMARY KEY (doc_id, rev)
) WITHOUT ROWID;
CREATE INDEX ot_pending_ids ON ot_pending (doc_id, change_id);
CREATE TABLE ot_quarantine (
    place INTEGER PRIMARY KEY,
    doc_id BLOB NOT NULL,
    change_id BLOB NOT NULL,
    change BLOB NOT NULL,
    reason BLOB NOT NULL,
    quarantined_at INTEGER NOT NULL,
    UNIQUE (doc_id, change_id)
);
"""


class TestOTSqliteStore(OTClientStoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[OTSqliteStore]:
        database = SqliteDatabase(tmp_path / "client.db")
        yield OTSqliteStore(database)
        await database.close()

    @pytest.fixture
    async def other(self, store: OTSqliteStore, tmp_path: Path) -> AsyncIterator[OTSqliteStore]:
        database = SqliteDatabase(tmp_path / "client.db")
        yield OTSqliteStore(database)
        await database.close()


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "client.db")
    store = OTSqliteStore(database)
    await commit(store, *range(1, 206))
    saved = await save(store, pending("bad"), pending("good"))
    await quarantine(store, saved[0], saved[1])
    await store.delete_doc("gone")
    await database.close()

    database = SqliteDatabase(tmp_path / "client.db")
    store = OTSqliteStore(database)
    snapshot = await store.get_doc(DOC)
    assert snapshot == Snapshot(state=state_at(205), rev=205, changes=[saved[1]])
    assert [entry.change for entry in await store.list_quarantined_changes()] == [saved[0]]
    assert {doc.doc_id: doc.deleted for doc in await store.list_docs(True)} == {
        DOC: False,
        "gone": True,
    }
    await database.close()


async def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "client.db")
    store = OTSqliteStore(database)
    await commit(store, 1)
    await save(store, pending("a"))
    same_rev: list[Change] = [pending("b", rev=5), pending("c", rev=5)]
    with pytest.raises(Exception, match="UNIQUE"):
        await receive(store, [pending("s2", rev=2)], same_rev)
    assert await committed_rev(store) == 1
    assert ids(await queued(store)) == [("a", 2)]
    await database.close()


async def test_a_file_of_the_version_before_checksums_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "client.db"
    made = pending("a", rev=3)
    bad = pending("bad")
    with closing(sqlite3.connect(path)) as db:
        db.executescript(BEFORE_CHECKSUMS)
        db.execute("INSERT INTO ot_docs VALUES (x'646f63', 2, 0), (x'676f6e65', 0, 1)")
        db.execute("INSERT INTO ot_snapshots VALUES (x'646f63', 1, ?)", (b'{"r1":1}',))
        db.execute("INSERT INTO ot_committed VALUES (x'646f63', 2, ?)", (committed(2).encoded,))
        db.execute("INSERT INTO ot_pending VALUES (x'646f63', 3, x'61', ?)", (made.encoded,))
        db.execute(
            "INSERT INTO ot_quarantine (doc_id, change_id, change, reason, quarantined_at)"
            " VALUES (x'646f63', x'626164', ?, x'776879', 5)",
            (bad.encoded,),
        )
        db.commit()
    for _ in range(2):
        backend = SqliteBackend(path)
        store = backend.open_store(OT_STORES)
        assert await store.get_doc(DOC) == Snapshot(state=state_at(2), rev=2, changes=[made])
        assert [entry.change for entry in await store.list_quarantined_changes(DOC)] == [bad]
        assert [(doc.doc_id, doc.deleted) for doc in await store.list_docs(True)] == [
            (DOC, False),
            ("gone", True),
        ]
        await backend.close()


DAMAGE = [
    ("committed", "UPDATE ot_snapshots SET state = x'7b7d'"),
    ("committed", "DELETE FROM ot_snapshots"),
    ("committed", "UPDATE ot_committed SET change = replace(change, 'r204', 'r104')"),
    ("committed", "UPDATE ot_committed SET rev = 207 WHERE rev = 206"),
    ("committed", "DELETE FROM ot_committed WHERE rev = 203"),
    ("committed", "DELETE FROM ot_committed WHERE rev = 206"),
    ("pending", "UPDATE ot_pending SET change = x'00' || change"),
    ("pending", "UPDATE ot_pending SET change_id = x'62' WHERE rev = 207"),
    ("pending", "UPDATE ot_pending SET rev = 209 WHERE rev = 208"),
    ("pending", "DELETE FROM ot_pending WHERE rev = 207"),
    ("pending", "DELETE FROM ot_pending WHERE rev = 208"),
    ("record", "UPDATE ot_docs SET committed_rev = 205"),
    ("record", "UPDATE ot_docs SET doc_id = x'64'"),
    ("record", "UPDATE ot_docs SET version = 1.5"),
    ("record", "DELETE FROM ot_docs"),
]


@pytest.mark.parametrize(("part", "damage"), DAMAGE, ids=[damage for _, damage in DAMAGE])
async def test_damage_is_told_with_its_document_and_part(
    tmp_path: Path, part: str, damage: str
) -> None:
    database = SqliteDatabase(tmp_path / "client.db")
    store = OTSqliteStore(database)
    await commit(store, *range(1, 207))
    await save(store, pending("a"))
    await save(store, pending("b"))
    await database.write(lambda db: db.execute(damage))
    with pytest.raises(CorruptDataError, match="document 'doc'") as told:
        await store.get_doc(DOC)
    assert (told.value.doc_id, told.value.part) == (DOC, part)
    await database.close()


async def test_a_record_that_is_gone_is_missed(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "client.db")
    store = OTSqliteStore(database)
    await store.track_docs([DOC, "empty"])
    await commit(store, 1)
    await save(store, pending("bad"))
    await quarantine(store, pending("bad"))
    await database.write(lambda db: db.execute("DELETE FROM ot_docs WHERE doc_id = x'646f63'"))
    assert [doc.doc_id for doc in await store.list_docs()] == ["empty", DOC]
    await database.write(lambda db: db.execute("DELETE FROM ot_docs"))
    with pytest.raises(CorruptDataError, match="2 records of 'ot'"):
        await store.list_docs()
    await database.write(lambda db: db.execute("DELETE FROM ot_quarantine"))
    with pytest.raises(CorruptDataError, match="1 quarantined"):
        await store.list_quarantined_changes()
    await database.close()

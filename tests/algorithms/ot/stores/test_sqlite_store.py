"""The OT SQLite store keeps the contract, also for two processes, and over a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from patches.algorithms.ot.stores.sqlite import OTSqliteStore
from patches.model.change import Change, Snapshot
from patches.stores.sqlite.database import SqliteDatabase
from patches.testing.contracts.ot_client import (
    DOC,
    OTClientStoreContract,
    commit,
    ids,
    pending,
    state_at,
)


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
    saved = await store.save_pending_changes(DOC, [pending("bad"), pending("good")])
    await store.quarantine_pending_change(DOC, saved[0], "why", [saved[1]])
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
    await store.save_pending_changes(DOC, [pending("a")])
    same_rev: list[Change] = [pending("b", rev=5), pending("c", rev=5)]
    with pytest.raises(Exception, match="UNIQUE"):
        await store.apply_server_changes(DOC, [pending("s2", rev=2)], same_rev)
    assert await store.get_committed_rev(DOC) == 1
    assert ids(await store.get_pending_changes(DOC)) == [("a", 2)]
    await database.close()

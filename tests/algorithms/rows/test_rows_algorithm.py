"""An algorithm with rows of its own in the client's file needs no edit elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from patches import Patches, PatchesSync
from patches.algorithms.base import Algorithm
from patches.model.change import Snapshot
from patches.stores.sqlite.backend import SqliteBackend
from patches.testing.contracts.algorithm import AlgorithmContract
from patches.testing.fake_connection import FakeConnection
from tests.algorithms.rows.rows_algorithm import RowsAlgorithm


class TestRowsAlgorithm(AlgorithmContract):
    @pytest.fixture
    async def algorithm(self, tmp_path: Path) -> AsyncIterator[Algorithm]:
        backend = SqliteBackend(tmp_path / "client.db")
        algorithm = RowsAlgorithm()
        algorithm.open_store(backend)
        yield algorithm
        await backend.close()


async def test_its_documents_survive_a_restart_beside_those_of_ot_and_lww(tmp_path: Path) -> None:
    file = tmp_path / "client.db"
    async with Patches(file, algorithms=[RowsAlgorithm()]) as patches:
        for name in ("rows", "ot", "lww"):
            doc = await patches.open_doc(f"{name}/d", algorithm=name)
            doc.apply([{"op": "replace", "path": "/a", "value": name}])
            await doc.flush()
    connection = FakeConnection(
        getDoc=Snapshot(state={}, rev=0), commitChanges=lambda call: call.commit(1)
    )
    async with Patches(file, algorithms=[RowsAlgorithm()]) as patches:
        assert patches.tracked_docs == {"rows/d", "ot/d", "lww/d"}
        for name in ("rows", "ot", "lww"):
            doc = await patches.open_doc(f"{name}/d")
            assert doc.state == {"a": name}
        async with PatchesSync(patches, connection) as sync:
            await sync.settled(5, docs=["rows/d"])
            assert sync.synced["rows/d"].committed_rev == 1
            assert not sync.synced["rows/d"].has_pending
            connection.replies["unsubscribe"] = []

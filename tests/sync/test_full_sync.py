"""A full sync that fails as a whole is tried again while the connection lasts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from patches import Patches, PatchesSync
from patches.errors import StorageError
from patches.model.change import TrackedDoc
from patches.sync.state import SyncedDoc
from patches.testing.fake_connection import FakeConnection
from patches.testing.virtual_time import virtual_time
from tests.support.small_algorithm import SmallAlgorithm
from tests.support.sync_scene import LogServer, sync_scene


class FailingOnce(SmallAlgorithm):
    """Its list of documents cannot be read, as long as `fails` is more than 0."""

    fails = 0

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        if self.fails:
            self.fails -= 1
            raise StorageError("cannot read")
        return await super().list_docs(include_deleted)


@virtual_time
async def test_a_store_that_fails_at_the_connection_is_asked_again() -> None:
    algorithm = FailingOnce()
    connection = FakeConnection(**LogServer().replies())
    async with sync_scene(connection, algorithm=algorithm) as scene:
        await scene.open("d")
        algorithm.fails = 2
        connection.drop()
        connection.restore()
        await asyncio.sleep(0.5)
        failed = scene.states[-1].syncing
        assert isinstance(failed, StorageError)
        await asyncio.sleep(10)
        assert scene.sync.state.syncing is None
        assert scene.entry("d").status == "synced"
        assert len([error for error, _ in scene.errors if isinstance(error, StorageError)]) == 2


@pytest.mark.parametrize("after_s", [0.1, 60.0])
@virtual_time
async def test_nothing_is_tried_again_over_a_connection_that_is_gone(after_s: float) -> None:
    algorithm = FailingOnce()
    connection = FakeConnection(**LogServer().replies())
    async with sync_scene(connection, algorithm=algorithm) as scene:
        await scene.open("d")
        algorithm.fails = 1
        connection.drop()
        connection.restore()
        await asyncio.sleep(0.1)
        connection.drop()
        calls = len(connection.calls)
        await asyncio.sleep(after_s)
        assert len(connection.calls) == calls


@virtual_time
async def test_what_a_file_holds_is_shown_when_open_doc_or_track_docs_returns(
    tmp_path: Path,
) -> None:
    async with Patches(tmp_path / "client.db") as patches:
        await patches.track_docs(["tracked"])
        doc = await patches.open_doc("opened")
        doc.set({"a": 1})
        await doc.flush()
    for doc_id, has_pending in (("opened", True), ("tracked", False)):
        async with Patches(tmp_path / "client.db") as patches:
            sync = PatchesSync(patches, FakeConnection())
            if has_pending:
                await patches.open_doc(doc_id)
            else:
                await patches.track_docs([doc_id])
            assert sync.synced[doc_id] == SyncedDoc(0, has_pending, "unsynced")

"""`settled`: for some documents, without a connection, and after changes that were refused."""

from __future__ import annotations

import asyncio

import pytest

from patches import Patches, PatchesSync
from patches.errors import (
    ChangeRefusedError,
    DocNotTrackedError,
    ForbiddenError,
    InvalidRequestError,
    NetworkError,
)
from patches.model.change import Snapshot
from patches.net.connection import RpcConnection
from patches.sync import SyncedDoc
from patches.testing.fake_connection import Call, FakeConnection
from patches.testing.streams import MemoryNetwork, memory_transport
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import LogServer, sync_scene


@virtual_time
async def test_a_refused_document_does_not_hold_up_the_others() -> None:
    def get_doc(call: Call) -> object:
        refused = ForbiddenError("READ_FORBIDDEN:bad")
        return refused if call.doc_id == "bad" else Snapshot(state={}, rev=1)

    async with Patches() as patches, PatchesSync(patches, FakeConnection(getDoc=get_doc)) as sync:
        await patches.track_docs(["bad", "good"])
        await sync.settled(1, docs=["good"])
        with pytest.raises(ForbiddenError):
            await sync.settled(1)
        with pytest.raises(ForbiddenError):
            await sync.settled(1, docs=["bad"])


@virtual_time
async def test_a_document_that_never_gets_an_answer_does_not_hold_up_the_others() -> None:
    connection = FakeConnection()
    async with Patches() as patches, PatchesSync(patches, connection) as sync:
        await patches.track_docs(["slow"])
        await connection.next_call("getDoc")
        await patches.track_docs(["good"])
        (await connection.next_call("getDoc")).answer(Snapshot(state={}, rev=1))
        await sync.settled(1, docs=["good"])
        with pytest.raises(TimeoutError):
            await sync.settled(1)


@virtual_time
async def test_the_documents_are_tracked_ones() -> None:
    async with sync_scene() as scene:
        with pytest.raises(DocNotTrackedError):
            await scene.sync.settled(1, docs=["unknown"])
        with pytest.raises(InvalidRequestError, match="list of document ids"):
            await scene.sync.settled(1, docs="d")


@virtual_time
async def test_a_refusal_is_raised_once_by_each_that_waits() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, bad=1)
        push = await scene.connection.next_call("commitChanges")
        waiting = [asyncio.ensure_future(scene.sync.settled(1)) for _ in range(2)]
        other = asyncio.ensure_future(scene.sync.settled(1, docs=["d"]))
        await idle()
        push.fail(ChangeRefusedError(push.changes[0].id, "no"))
        for task in (*waiting, other):
            with pytest.raises(ChangeRefusedError, match="no"):
                await task
        await scene.sync.settled(1)


@virtual_time
async def test_a_refusal_of_another_document_is_kept_for_who_waits_for_that() -> None:
    server = LogServer()
    connection = FakeConnection(**server.replies())
    connection.replies["commitChanges"] = lambda call: ChangeRefusedError(call.changes[0].id, "no")
    async with sync_scene(connection) as scene:
        bad, _ = await scene.open("bad"), await scene.open("good")
        await scene.edit(bad, a=1)
        await scene.sync.settled(1, docs=["good"])
        with pytest.raises(ChangeRefusedError):
            await scene.sync.settled(1)


@virtual_time
async def test_without_a_connection_it_waits_or_raises_as_told() -> None:
    connection = FakeConnection()
    connection.up = False
    connection.cause = NetworkError("certificate expired")
    async with sync_scene(connection, connect=False) as scene:
        await scene.sync.connect(background=True)
        with pytest.raises(TimeoutError):
            await scene.sync.settled(1)
        with pytest.raises(NetworkError, match="certificate expired"):
            await scene.sync.settled(offline="raise")
        assert str(scene.sync.state.syncing) == "certificate expired"
        assert [str(error) for error, _ in scene.errors] == ["certificate expired"]
        for _ in range(3):
            connection.fail()
        assert len(scene.errors) == 1
        connection.restore()
        await scene.sync.settled(1, offline="raise")
        assert scene.sync.state.syncing is None
        scene.sync.set_online(False)
        with pytest.raises(NetworkError, match="offline"):
            await scene.sync.settled(offline="raise")


@virtual_time
async def test_offline_and_online_at_once_never_shows_the_connection_that_ends() -> None:
    network = MemoryNetwork()
    async with Patches() as patches:
        sync = PatchesSync(patches, RpcConnection(memory_transport(network)))
        await sync.connect()
        sync.set_online(False)
        shown = [sync.state.connected]
        sync.set_online(True)
        shown.append(sync.state.connected)
        await asyncio.sleep(30)
        shown.append(sync.state.connected)
        assert shown == [False, False, True]
        assert network.attempts == 2
        await sync.disconnect()


@virtual_time
async def test_documents_are_shown_before_a_connection_and_when_they_are_tracked() -> None:
    async with Patches() as patches:
        await patches.track_docs(["closed"])
        doc = await patches.open_doc("open")
        doc.apply([{"op": "replace", "path": "/a", "value": 1}])
        await doc.flush()
        sync = PatchesSync(patches, FakeConnection())
        assert sync.synced["open"] == SyncedDoc(0, True, "unsynced")
        await idle()
        assert sync.synced["closed"] == SyncedDoc(0, False, "unsynced")
        await patches.track_docs(["new"])
        assert sync.synced["new"] == SyncedDoc(0, False, "unsynced")


@virtual_time
async def test_an_ejected_change_leaves_a_synced_document_at_once() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, bad=1)
        push = await scene.connection.next_call("commitChanges")
        (bad,) = push.changes
        push.fail(ForbiddenError("WRITE_FORBIDDEN:d"))
        await idle()
        assert scene.entry().status == "error"
        await scene.patches.eject_pending_change("d", bad.id)
        await idle()
        assert scene.entry() == SyncedDoc(1, False, "synced")
        await scene.sync.settled(1)
        await scene.patches.discard_quarantined_change("d", bad.id)
        await scene.sync.settled(1)
        assert scene.entry() == SyncedDoc(1, False, "synced")
        assert asyncio.get_running_loop().time() == 0

"""What a connection is subscribed to, and what it brings (`docs/internals/sync.md` 11 and 13)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from patches.client.patches import Patches
from patches.errors import StatusError
from patches.model.change import Change, Snapshot
from patches.net.connection import CommitAnswer
from patches.sync import PatchesSync, SyncedDoc, SyncState
from patches.testing.fake_connection import Call, FakeConnection, committed
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import LogServer, sync_scene


@virtual_time
async def test_connected_starts_the_full_sync_with_one_subscribe_for_all() -> None:
    async with sync_scene(connect=False) as scene:
        for doc_id in ("a", "b", "c"):
            await scene.open(doc_id)
        await scene.sync.connect()
        subscribe = scene.connection.calls[0] if scene.connection.calls else None
        await idle()
        subscribe = scene.connection.calls[0]
        assert (subscribe.method, sorted(subscribe.args[0])) == ("subscribe", ["a", "b", "c"])
        assert scene.connection.methods[1:] == ["getDoc"] * 3
        assert scene.sync.state.syncing == "initial"
        for call in scene.connection.calls[1:]:
            call.answer(Snapshot(state={}, rev=1))
        await idle()
        assert scene.sync.state.syncing is None


@virtual_time
async def test_no_document_is_fetched_before_the_subscription_is_answered() -> None:
    connection = FakeConnection()
    del connection.replies["subscribe"]
    async with sync_scene(connection, connect=False) as scene:
        await scene.open()
        await scene.sync.connect()
        subscribe = await connection.next_call("subscribe")
        await idle()
        assert connection.methods == ["subscribe"]
        subscribe.answer(["d"])
        (await connection.next_call("getDoc")).answer(Snapshot(state={}, rev=0))


@virtual_time
async def test_a_failed_subscribe_still_syncs_newly_tracked_documents() -> None:
    connection = FakeConnection(subscribe=StatusError(500, "x"))
    async with sync_scene(connection) as scene:
        doc = await scene.opened_at(3, state={"a": 1})
        assert doc.state == {"a": 1}
        assert scene.entry().status == "synced"
        assert [str(error) for error, _ in scene.errors] == ["x"]


@virtual_time
async def test_a_subscribe_that_is_lost_with_its_connection_starts_no_sync() -> None:
    connection = FakeConnection()
    del connection.replies["subscribe"]
    async with sync_scene(connection) as scene:
        await scene.open()
        await connection.next_call("subscribe")
        connection.drop()
        await asyncio.sleep(100)
        assert connection.methods == ["subscribe"]
        assert scene.entry().status == "unsynced"
        assert scene.errors == []


@virtual_time
async def test_a_subscribe_that_failed_is_tried_again_with_the_next_document() -> None:
    connection = FakeConnection(subscribe=StatusError(500, "x"))
    async with sync_scene(connection) as scene:
        await scene.opened_at(1, "a")
        connection.replies["subscribe"] = lambda call: list(call.args[0])
        await scene.opened_at(1, "b")
        assert connection.calls[-2].args == (["a", "b"],)


@virtual_time
async def test_the_filter_subscribes_root_ids_once_and_unsubscribes_with_the_last_document() -> (
    None
):
    def roots(doc_ids: Iterable[str]) -> set[str]:
        return {doc_id.split("/")[0] for doc_id in doc_ids}

    async with sync_scene(
        FakeConnection(unsubscribe=lambda call: call.args[0]), subscribe_filter=roots
    ) as scene:
        for doc_id in ("r/1", "r/2", "s/1"):
            await scene.opened_at(1, doc_id)
        asked = [call.args[0] for call in scene.connection.calls if call.method == "subscribe"]
        assert asked == [["r"], ["s"]]
        await scene.patches.untrack_docs(["r/1"])
        await idle()
        assert scene.connection.count("unsubscribe") == 0
        await scene.patches.untrack_docs(["r/2"])
        await idle()
        assert scene.connection.calls[-1].args == (["r"],)
        assert set(scene.sync.synced) == {"s/1"}


@virtual_time
async def test_a_filter_that_gives_nothing_means_all() -> None:
    async with sync_scene(subscribe_filter=lambda _ids: None) as scene:
        await scene.opened_at(1, "a")
        assert scene.connection.calls[0].args == (["a"],)


@virtual_time
async def test_a_filter_that_raises_is_reported_and_the_documents_sync() -> None:
    def odd(_doc_ids: list[str]) -> list[str]:
        raise ValueError("odd")

    async with sync_scene(FakeConnection(**LogServer().replies()), subscribe_filter=odd) as scene:
        doc = await scene.open()
        await scene.edit(doc, a=1)
        await scene.sync.settled(1)
        assert scene.entry() == SyncedDoc(1, False, "synced")
        await scene.patches.untrack_docs(["d"])
        await idle()
        assert {str(error) for error, _ in scene.errors} == {"odd"}
        assert scene.sync.state == SyncState(connected=True)


@virtual_time
async def test_broadcasts_of_documents_that_are_not_tracked_are_dropped() -> None:
    async with sync_scene() as scene:
        scene.broadcast(committed(1), doc_id="stranger")
        scene.connection.on_doc_deleted.emit("stranger")
        scene.connection.on_notification.emit("odd", {"docId": "stranger"})
        scene.connection.on_notification.emit("odd", None)
        await idle()
        assert scene.algorithm.records == {}
        assert scene.deleted == []


@virtual_time
async def test_documents_and_tombstones_of_every_algorithm_share_the_connection() -> None:
    connection = FakeConnection(deleteDoc=None, unsubscribe=[])
    async with Patches() as patches:
        for algorithm in ("ot", "lww"):
            await patches.track_docs([f"{algorithm}/gone"], algorithm)
            await patches.delete_doc(f"{algorithm}/gone")
            doc = await patches.open_doc(f"{algorithm}/kept", algorithm=algorithm)
            doc.apply([{"op": "replace", "path": "/a", "value": 1}])
            await doc.flush()
        async with PatchesSync(patches, connection) as sync:
            pushes = [await connection.next_call("commitChanges") for _ in range(2)]
            pushes.sort(key=lambda push: push.doc_id, reverse=True)
            assert sorted(connection.calls[0].args[0]) == ["lww/kept", "ot/kept"]
            assert connection.count("subscribe") == 1
            assert [push.doc_id for push in pushes] == ["ot/kept", "lww/kept"]
            assert ["ts" in push.changes[0].ops[0] for push in pushes] == [False, True]
            for push in pushes:
                push.answer(CommitAnswer([_as_committed(push)]))
            await sync.settled(1)
            deleted = [call.doc_id for call in connection.calls if call.method == "deleteDoc"]
            assert sorted(deleted) == ["lww/gone", "ot/gone"]
            for owner in patches.algorithms.values():
                assert not [record for record in await owner.list_docs(True) if record.deleted]


def _as_committed(push: Call) -> Change:
    (change,) = push.changes
    ops = [{**op, "rev": 1} if "ts" in op else op for op in change.ops]
    return change.replace(ops=ops, base_rev=0, rev=1, committed_at=1)

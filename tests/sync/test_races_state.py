"""What is shown, and what the connection does (`docs/internals/sync.md` 13, second group)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches.client.patches import Patches
from patches.errors import ErrorContext, NetworkError, PatchesError, StatusError
from patches.model.change import Snapshot
from patches.net.connection import RpcConnection
from patches.sync import PatchesSync, SyncedDoc, SyncState
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.streams import MemoryNetwork, memory_transport
from patches.testing.virtual_time import idle, virtual_time
from tests.support.small_algorithm import Record, SmallAlgorithm
from tests.support.sync_scene import LogServer, sync_scene


@virtual_time
async def test_at_first_nothing_is_connected_and_nothing_is_wrong() -> None:
    async with sync_scene(connect=False) as scene:
        assert scene.sync.state == SyncState(online=True, connected=False, syncing=None)
        assert dict(scene.sync.synced) == {}
        doc = await scene.open()
        assert (doc.sync_status, doc.sync_error, doc.is_loaded) == ("unsynced", None, False)


@virtual_time
async def test_states_come_in_order_and_none_twice() -> None:
    async with sync_scene() as scene:
        scene.connection.drop()
        scene.connection.restore()
        await idle()
        assert scene.states == [
            SyncState(connected=True),
            SyncState(connected=True, syncing="initial"),
            SyncState(connected=True),
            SyncState(connected=False),
            SyncState(connected=True),
            SyncState(connected=True, syncing="updating"),
            SyncState(connected=True),
        ]


@virtual_time
async def test_a_full_sync_that_a_drop_cut_off_neither_ends_nor_counts() -> None:
    async with sync_scene(connect=False) as scene:
        await scene.open()
        await scene.sync.connect()
        await scene.connection.next_call("getDoc")
        scene.connection.drop()
        scene.states.clear()
        scene.connection.restore()
        await idle()
        assert scene.states == [
            SyncState(connected=True),
            SyncState(connected=True, syncing="initial"),
        ]
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=1))
        await idle()
        assert scene.states[2:] == [SyncState(connected=True)]


@virtual_time
async def test_a_connection_that_was_connected_before_is_used_at_once() -> None:
    connection = FakeConnection(**LogServer().replies())
    await connection.connect()
    async with sync_scene(connection, connect=False) as scene:
        await scene.open()
        await scene.sync.connect()
        await scene.sync.settled(1)
        assert scene.sync.state == SyncState(connected=True)
        assert scene.entry().status == "synced"


@virtual_time
async def test_a_failed_connect_shows_and_raises_the_error_until_the_next_attempt() -> None:
    connection = FakeConnection()
    connection.up = False
    async with sync_scene(connection, connect=False) as scene:
        with pytest.raises(NetworkError):
            await scene.sync.connect()
        assert isinstance(scene.sync.state.syncing, NetworkError)
        assert [type(error) for error, _ in scene.errors] == [NetworkError]
        connection._set_state("connecting")
        assert isinstance(scene.sync.state.syncing, NetworkError)  # an attempt says nothing yet
        connection._set_state("error")
        assert isinstance(scene.sync.state.syncing, NetworkError)  # it goes on saying why
        assert len(scene.errors) == 1
        connection.restore()
        await idle()
        assert scene.sync.state == SyncState(connected=True)


@virtual_time
async def test_a_connect_that_was_called_off_is_no_failure() -> None:
    async with Patches() as patches:
        sync = PatchesSync(patches, RpcConnection(memory_transport(MemoryNetwork())))
        errors: list[Exception] = []
        sync.on_error(lambda error, _context: errors.append(error))
        sync.set_online(False)
        connecting = asyncio.ensure_future(sync.connect())
        await idle()
        await sync.disconnect()
        with pytest.raises(NetworkError):
            await connecting
        assert sync.state == SyncState(online=False)
        assert errors == []


@virtual_time
async def test_connecting_leaves_what_is_shown() -> None:
    connection = FakeConnection()
    async with sync_scene(connection) as scene:
        await scene.opened_at(1)
        connection.drop()
        scene.states.clear()
        scene.maps.clear()
        connection._set_state("connecting")
        await idle()
        assert (scene.states, scene.maps) == ([], [])


@virtual_time
async def test_disconnect_ends_what_is_shown_as_under_way() -> None:
    async with sync_scene() as scene:
        old = await scene.opened_at(3, "old")
        await scene.open("new")
        await scene.edit(old, a=1)
        assert {entry.status for entry in scene.sync.synced.values()} == {"syncing"}
        await scene.sync.disconnect()
        assert scene.sync.state == SyncState()
        assert scene.entry("new") == SyncedDoc(0, False, "unsynced")
        assert scene.entry("old") == SyncedDoc(3, True, "synced")
        assert old.sync_status == "synced"


@virtual_time
async def test_connecting_in_the_background_returns_at_once_and_works_offline() -> None:
    connection = FakeConnection()
    connection.up = False
    async with sync_scene(connection, connect=False) as scene:
        await scene.sync.connect(background=True)
        doc = await scene.open()
        await scene.edit(doc, a=1)
        assert scene.entry() == SyncedDoc(0, True, "unsynced")
        assert [str(error) for error, _ in scene.errors] == ["nobody there"]


@virtual_time
async def test_a_store_that_fails_makes_the_full_sync_fail_and_the_next_one_clears_it() -> None:
    async with sync_scene(connect=False) as scene:
        error = PatchesError("no disk")
        scene.algorithm.fail("list_docs", error, error)  # at connect, and in the full sync
        await scene.sync.connect()
        await idle()
        assert scene.sync.state.syncing is error
        assert [(told, doc_id) for told, doc_id in scene.errors if doc_id is None][-1:] == [
            (error, None)
        ]
        with pytest.raises(PatchesError, match="no disk"):
            await scene.sync.settled(1)
        scene.connection.drop()
        assert scene.sync.state.syncing is None


@virtual_time
async def test_a_drop_resets_the_status_and_entries_that_sync() -> None:
    async with sync_scene() as scene:
        await scene.open("new")
        await scene.connection.next_call("getDoc")
        assert scene.entry("new").status == "syncing"
        scene.connection.drop()
        assert scene.sync.state == SyncState()
        assert scene.entry("new").status == "unsynced"
        await idle()
        assert scene.errors == []


@virtual_time
async def test_nothing_is_sent_while_offline_even_if_the_connection_reads_connected() -> None:
    connection = FakeConnection()
    connection.set_online = lambda online: None  # type: ignore[method-assign]  # a deaf transport
    async with sync_scene(connection) as scene:
        doc = await scene.opened_at(1)
        scene.sync.set_online(False)
        assert scene.sync.state == SyncState(online=False)
        before = len(connection.calls)
        await scene.edit(doc, a=1)
        scene.broadcast(committed(9))
        await idle()
        assert len(connection.calls) == before
        connection.drop()
        connection.restore()
        await idle()
        assert len(connection.calls) == before
        assert scene.sync.state == SyncState(online=False)
        scene.sync.set_online(True)
        await idle()
        assert connection.calls[-1].method == "commitChanges"


@virtual_time
async def test_documents_untracked_or_cut_off_together_are_told_of_once() -> None:
    async with sync_scene() as scene:
        for number in range(20):
            await scene.open(f"d{number}")
        await idle()
        assert {entry.status for entry in scene.sync.synced.values()} == {"syncing"}
        scene.maps.clear()
        scene.connection.drop()
        assert len(scene.maps) == 1
        await scene.patches.untrack_docs([f"d{number}" for number in range(20)])
        assert len(scene.maps) == 2


@virtual_time
async def test_every_change_makes_a_new_map_and_none_without_one() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        before = scene.sync.synced
        assert scene.sync.synced is before
        scene.broadcast(committed(1))  # known already
        await idle()
        assert scene.sync.synced is before
        scene.broadcast(committed(2))
        await idle()
        assert scene.sync.synced is not before
        assert before["d"].committed_rev == 1
        with pytest.raises(TypeError):
            before["x"] = before["d"]  # type: ignore[index]  # that it cannot be is the point
        assert len({id(entries) for entries in scene.maps}) == len(scene.maps)
        assert all(one != two for one, two in zip(scene.maps, scene.maps[1:], strict=False))


@pytest.mark.parametrize("outcome", [Snapshot(state={}, rev=4), StatusError(500, "x")], ids=str)
def test_a_sync_that_ends_after_untrack_brings_no_entry_back(outcome: Any) -> None:
    @virtual_time
    async def run() -> None:
        async with sync_scene(FakeConnection(unsubscribe=[])) as scene:
            await scene.open()
            load = await scene.connection.next_call("getDoc")
            await scene.patches.untrack_docs(["d"])
            if not load.result.done():
                load.fail(outcome) if isinstance(outcome, Exception) else load.answer(outcome)
            await idle()
            assert "d" not in scene.sync.synced
            assert "d" not in scene.algorithm.records
            assert scene.errors == []

    run()


@virtual_time
async def test_is_loaded_is_sticky_over_reconnects_and_reset_by_untracking() -> None:
    async with sync_scene(FakeConnection(unsubscribe=[])) as scene:
        doc = await scene.open()
        loaded = [doc.is_loaded]
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=0))
        await idle()
        loaded.append(doc.is_loaded)  # synced, although there is nothing
        scene.connection.drop()
        loaded.append(doc.is_loaded)
        await scene.sync.disconnect()
        loaded.append(doc.is_loaded)
        assert loaded == [False, True, True, True]
        await scene.patches.untrack_docs(["d"])
        assert not (await scene.open()).is_loaded


@virtual_time
async def test_an_error_makes_a_document_loaded() -> None:
    async with sync_scene() as scene:
        doc = await scene.open()
        (await scene.connection.next_call("getDoc")).fail(StatusError(403, "no"))
        await idle()
        assert doc.sync_status == "error"
        assert doc.sync_error is scene.entry().error is not None
        assert doc.is_loaded


@virtual_time
async def test_has_pending_follows_edits_and_answers_online_and_offline() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        assert scene.entry().has_pending
        push = await scene.connection.next_call("commitChanges")
        await scene.edit(doc, b=1)  # while the first is in flight
        push.commit(2)
        await idle()
        assert scene.entry().has_pending
        (await scene.connection.next_call("commitChanges")).commit(3)
        await idle()
        assert scene.entry() == SyncedDoc(3, False, "synced")
        scene.connection.drop()
        await scene.edit(doc, c=1)
        assert scene.entry() == SyncedDoc(3, True, "synced")


@virtual_time
async def test_statuses_of_a_new_document() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(2)
        assert scene.statuses() == ["unsynced", "syncing", "synced"]


@virtual_time
async def test_a_known_document_is_shown_synced_while_offline() -> None:
    algorithm = SmallAlgorithm()
    algorithm.records["d"] = Record(state={}, rev=7)
    async with sync_scene(connect=False, algorithm=algorithm) as scene:
        await scene.patches.track_docs(["other"], "small")
        scene.connection.up = False
        await scene.sync.connect(background=True)
        await idle()
        assert scene.entry("d") == SyncedDoc(7, False, "synced")
        assert scene.entry("other") == SyncedDoc(0, False, "unsynced")


@virtual_time
async def test_entries_appear_when_a_broadcast_comes_before_any_sync() -> None:
    async with sync_scene() as scene:
        await scene.patches.track_docs(["d"], "small")
        scene.broadcast(committed(1))
        await idle()
        assert scene.entry().committed_rev == 1


@virtual_time
async def test_the_open_document_shows_the_same_status() -> None:
    async with sync_scene() as scene:
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        shown = [doc.sync_status]
        load.fail(StatusError(500, "x"))
        await idle()
        shown.append(doc.sync_status)
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=1))
        await idle()
        shown.append(doc.sync_status)
        assert shown == ["syncing", "error", "synced"]
        assert doc.sync_error is None


@virtual_time
async def test_errors_of_the_transport_and_of_algorithms_are_passed_on() -> None:
    async with sync_scene() as scene:
        lost, odd = ValueError("transport"), ValueError("algorithm")
        scene.connection.on_error.emit(lost)
        scene.algorithm.on_error.emit(odd, ErrorContext(doc_id="d"))
        assert scene.errors == [(lost, None), (odd, "d")]


@virtual_time
async def test_the_full_sync_ends_with_the_deletions_it_tells() -> None:
    connection = FakeConnection()
    async with sync_scene(connection) as scene:
        connection.drop()
        await scene.open()
        await scene.patches.delete_doc("d")
        connection.restore()
        delete = await connection.next_call("deleteDoc")
        await idle()
        assert scene.sync.state.syncing == "updating"
        delete.answer()
        await idle()
        assert scene.sync.state.syncing is None

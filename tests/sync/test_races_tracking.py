"""Races of the first fetch and of tracking (`docs/internals/sync.md` 13, first group)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches.errors import ChangeRefusedError
from patches.model.change import Snapshot, TrackedDoc
from patches.net.connection import CommitAnswer
from patches.sync import SyncedDoc
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import sync_scene


@virtual_time
async def test_a_contiguous_broadcast_during_the_first_get_doc_is_applied_after_the_save() -> None:
    async with sync_scene() as scene:
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        scene.broadcast(committed(4))
        await idle()
        assert doc.state == {}
        load.answer(Snapshot(state={"a": 1}, rev=3))
        await idle()
        assert doc.state == {"a": 1, "r4": 4}
        assert scene.entry().committed_rev == 4
        assert scene.connection.count("getChangesSince") == 0


@virtual_time
async def test_a_parked_broadcast_with_a_gap_pulls_the_authoritative_tail() -> None:
    async with sync_scene() as scene:
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        scene.broadcast(committed(6))
        load.answer(Snapshot(state={}, rev=3))
        pull = await scene.connection.next_call("getChangesSince")
        assert pull.args[1] == 3
        pull.answer([committed(4), committed(5), committed(6)])
        await idle()
        assert doc.state == {"r4": 4, "r5": 5, "r6": 6}


@virtual_time
async def test_a_root_replace_minted_during_the_first_fetch_keeps_its_base() -> None:
    async with sync_scene() as scene:
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        doc.apply([{"op": "replace", "path": "", "value": {"mine": True}}])
        load.answer(Snapshot(state={"theirs": True}, rev=3))
        push = await scene.connection.next_call("commitChanges")
        assert [change.base_rev for change in push.changes] == [0]
        push.fail(ChangeRefusedError(push.changes[0].id, "Document d already exists"))
        await idle()
        # The server's guard has worked: nothing was overwritten, and the edit is kept.
        assert scene.quarantined == [push.changes[0].id]
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"theirs": True}, rev=3))
        await idle()
        assert doc.state == {"theirs": True}
        assert scene.entry() == SyncedDoc(3, False, "synced")


@virtual_time
async def test_a_change_minted_during_the_fetch_goes_out_at_base_0_and_heals() -> None:
    async with sync_scene() as scene:
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        doc.apply([{"op": "replace", "path": "/mine", "value": 1}])
        load.answer(Snapshot(state={"theirs": 1}, rev=3))
        push = await scene.connection.next_call("commitChanges")
        (sent,) = push.changes
        assert sent.base_rev == 0
        push.answer(CommitAnswer([], doc_reload_required=True))
        reload = await scene.connection.next_call("getDoc")
        own = sent.replace(rev=4, base_rev=3)
        reload.answer(Snapshot(state={"theirs": 1}, rev=3, changes=[own]))
        tail = await scene.connection.next_call("getChangesSince")
        tail.answer([committed(1), committed(2), committed(3), own])
        await idle()
        assert doc.state == {"theirs": 1, "mine": 1}
        assert not scene.entry().has_pending
        assert scene.entry().status == "synced"
        assert scene.connection.count("commitChanges") == 1


@virtual_time
async def test_a_broadcast_parked_while_pending_work_goes_out_is_drained() -> None:
    async with sync_scene() as scene:
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        doc.apply([{"op": "replace", "path": "/mine", "value": 1}])
        load.answer(Snapshot(state={}, rev=0))
        push = await scene.connection.next_call("commitChanges")
        scene.broadcast(committed(2))
        await idle()
        push.commit(1)
        await idle()
        assert doc.state == {"mine": 1, "r2": 2}


@virtual_time
async def test_a_document_tracked_during_the_full_sync_s_reads_stays_and_flushes() -> None:
    connection = FakeConnection()
    async with sync_scene(connection, connect=False) as scene:
        await scene.sync.connect()  # the full sync has not had its first turn
        doc = await scene.open()
        doc.apply([{"op": "replace", "path": "/a", "value": 1}])
        load = await connection.next_call("getDoc")
        load.answer(Snapshot(state={}, rev=0))
        (await connection.next_call("commitChanges")).commit(1)
        await scene.sync.settled(1)
        assert scene.entry().committed_rev == 1


@virtual_time
async def test_untracked_and_tracked_again_in_that_window_keeps_syncing() -> None:
    connection = FakeConnection()
    async with sync_scene(connection, connect=False) as scene:
        await scene.open()
        await scene.sync.connect()
        await scene.patches.untrack_docs(["d"])
        doc = await scene.open()
        (await connection.next_call("getDoc")).answer(Snapshot(state={"a": 1}, rev=1))
        await idle()
        scene.broadcast(committed(2))
        await idle()
        assert doc.state == {"a": 1, "r2": 2}


@virtual_time
async def test_untracked_in_that_window_is_not_brought_back() -> None:
    connection = FakeConnection()
    async with sync_scene(connection, connect=False) as scene:
        await scene.open()
        connecting = asyncio.ensure_future(scene.sync.connect())
        await scene.patches.untrack_docs(["d"])
        await connecting
        await idle()
        assert "d" not in scene.sync.synced
        assert connection.count("getDoc") == 0
        await scene.sync.settled(1)


@virtual_time
async def test_a_document_opened_while_a_change_is_applied_shows_it() -> None:
    async with sync_scene() as scene:
        await scene.patches.track_docs(["d"], "small")
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=1))
        await idle()
        load_doc = scene.algorithm.load_doc
        loaded = asyncio.Event()

        async def slow_load(doc_id: str) -> Snapshot | None:
            snapshot = await load_doc(doc_id)
            await loaded.wait()
            return snapshot

        scene.algorithm.load_doc = slow_load  # type: ignore[method-assign]  # arranged
        opening = asyncio.ensure_future(scene.open())
        await idle()
        scene.broadcast(committed(2))  # stored while the document is being read
        await idle()
        loaded.set()
        doc = await opening
        await idle()
        assert doc.state == {"r2": 2}
        assert doc.sync_status == "synced"


@pytest.mark.parametrize("method", ["apply_server_changes", "install_snapshot"])
def test_a_document_opened_while_something_is_stored_without_it_shows_it(method: str) -> None:
    @virtual_time
    async def run() -> None:
        async with sync_scene() as scene:
            await scene.patches.track_docs(["d"], "small")
            load = await scene.connection.next_call("getDoc")
            gate, step = asyncio.Event(), getattr(scene.algorithm, method)

            async def slow(*args: Any, **options: Any) -> Any:
                await gate.wait()
                return await step(*args, **options)

            if method == "apply_server_changes":
                load.answer(Snapshot(state={}, rev=1))
                await idle()
            setattr(scene.algorithm, method, slow)  # begun without the document
            if method == "apply_server_changes":
                scene.broadcast(committed(2))
            else:
                load.answer(Snapshot(state={"r2": 2}, rev=2))
            await idle()
            doc = await scene.open()
            await idle()
            assert doc.state == {}
            gate.set()
            await idle()
            assert doc.state == {"r2": 2}
            assert doc.committed_rev == 2

    run()


@virtual_time
async def test_a_document_that_is_done_before_the_full_sync_looks_does_not_hold_it_up() -> None:
    connection = FakeConnection(getDoc=Snapshot(state={}, rev=1))
    async with sync_scene(connection, connect=False) as scene:
        list_docs = scene.algorithm.list_docs
        gate = asyncio.Event()

        async def slow(include_deleted: bool = False) -> list[TrackedDoc]:
            await gate.wait()
            return await list_docs(include_deleted)

        await scene.sync.connect()  # the full sync has not had its first turn
        scene.algorithm.list_docs = slow  # type: ignore[method-assign]  # arranged
        await scene.open()
        await idle()
        assert scene.entry().status == "synced"
        gate.set()
        await scene.sync.settled(1)

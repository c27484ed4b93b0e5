"""What is shown and done when the stores are read for the first time, and when they cannot be."""

from __future__ import annotations

import asyncio

import pytest

from patches.errors import DeletionPendingError, StatusError
from patches.model.change import Snapshot, TrackedDoc
from patches.sync import SyncedDoc
from patches.testing.fake_connection import FakeConnection
from patches.testing.virtual_time import idle, virtual_time
from tests.support.small_algorithm import Record, SmallAlgorithm
from tests.support.sync_scene import LogServer, SyncScene, sync_scene


def known(*doc_ids: str) -> SmallAlgorithm:
    algorithm = SmallAlgorithm()
    for doc_id in doc_ids:
        algorithm.records[doc_id] = Record(state={}, rev=7)
    return algorithm


@virtual_time
async def test_what_the_store_holds_is_shown_in_one_change() -> None:
    doc_ids = [f"d{number}" for number in range(20)]
    async with sync_scene(connect=False, algorithm=known(*doc_ids)) as scene:
        scene.connection.up = False
        await scene.sync.connect(background=True)
        await idle()
        (entries,) = scene.maps
        assert set(entries) == set(doc_ids)
        assert set(entries.values()) == {SyncedDoc(7, False, "synced")}
        await scene.patches.track_docs(["new1", "new2"], "small")
        await idle()
        assert len(scene.maps) == 2


class Unreadable(SmallAlgorithm):
    """One document's revision cannot be read, as long as `fails` is more than 0."""

    fails = 0

    async def get_committed_rev(self, doc_id: str) -> int:
        if doc_id == "bad" and self.fails:
            self.fails -= 1
            raise OSError("disk")
        return await super().get_committed_rev(doc_id)


@virtual_time
async def test_a_document_whose_store_could_not_be_read_is_read_again_and_synced() -> None:
    algorithm = Unreadable()
    async with sync_scene(FakeConnection(**LogServer().replies()), algorithm=algorithm) as scene:
        algorithm.fails = 3
        bad = await scene.open("bad")
        await scene.open("good")
        await idle()
        assert scene.entry("good").status == "synced"
        assert scene.entry("bad").status == bad.sync_status == "error"
        assert str(scene.entry("bad").error) == "disk"
        assert [(str(error), doc_id) for error, doc_id in scene.errors] == [("disk", "bad")]
        await asyncio.sleep(4)
        assert scene.entry("bad") == SyncedDoc(0, False, "synced")
        await scene.sync.settled(1)


@virtual_time
async def test_work_that_could_not_be_read_leaves_once_it_can_be_after_a_restart() -> None:
    algorithm, server = Unreadable(), LogServer()
    async with sync_scene(connect=False, algorithm=algorithm) as scene:
        await scene.edit(await scene.open("bad"), a=1)
    algorithm.fails = 100
    async with sync_scene(FakeConnection(**server.replies()), algorithm=algorithm) as scene:
        await asyncio.sleep(200)  # the ladder is used up; whether there is work is not known
        algorithm.fails = 0
        await asyncio.sleep(301)
        assert [change.rev for change in server.logs["bad"]] == [1]


# ---- tracked and untracked while the lists are read ----------------------------------------------


class Window:
    """The full sync's reading of the lists, held after the store has answered."""

    def __init__(self, scene: SyncScene) -> None:
        self.open = asyncio.Event()
        self._gate = asyncio.Event()
        list_docs = scene.algorithm.list_docs

        async def held(include_deleted: bool = False) -> list[TrackedDoc]:
            found = await list_docs(include_deleted)
            self.open.set()
            await self._gate.wait()
            return found

        scene.algorithm.list_docs = held  # type: ignore[method-assign]  # arranged

    def close(self) -> None:
        self._gate.set()


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
def test_tracked_while_the_lists_are_read_stays_and_flushes(is_open: bool) -> None:
    @virtual_time
    async def run() -> None:
        server = LogServer()
        async with sync_scene(FakeConnection(**server.replies())) as scene:
            await scene.open("old")
            await idle()
            scene.connection.drop()
            window = Window(scene)
            scene.connection.restore()
            await window.open.wait()
            doc = await scene.open()
            await scene.edit(doc, a=1)
            if not is_open:
                await scene.patches.close_doc("d")
            window.close()
            await scene.sync.settled(1)
            assert scene.entry() == SyncedDoc(1, False, "synced")
            assert "old" in scene.sync.synced
            assert [change.rev for change in server.logs["d"]] == [1]

    run()


@virtual_time
async def test_untracked_while_the_lists_are_read_is_not_brought_back() -> None:
    async with sync_scene(FakeConnection(**LogServer().replies(), unsubscribe=[])) as scene:
        await scene.open()
        await idle()
        scene.connection.drop()
        window = Window(scene)
        scene.connection.restore()
        await window.open.wait()
        await scene.patches.untrack_docs(["d"])
        calls = len(scene.connection.calls)
        window.close()
        await scene.sync.settled(1)
        assert "d" not in scene.sync.synced
        assert "d" not in scene.algorithm.records
        assert [call for call in scene.connection.calls[calls:] if "d" in str(call.args)] == []


@virtual_time
async def test_untracked_and_tracked_again_while_the_lists_are_read_keeps_syncing() -> None:
    server = LogServer()
    async with sync_scene(FakeConnection(**server.replies(), unsubscribe=[])) as scene:
        await scene.open()
        await idle()
        scene.connection.drop()
        window = Window(scene)
        scene.connection.restore()
        await window.open.wait()
        await scene.patches.untrack_docs(["d"])
        doc = await scene.open()
        window.close()
        await scene.sync.settled(1)
        await scene.edit(doc, a=1)
        await scene.sync.settled(1)
        assert [change.rev for change in server.logs["d"]] == [1]
        assert scene.entry() == SyncedDoc(1, False, "synced")


@virtual_time
async def test_deleted_before_the_lists_are_read_is_told_to_the_server_once() -> None:
    connection = FakeConnection(**LogServer().replies(), unsubscribe=[])
    async with sync_scene(connection) as scene:
        await scene.open()
        await idle()
        connection.drop()
        del connection.replies["deleteDoc"]
        list_docs, reading, gate = scene.algorithm.list_docs, asyncio.Event(), asyncio.Event()

        async def late(include_deleted: bool = False) -> list[TrackedDoc]:
            if not reading.is_set():
                reading.set()
                await gate.wait()
            return await list_docs(include_deleted)

        scene.algorithm.list_docs = late  # type: ignore[method-assign]  # arranged
        connection.restore()
        await reading.wait()
        deleting = asyncio.ensure_future(scene.patches.delete_doc("d"))
        delete = await connection.next_call("deleteDoc")
        gate.set()
        await idle()
        assert connection.count("deleteDoc") == 1
        delete.answer()
        await deleting
        await scene.sync.settled(1)


@virtual_time
async def test_deleted_while_the_lists_are_read_is_made_anew_when_the_server_knows() -> None:
    async with sync_scene(FakeConnection(**LogServer().replies(), unsubscribe=[])) as scene:
        await scene.open()
        await idle()
        scene.connection.drop()
        await scene.patches.delete_doc("d")
        window = Window(scene)
        scene.connection.restore()
        await window.open.wait()
        with pytest.raises(DeletionPendingError):
            await scene.open()
        window.close()
        await idle()
        assert scene.connection.count("deleteDoc") == 1
        doc = await scene.open()
        await scene.edit(doc, a=1)
        await scene.sync.settled(1)
        assert scene.entry() == SyncedDoc(1, False, "synced")


# ---- work below a first fetch --------------------------------------------------------------------


class Collapsing(SmallAlgorithm):
    """Its pending work comes to nothing when it is to be sent."""

    async def next_batch(self, doc_id: str, *_rest: object) -> list[object]:  # type: ignore[override]  # always empty
        self.records[doc_id].pending.clear()
        return []


@virtual_time
async def test_a_first_fetch_that_work_put_off_is_made_again_if_the_work_comes_to_nothing() -> None:
    async with sync_scene(algorithm=Collapsing()) as scene:
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        await scene.edit(doc, a=1)
        load.answer(Snapshot(state={"theirs": 1}, rev=3))
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"theirs": 1}, rev=3))
        await scene.sync.settled(1)
        assert doc.state == {"theirs": 1}
        assert scene.entry() == SyncedDoc(3, False, "synced")


@virtual_time
async def test_a_document_is_fetched_once_its_refused_first_work_was_ejected() -> None:
    async with sync_scene() as scene:
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        await scene.edit(doc, mine=1)
        load.answer(Snapshot(state={"theirs": 1}, rev=3))
        push = await scene.connection.next_call("commitChanges")
        push.fail(StatusError(403, "no"))
        await asyncio.sleep(5)
        await scene.patches.eject_pending_change("d", push.changes[0].id)
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"theirs": 1}, rev=3))
        await idle()
        assert doc.state == {"theirs": 1}
        assert scene.entry() == SyncedDoc(3, False, "synced")


class Withholding(SmallAlgorithm):
    """Has work that it does not send yet."""

    async def withholds_work(self, doc_id: str) -> bool:
        return await self.has_pending(doc_id)

    async def next_batch(self, *_rest: object) -> list[object]:  # type: ignore[override]  # always empty
        return []


@virtual_time
async def test_a_document_with_work_that_is_not_for_sending_is_fetched_all_the_same() -> None:
    async with sync_scene(algorithm=Withholding()) as scene:
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        await scene.edit(doc, mine=1)
        load.answer(Snapshot(state={"theirs": 1}, rev=3))
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"theirs": 1}, rev=3))
        await idle()
        assert scene.entry() == SyncedDoc(3, True, "synced")

"""What an algorithm with a wire of its own needs of the coordinator, shown with a third one."""

from __future__ import annotations

from patches.change import Snapshot
from patches.errors import StatusError
from patches.sync import SyncedDoc
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.sync_scene import sync_scene
from patches.testing.virtual_time import idle, virtual_time


@virtual_time
async def test_the_algorithm_gives_the_options_of_its_calls() -> None:
    async with sync_scene() as scene:
        scene.algorithm.options = {"token": "t1"}
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        assert load.args == ("d", {"token": "t1"})
        load.answer(Snapshot(state={}, rev=1))
        await idle()
        scene.algorithm.options = {"token": "t2"}
        scene.broadcast()
        pull = await scene.connection.next_call("getChangesSince")
        assert pull.args == ("d", 1, {"token": "t2"})
        pull.answer([])
        await scene.edit(doc, a=1)
        push = await scene.connection.next_call("commitChanges")
        assert push.args[2] == {"token": "t2"}
        push.commit(2)


@virtual_time
async def test_a_snapshot_keeps_what_only_the_algorithm_understands() -> None:
    snapshot = Snapshot.from_wire(
        {"state": {}, "rev": 3, "changes": [], "token": "t", "view": "partial"}
    )
    assert snapshot.metadata == {"token": "t", "view": "partial"}
    assert snapshot.to_wire()["token"] == "t"


@virtual_time
async def test_a_409_for_the_document_from_a_catch_up_reloads_and_keeps_the_work() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.broadcast()
        pull = await scene.connection.next_call("getChangesSince")
        await scene.edit(doc, mine=1)
        pull.fail(StatusError(409, "token", {"scope": "doc"}))
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"new": 1}, rev=9))
        (await scene.connection.next_call("getChangesSince")).answer([])
        (await scene.connection.next_call("commitChanges")).commit(10)
        await scene.sync.settled(1)
        assert doc.state == {"new": 1, "mine": 1}
        assert scene.entry() == SyncedDoc(10, False, "synced")


@virtual_time
async def test_a_notification_for_a_tracked_document_goes_to_its_algorithm_in_order() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.connection.on_notification.emit("rowsCame", {"docId": "d", "rows": []})
        scene.broadcast(committed(2))
        scene.connection.on_notification.emit("rowsWent", {"docId": "d"})
        await idle()
        assert scene.algorithm.notices == [("d", "rowsCame"), ("d", "rowsWent")]
        assert scene.entry().committed_rev == 2


@virtual_time
async def test_a_notification_that_the_algorithm_cannot_take_is_reported() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.algorithm.fail("handle_notification", ValueError("odd"))
        scene.connection.replies["getChangesSince"] = []
        scene.connection.on_notification.emit("odd", {"docId": "d"})
        await idle()
        assert [(str(error), doc_id) for error, doc_id in scene.errors] == [("odd", "d")]


@virtual_time
async def test_other_methods_are_called_through_the_connection() -> None:
    async with sync_scene(FakeConnection(openRows=lambda call: [1, 2])) as scene:
        assert await scene.sync.connection.call("openRows", "d", {"id": "all"}) == [1, 2]

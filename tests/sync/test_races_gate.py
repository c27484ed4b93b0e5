"""One request at a time, and exactly one more for whatever came meanwhile."""

from __future__ import annotations

from patches.model.change import Snapshot
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import sync_scene


@virtual_time
async def test_any_number_of_triggers_in_flight_makes_one_follow_up() -> None:
    async with sync_scene() as scene:
        await scene.open()
        load = await scene.connection.next_call("getDoc")
        for _ in range(7):
            scene.broadcast()  # no changes: look again
            await idle()
        load.answer(Snapshot(state={}, rev=3))
        (await scene.connection.next_call("getChangesSince")).answer([committed(4)])
        await idle()
        assert scene.connection.methods == ["subscribe", "getDoc", "getChangesSince"]


@virtual_time
async def test_no_follow_up_without_a_trigger() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(3)
        assert scene.connection.methods == ["subscribe", "getDoc"]


@virtual_time
async def test_no_follow_up_after_disconnect_or_untrack() -> None:
    async with sync_scene(FakeConnection(unsubscribe=[])) as scene:
        await scene.open("a")
        await scene.open("b")
        for _ in range(2):
            await scene.connection.next_call("getDoc")
        scene.broadcast(doc_id="a")
        scene.broadcast(doc_id="b")
        await scene.patches.untrack_docs(["a"])
        await scene.sync.disconnect()
        await idle()
        assert scene.connection.methods.count("getDoc") == 2
        assert scene.connection.count("getChangesSince") == 0


@virtual_time
async def test_documents_do_not_wait_for_each_other() -> None:
    async with sync_scene() as scene:
        await scene.open("slow")
        await scene.connection.next_call("getDoc")  # never answered
        doc = await scene.opened_at(1, "fast")
        await scene.edit(doc, a=1)
        (await scene.connection.next_call("commitChanges")).commit(2)
        await idle()
        assert scene.entry("fast").committed_rev == 2


@virtual_time
async def test_one_commit_in_flight_however_many_edits() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        for number in range(10):
            await scene.edit(doc, **{f"k{number}": number})
        assert scene.connection.count("commitChanges") == 1
        (await scene.connection.next_call("commitChanges")).commit(2)
        push = await scene.connection.next_call("commitChanges")
        assert len(push.changes) == 9
        push.commit(3)
        await scene.sync.settled(1)


@virtual_time
async def test_a_broadcast_while_a_commit_is_in_flight_is_applied_after_the_answer() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, mine=1)
        push = await scene.connection.next_call("commitChanges")
        scene.broadcast(committed(2))  # in the answer too
        scene.broadcast(committed(4))  # committed after ours
        await idle()
        push.commit(3, before=[committed(2)])
        await idle()
        assert doc.state == {"mine": 1, "r2": 2, "r4": 4}
        assert scene.committed == [("d", [2, 3]), ("d", [4])]
        assert scene.connection.count("getChangesSince") == 0


@virtual_time
async def test_an_empty_broadcast_looks_again() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.broadcast()
        (await scene.connection.next_call("getChangesSince")).answer([committed(2)])
        await idle()
        assert scene.entry().committed_rev == 2

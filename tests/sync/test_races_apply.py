"""Gaps, failures to apply, reloads (`docs/internals/sync.md` 8 and 13)."""

from __future__ import annotations

import asyncio

import pytest

from patches.errors import ApplyChangesError, MissingChangesError, StaleSubmissionError, StatusError
from patches.model.change import Snapshot
from patches.net.connection import CommitAnswer
from patches.sync import SyncedDoc
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import sync_scene


@virtual_time
async def test_a_gap_in_a_broadcast_pulls_silently() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.broadcast(committed(4))
        pull = await scene.connection.next_call("getChangesSince")
        assert pull.args[:2] == ("d", 1)
        pull.answer([committed(2), committed(3), committed(4)])
        await idle()
        assert doc.state == {"r2": 2, "r3": 3, "r4": 4}
        assert scene.errors == []


@virtual_time
async def test_a_gap_with_work_pushes_and_the_answer_holds_the_catch_up() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        await scene.edit(doc, mine=1)
        scene.connection.restore()
        push = await scene.connection.next_call("commitChanges")
        push.commit(4, before=[committed(2), committed(3)])
        await scene.sync.settled(1)
        assert doc.state == {"r2": 2, "r3": 3, "mine": 1}
        assert scene.connection.count("getChangesSince") == 0


@virtual_time
async def test_a_gap_in_a_catch_up_reloads() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.broadcast()
        (await scene.connection.next_call("getChangesSince")).answer([committed(9)])
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"all": 1}, rev=9))
        await idle()
        assert doc.state == {"all": 1}
        assert scene.entry() == SyncedDoc(9, False, "synced")


@virtual_time
async def test_an_apply_failure_in_a_catch_up_reloads_the_snapshot_and_is_reported() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.algorithm.unappliable.add("other2")
        scene.broadcast()
        (await scene.connection.next_call("getChangesSince")).answer([committed(2)])
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"r2": 2}, rev=2))
        await idle()
        assert doc.state == {"r2": 2}
        assert [type(error) for error, _ in scene.errors] == [ApplyChangesError]
        assert scene.entry().status == "synced"


@virtual_time
async def test_many_changes_that_cannot_be_applied_cost_one_reload_after_a_wait() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        for rev in range(2, 40):
            scene.algorithm.unappliable.add(f"other{rev}")
        for rev in (2, 3, 4):
            scene.broadcast(committed(rev))
            (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=rev))
            await idle()
        for rev in range(5, 40):  # a fourth reload in a row waits
            scene.broadcast(committed(rev))
        await idle()
        assert scene.connection.methods[-1] == "getDoc"
        calls = len(scene.connection.calls)
        await asyncio.sleep(1.0)
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=39))
        await idle()
        assert len(scene.connection.calls) == calls + 1
        assert doc.committed_rev == 39
        assert scene.entry().status == "synced"


@virtual_time
async def test_a_reload_that_fails_falls_through_to_normal_handling() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.algorithm.unappliable.add("other2")
        scene.broadcast(committed(2))
        (await scene.connection.next_call("getDoc")).fail(StatusError(500, "x"))
        await idle()
        assert scene.entry().status == "error"
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=2))
        await idle()
        assert scene.entry().status == "synced"


@virtual_time
async def test_a_deletion_found_by_the_reload_is_one() -> None:
    async with sync_scene(FakeConnection(unsubscribe=[])) as scene:
        await scene.opened_at(1)
        scene.algorithm.unappliable.add("other2")
        scene.broadcast(committed(2))
        (await scene.connection.next_call("getDoc")).fail(StatusError(410, "gone"))
        await idle()
        assert scene.deleted == [("d", [])]
        assert "d" not in scene.sync.synced


@pytest.mark.parametrize(
    ("parked", "state", "pulled"),
    [
        ([3, 5], {"all": 5}, False),
        ([6, 7], {"all": 5, "r6": 6, "r7": 7}, False),
        ([4, 5, 6], {"all": 5, "r6": 6}, False),
        ([7], {"all": 5, "r6": 6, "r7": 7}, True),
    ],
    ids=["stale", "contiguous", "overlap", "gap"],
)
def test_broadcasts_wait_for_a_reload(
    parked: list[int], state: dict[str, int], pulled: bool
) -> None:
    @virtual_time
    async def run() -> None:
        async with sync_scene() as scene:
            doc = await scene.opened_at(1)
            scene.broadcast()
            (await scene.connection.next_call("getChangesSince")).answer([committed(5)])
            reload = await scene.connection.next_call("getDoc")
            scene.broadcast(*(committed(rev) for rev in parked))
            await idle()
            assert doc.state == {}
            reload.answer(Snapshot(state={"all": 5}, rev=5))
            if pulled:
                pull = await scene.connection.next_call("getChangesSince")
                assert pull.args[1] == 5
                pull.answer([committed(6), committed(7)])
            await idle()
            assert doc.state == state
            assert scene.entry() == SyncedDoc(max(5, *parked), False, "synced")
            assert scene.connection.count("getChangesSince") == 1 + pulled

    run()


@virtual_time
async def test_a_reload_drops_what_is_committed_and_keeps_what_is_not() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        await scene.edit(doc, one=1)
        await scene.edit(doc, two=2)
        one, two = scene.algorithm.records["d"].pending
        scene.connection.restore()
        push = await scene.connection.next_call("commitChanges")
        push.fail(StaleSubmissionError("ahead"))
        reload = await scene.connection.next_call("getDoc")
        reload.answer(Snapshot(state={"one": 1}, rev=3))
        tail = await scene.connection.next_call("getChangesSince")
        assert tail.args[1] == 1
        # revision 4 lies beyond the snapshot: it is not part of it and must not be dropped
        tail.answer([committed(2), one.replace(rev=3, base_rev=2), two.replace(rev=4, base_rev=3)])
        push = await scene.connection.next_call("commitChanges")
        assert [change.id for change in push.changes] == [two.id]
        push.commit(4)
        await scene.sync.settled(1)
        assert doc.state == {"one": 1, "two": 2}
        assert scene.errors == []


@virtual_time
async def test_a_reload_fetches_no_tail_when_nothing_is_pending() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.broadcast()
        (await scene.connection.next_call("getChangesSince")).fail(
            StatusError(409, "token", {"scope": "doc"})
        )
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=5))
        await idle()
        assert scene.connection.count("getChangesSince") == 1
        assert scene.entry() == SyncedDoc(5, False, "synced")
        assert scene.errors == []


@virtual_time
async def test_the_whole_envelope_is_reconciled_when_its_version_is_older_than_what_is_here() -> (
    None
):
    async with sync_scene() as scene:
        doc = await scene.opened_at(2)
        await scene.edit(doc, mine=1)
        push = await scene.connection.next_call("commitChanges")
        (mine,) = push.changes
        push.answer(CommitAnswer([], doc_reload_required=True))
        reload = await scene.connection.next_call("getDoc")
        own = mine.replace(rev=4, base_rev=3)
        # the version is at revision 1, here was 2, the head is 4
        reload.answer(Snapshot(state={"v": 1}, rev=1, changes=[committed(2), committed(3), own]))
        (await scene.connection.next_call("getChangesSince")).answer([committed(3), own])
        await idle()
        assert doc.state == {"v": 1, "r2": 2, "r3": 3, "mine": 1}
        assert not scene.entry().has_pending


@virtual_time
async def test_server_commits_are_told_once_per_revision() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.broadcast(committed(2))
        await idle()
        scene.broadcast(committed(2))  # delivered again
        await idle()
        scene.broadcast(committed(1), committed(2), committed(3))  # one of them is new
        await idle()
        scene.broadcast()
        (await scene.connection.next_call("getChangesSince")).answer([])
        await idle()
        assert scene.committed == [("d", [2]), ("d", [3])]


@virtual_time
async def test_repeated_conflicts_end_in_the_ladder_and_not_in_a_loop() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.connection.replies["commitChanges"] = lambda call: StaleSubmissionError("ahead")
        scene.connection.replies["getDoc"] = lambda call: Snapshot(state={}, rev=1)
        scene.connection.replies["getChangesSince"] = lambda call: []
        await scene.edit(doc, a=1)
        await idle()
        assert scene.connection.count("commitChanges") == 4
        assert scene.entry().status == "error"


@pytest.mark.parametrize("method", ["receive_answer", "apply_server_changes"])
def test_a_gap_in_an_answer_reloads(method: str) -> None:
    @virtual_time
    async def run() -> None:
        async with sync_scene() as scene:
            doc = await scene.opened_at(1)
            gap = MissingChangesError(expected_rev=2, got_rev=5, since_rev=1)
            scene.algorithm.fail(method, gap)
            if method == "receive_answer":
                await scene.edit(doc, mine=1)
                (await scene.connection.next_call("commitChanges")).commit(2)
            else:
                scene.broadcast()
                (await scene.connection.next_call("getChangesSince")).answer([committed(2)])
            (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"x": 1}, rev=2))
            await idle()
            if method == "receive_answer":
                (await scene.connection.next_call("getChangesSince")).answer([])
                await idle()
            assert doc.state == {"x": 1}
            assert not scene.entry().has_pending

    run()


@pytest.mark.parametrize(
    ("changes", "state", "pulled"),
    [
        ([], {"r2": 2}, False),
        ([2], {"r2": 2}, False),
        ([3], {"r2": 2, "r3": 3}, False),
        ([2, 3], {"r2": 2, "r3": 3}, False),
        ([4], {"r2": 2, "r3": 3, "r4": 4}, True),
    ],
    ids=["empty", "already applied", "contiguous", "partial overlap", "gap"],
)
def test_a_merge_s_answer_is_folded_in(
    changes: list[int], state: dict[str, int], pulled: bool
) -> None:
    @virtual_time
    async def run() -> None:
        async with sync_scene() as scene:
            doc = await scene.opened_at(1)
            scene.broadcast(committed(2))
            await idle()
            scene.sync.apply_merge_changes("d", [committed(rev) for rev in changes])
            await idle()
            if pulled:
                pull = await scene.connection.next_call("getChangesSince")
                pull.answer([committed(3), committed(4)])
                await idle()
            assert doc.state == state
            assert scene.connection.count("getChangesSince") == int(pulled)

    run()

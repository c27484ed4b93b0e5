"""Pending changes that the server refuses, committed ones that nobody can apply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches.errors import (
    ApplyChangesError,
    ChangeRefusedError,
    CommittedPoisonSkippedError,
    StatusError,
)
from patches.model.change import QuarantinedChange, Snapshot
from patches.net.connection import CommitAnswer
from patches.testing.fake_connection import Call, FakeConnection, committed
from patches.testing.small_algorithm import SmallAlgorithm
from patches.testing.sync_scene import SyncScene, sync_scene
from patches.testing.virtual_time import idle, virtual_time


def refusing_first(call: Call) -> Any:
    """Refuses a commit that holds a bad change, and names it."""
    for change in call.changes:
        if change.ops[0]["value"] == "bad":
            return ChangeRefusedError(change.id, "bad change")
    return CommitAnswer(
        [
            change.replace(rev=change.base_rev + index, base_rev=change.base_rev + index - 1)
            for index, change in enumerate(call.changes, start=1)
        ]
    )


async def with_bad_edits(scene: SyncScene, *values: str) -> None:
    """Edits made offline, of which those that are "bad" fail here too; then a connection."""
    doc = await scene.opened_at(1)
    scene.connection.drop()
    for number, value in enumerate(values):
        await scene.edit(doc, **{f"k{number}": value})
    scene.algorithm.bad_pending |= {
        change.id
        for change in scene.algorithm.records["d"].pending
        if change.ops[0]["value"] == "bad"
    }
    scene.connection.replies["commitChanges"] = refusing_first
    scene.connection.replies["getChangesSince"] = []
    scene.connection.restore()
    await idle()


@virtual_time
async def test_a_corroborated_poison_is_set_aside_and_the_rest_synced() -> None:
    async with sync_scene() as scene:
        await with_bad_edits(scene, "good", "bad", "good")
        await scene.sync.settled(1)
        (entry,) = scene.algorithm.quarantine
        assert scene.quarantined == [entry.change_id]
        assert entry.reason == "bad change"
        assert scene.entry().status == "synced"
        assert scene.entry().committed_rev == 3
        assert scene.errors == []


@pytest.mark.parametrize(
    "data",
    [None, {"scope": "change"}, {"scope": "doc", "changeId": "CHANGE"}, {"changeId": "CHANGE"}],
    ids=str,
)
def test_a_refusal_that_names_no_change_sets_nothing_aside(data: dict[str, str] | None) -> None:
    @virtual_time
    async def run() -> None:
        async with sync_scene() as scene:
            doc = await scene.opened_at(1)
            await scene.edit(doc, a=1)
            push = await scene.connection.next_call("commitChanges")
            (change,) = push.changes
            scene.algorithm.bad_pending.add(change.id)
            named = data and {
                key: change.id if value == "CHANGE" else value for key, value in data.items()
            }
            push.fail(StatusError(400, "no", named))
            await idle()
            assert scene.algorithm.quarantine == []
            assert scene.entry().status == "error"

    run()


@virtual_time
async def test_a_change_that_applies_here_is_not_set_aside() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        push = await scene.connection.next_call("commitChanges")
        push.fail(ChangeRefusedError(push.changes[0].id, "no"))
        await idle()
        assert scene.algorithm.quarantine == []
        assert scene.entry().status == "error"
        assert scene.entry().has_pending


@virtual_time
async def test_a_change_against_the_server_s_rules_is_set_aside_although_it_applies_here() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        push = await scene.connection.next_call("commitChanges")
        change_id = push.changes[0].id
        push.fail(StatusError(400, "no", {"scope": "change", "changeId": change_id, "final": True}))
        await scene.sync.settled(1)
        assert scene.quarantined == [change_id]
        assert doc.state == {}


@virtual_time
async def test_a_change_that_applies_again_by_the_time_it_would_be_set_aside_is_not() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        push = await scene.connection.next_call("commitChanges")
        verify = scene.algorithm.verify_pending_change
        scene.algorithm.bad_pending.add(push.changes[0].id)

        async def failing(doc_id: str, change_id: str) -> bool:
            applies = await verify(doc_id, change_id)
            scene.algorithm.bad_pending.clear()  # what it was written on has come back
            return applies

        scene.algorithm.verify_pending_change = failing  # type: ignore[method-assign]  # arranged
        push.fail(ChangeRefusedError(push.changes[0].id, "no"))
        await idle()
        assert scene.quarantined == []
        assert scene.entry().status == "error"


@virtual_time
async def test_an_ejection_that_fails_falls_back_to_an_ordinary_error() -> None:
    async with sync_scene() as scene:
        scene.algorithm.fail("eject_pending_change", OSError("disk"))
        await with_bad_edits(scene, "bad")
        assert scene.entry().status == "error"
        await asyncio.sleep(1.5)  # the next attempt ejects it
        assert len(scene.algorithm.quarantine) == 1
        assert scene.entry().status == "synced"


@virtual_time
async def test_after_three_ejections_the_document_is_latched() -> None:
    async with sync_scene() as scene:
        await with_bad_edits(scene, *["bad"] * 5)
        assert len(scene.algorithm.quarantine) == 3
        assert scene.entry().status == "error"


@virtual_time
async def test_persisted_entries_are_announced_once_per_session_even_if_the_sync_fails() -> None:
    algorithm = SmallAlgorithm()
    algorithm.quarantine.append(
        QuarantinedChange(
            doc_id="d", change_id="old", change=committed(1), reason="x", quarantined_at=1
        )
    )
    connection = FakeConnection(getDoc=lambda call: StatusError(500, "x"))
    async with sync_scene(connection, algorithm=algorithm) as scene:
        await scene.open()
        await asyncio.sleep(10)
        assert scene.quarantined == ["old"]
        connection.drop()
        connection.restore()
        await asyncio.sleep(10)
        assert scene.quarantined == ["old"]
        await scene.sync.disconnect()
        await scene.sync.connect()
        await idle()
        assert scene.quarantined == ["old", "old"]


@virtual_time
async def test_an_ejection_by_the_application_nudges_the_sync() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, bad=1)
        push = await scene.connection.next_call("commitChanges")
        (bad,) = push.changes
        await scene.edit(doc, good=1)
        push.fail(StatusError(403, "no"))
        await asyncio.sleep(30)
        await scene.patches.eject_pending_change("d", bad.id)
        push = await scene.connection.next_call("commitChanges")
        assert asyncio.get_running_loop().time() == 30  # not by the re-probe, ten minutes later
        assert bad.id not in [change.id for change in push.changes]
        push.commit(2)
        await scene.sync.settled(1)


# ---- committed poison ----------------------------------------------------------------------------


@virtual_time
async def test_a_first_committed_failure_reloads_and_a_repeated_one_is_skipped() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.algorithm.unappliable.add("other2")
        scene.broadcast(committed(2))
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=1))
        await idle()
        scene.broadcast(committed(2), committed(3))
        await idle()
        assert doc.state == {"r3": 3}
        assert scene.entry().committed_rev == 3
        assert [type(error) for error, _ in scene.errors] == [
            ApplyChangesError,
            CommittedPoisonSkippedError,
        ]
        assert scene.connection.count("getDoc") == 2


@virtual_time
async def test_poison_in_a_commit_answer_is_skipped_the_same_way() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.algorithm.unappliable.add("other2")
        await scene.edit(doc, mine=1)
        push = await scene.connection.next_call("commitChanges")
        (mine,) = push.commit(3, before=[committed(2)])
        # committed, but not applied: the reload brings it, and the poison in its tail is skipped
        reload = await scene.connection.next_call("getDoc")
        reload.answer(Snapshot(state={}, rev=1, changes=[committed(2), mine]))
        (await scene.connection.next_call("getChangesSince")).answer([committed(2), mine])
        await scene.sync.settled(1)
        assert doc.state == {"mine": 1}
        assert scene.connection.count("commitChanges") == 1
        kinds = [type(error) for error, _ in scene.errors]
        assert kinds == [ApplyChangesError, CommittedPoisonSkippedError]


@virtual_time
async def test_a_snapshot_whose_own_tail_cannot_be_applied_is_repaired_up_to_five_times() -> None:
    async with sync_scene() as scene:
        doc = await scene.open()
        scene.algorithm.unappliable |= {f"other{rev}" for rev in (2, 4, 6, 7, 8)}
        tail = [committed(rev) for rev in range(1, 10)]
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=0, changes=tail))
        await idle()
        assert doc.state == {"r1": 1, "r3": 3, "r5": 5, "r9": 9}
        assert [str(error)[-11:] for error, _ in scene.errors] == ["was skipped"] * 5
        assert scene.connection.count("getDoc") == 1
        assert scene.entry().status == "synced"


@virtual_time
async def test_a_snapshot_with_more_poison_than_repairs_is_given_up() -> None:
    async with sync_scene() as scene:
        await scene.open()
        scene.algorithm.unappliable |= {f"other{rev}" for rev in range(1, 7)}
        (await scene.connection.next_call("getDoc")).answer(
            Snapshot(state={}, rev=0, changes=[committed(rev) for rev in range(1, 7)])
        )
        # the first failure makes it a matter of a reload, the second of the ladder
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"ok": 1}, rev=7))
        await idle()
        assert scene.entry().status == "synced"
        kinds = [type(error) for error, _ in scene.errors]
        assert CommittedPoisonSkippedError not in kinds  # nothing was skipped, so nothing is told


@virtual_time
async def test_a_failure_that_the_reload_fixed_is_never_skipped() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.algorithm.unappliable.add("other2")
        scene.broadcast(committed(2))
        reload = await scene.connection.next_call("getDoc")
        scene.algorithm.unappliable.clear()
        reload.answer(Snapshot(state={"r2": 2}, rev=2))
        await idle()
        scene.broadcast(committed(3))
        await idle()
        assert doc.state == {"r2": 2, "r3": 3}
        assert CommittedPoisonSkippedError not in [type(error) for error, _ in scene.errors]


@virtual_time
async def test_a_skip_is_reported_only_after_the_batch_is_stored() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.algorithm.unappliable.add("other2")
        scene.broadcast(committed(2))
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=1))
        await idle()
        scene.errors.clear()
        seen: list[int] = []
        scene.sync.on_error(lambda _error, _context: seen.append(scene.algorithm.records["d"].rev))
        scene.broadcast(committed(2))
        await idle()
        assert seen == [2]

"""Pending changes that the server refuses, committed ones that nobody can apply."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches.errors import (
    ApplyChangesError,
    ChangeRefusedError,
    CommittedPoisonSkippedError,
    PendingChangeError,
    StatusError,
)
from patches.model.change import QuarantinedChange, Snapshot
from patches.net.connection import CommitAnswer
from patches.sync.document.failures import MAX_REFUSALS
from patches.testing.fake_connection import Call, FakeConnection, committed
from patches.testing.virtual_time import idle, virtual_time
from tests.support.small_algorithm import SmallAlgorithm
from tests.support.sync_scene import SyncScene, sync_scene


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
    """Edits made offline, of which the server refuses those that are "bad"; then a connection."""
    doc = await scene.opened_at(1)
    scene.connection.drop()
    for number, value in enumerate(values):
        await scene.edit(doc, **{f"k{number}": value})
    scene.connection.replies["commitChanges"] = refusing_first
    scene.connection.replies["getChangesSince"] = []
    scene.connection.restore()
    await idle()


@virtual_time
async def test_a_refused_change_is_set_aside_and_the_rest_synced() -> None:
    async with sync_scene() as scene:
        await with_bad_edits(scene, "good", "bad", "good")
        with pytest.raises(ChangeRefusedError, match="bad change"):
            await scene.sync.settled(1)
        (entry,) = scene.algorithm.quarantine
        assert scene.quarantined == [entry.change_id]
        assert entry.reason == "bad change"
        assert scene.entry().status == "synced"
        assert scene.entry().committed_rev == 3
        ((error, doc_id),) = scene.errors
        assert isinstance(error, ChangeRefusedError)
        assert (error.change_id, doc_id) == (entry.change_id, "d")
        await scene.sync.settled(1)  # it was raised once
        assert asyncio.get_running_loop().time() == 0


@virtual_time
async def test_an_ejection_that_fails_is_tried_again() -> None:
    async with sync_scene() as scene:
        scene.algorithm.fail("eject_pending_change", OSError("disk"))
        await with_bad_edits(scene, "bad")
        assert scene.entry().status == "error"
        await asyncio.sleep(1.5)  # the next attempt ejects it
        assert len(scene.algorithm.quarantine) == 1
        assert scene.entry().status == "synced"


@virtual_time
async def test_any_number_of_refused_changes_is_set_aside_and_later_edits_leave() -> None:
    async with sync_scene() as scene:
        await with_bad_edits(scene, *["bad"] * 5, "good")
        assert len(scene.algorithm.quarantine) == 5
        assert scene.entry().status == "synced"
        assert scene.entry().committed_rev == 2
        assert len(scene.errors) == 5


@virtual_time
async def test_a_server_that_refuses_everything_is_not_asked_for_ever() -> None:
    async with sync_scene() as scene:
        await with_bad_edits(scene, *["bad"] * (MAX_REFUSALS + 5))
        assert len(scene.algorithm.quarantine) == MAX_REFUSALS
        assert scene.entry().status == "error"
        with pytest.raises(ChangeRefusedError):
            await scene.sync.settled(1)
        await asyncio.sleep(601)  # the next attempt goes on
        assert len(scene.algorithm.quarantine) == MAX_REFUSALS + 5
        assert scene.entry().status == "synced"


@virtual_time
async def test_what_cannot_do_without_a_refused_change_goes_with_it() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        for value in ("good", "bad", "on top", "last"):
            await scene.edit(doc, **{value.replace(" ", "_"): value})
        _, bad, *later = [change.id for change in scene.algorithm.records["d"].pending]
        eject = scene.algorithm.eject_pending_change

        async def last_first(doc_id: str, change_id: str, *rest: Any, **more: Any) -> Any:
            pending = scene.algorithm.records["d"].pending
            if change_id == bad and pending[-1].id != bad:
                raise PendingChangeError("the others cannot do without it")
            return await eject(doc_id, change_id, *rest, **more)

        scene.algorithm.eject_pending_change = last_first  # type: ignore[method-assign]  # arranged
        scene.connection.replies["commitChanges"] = refusing_first
        scene.connection.restore()
        await idle()
        entries = {entry.change_id: entry.reason for entry in scene.algorithm.quarantine}
        assert list(entries) == [*reversed(later), bad]
        assert all(bad in entries[change_id] for change_id in later)
        assert scene.entry().status == "synced"
        assert not scene.entry().has_pending


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


# ---- committed changes that cannot be applied ----------------------------------------------------


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
async def test_an_unappliable_change_in_a_commit_answer_is_skipped_the_same_way() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.algorithm.unappliable.add("other2")
        await scene.edit(doc, mine=1)
        push = await scene.connection.next_call("commitChanges")
        (mine,) = push.commit(3, before=[committed(2)])
        # committed, but not applied: the reload brings it, and what fails in its tail is skipped
        reload = await scene.connection.next_call("getDoc")
        reload.answer(Snapshot(state={}, rev=1, changes=[committed(2), mine]))
        (await scene.connection.next_call("getChangesSince")).answer([committed(2), mine])
        await scene.sync.settled(1)
        assert doc.state == {"mine": 1}
        assert scene.connection.count("commitChanges") == 1
        kinds = [type(error) for error, _ in scene.errors]
        assert kinds == [ApplyChangesError, CommittedPoisonSkippedError]


@virtual_time
async def test_one_load_leaves_out_all_that_cannot_be_applied_and_reports_each_once() -> None:
    async with sync_scene() as scene:
        doc = await scene.open()
        scene.algorithm.unappliable |= {f"other{rev}" for rev in range(2, 82, 2)}
        tail = [committed(rev) for rev in range(1, 82)]
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=0, changes=tail))
        await idle()
        assert doc.state == {f"r{rev}": rev for rev in range(1, 82, 2)}
        assert [str(error)[-11:] for error, _ in scene.errors] == ["was skipped"] * 40
        scene.broadcast(committed(82))
        await idle()
        assert len(scene.errors) == 40
        assert scene.connection.count("getDoc") == 1
        assert scene.entry().status == "synced"


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

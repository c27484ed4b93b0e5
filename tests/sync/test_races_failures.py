"""Retries, re-probes and what is reported (`docs/internals/sync.md` 7 and 13)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from patches.errors import NetworkError, StatusError, StorageTimeoutError, TooManyRequestsError
from patches.model.change import Change, Snapshot
from patches.net.connection import CommitAnswer
from patches.sync import SyncedDoc
from patches.testing.fake_connection import Call, FakeConnection, committed
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import LogServer, SyncScene, sync_scene


def now() -> float:
    return asyncio.get_running_loop().time()


def failing(error: BaseException) -> FakeConnection:
    """A server that gives documents, and fails commits."""
    return FakeConnection(
        getDoc=lambda call: Snapshot(state={}, rev=1),
        getChangesSince=lambda call: [],
        commitChanges=lambda call: error,
        unsubscribe=[],
    )


async def edited(scene: SyncScene) -> None:
    doc = await scene.open()
    await idle()
    await scene.edit(doc, a=1)


@virtual_time
async def test_a_transient_failure_is_retried_and_recovers_silently() -> None:
    async with sync_scene() as scene:
        await scene.open()
        (await scene.connection.next_call("getDoc")).fail(StatusError(500, "x"))
        await idle()
        assert scene.entry().status == "error"
        load = await scene.connection.next_call("getDoc")
        assert now() == 1
        assert scene.entry().status == "syncing"
        load.answer(Snapshot(state={}, rev=1))
        await idle()
        assert scene.entry() == SyncedDoc(1, False, "synced")
        assert scene.errors == []


@virtual_time
async def test_retries_back_off_give_up_after_ten_and_report_once() -> None:
    times: list[float] = []
    connection = failing(StatusError(500, "x"))

    def fail(_call: Call) -> StatusError:
        times.append(now())
        return StatusError(500, "x")

    connection.replies["commitChanges"] = fail
    async with sync_scene(connection) as scene:
        await edited(scene)
        await asyncio.sleep(290)
        assert times == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]
        assert [str(error) for error, _ in scene.errors] == ["x"]
        await asyncio.sleep(200)  # the re-probe at 481, and a ladder of its own
        assert times[11:14] == [481, 482, 484]
        await asyncio.sleep(1000)
        assert len(scene.errors) == 1


@virtual_time
async def test_an_exhausted_ladder_without_work_is_not_probed_again() -> None:
    connection = FakeConnection(getDoc=lambda call: StatusError(500, "x"))
    async with sync_scene(connection) as scene:
        await scene.open()
        await asyncio.sleep(10_000)
        assert connection.count("getDoc") == 11
        assert len(scene.errors) == 1


@virtual_time
async def test_a_terminal_failure_is_not_retried_reported_once_and_probed_after_ten_minutes() -> (
    None
):
    connection = failing(StatusError(403, "no"))
    async with sync_scene(connection) as scene:
        await edited(scene)
        await asyncio.sleep(599)
        assert connection.count("commitChanges") == 1
        assert scene.entry().status == "error"
        await asyncio.sleep(2)
        assert connection.count("commitChanges") == 2
        await asyncio.sleep(3000)
        assert connection.count("commitChanges") == 7
        assert [doc_id for _, doc_id in scene.errors] == ["d"]


@pytest.mark.parametrize("error", [StatusError(500, "x"), StatusError(403, "no")], ids=str)
def test_a_success_ends_the_probing(error: StatusError) -> None:
    @virtual_time
    async def run() -> None:
        connection = failing(error)
        async with sync_scene(connection) as scene:
            await edited(scene)
            await asyncio.sleep(400)
            connection.replies["commitChanges"] = lambda call: CommitAnswer(
                [change.replace(rev=2, base_rev=1) for change in call.changes]
            )
            await asyncio.sleep(300)
            assert scene.entry() == SyncedDoc(2, False, "synced")
            calls = len(connection.calls)
            await asyncio.sleep(10_000)
            assert len(connection.calls) == calls

    run()


@virtual_time
async def test_what_fails_again_after_a_success_is_reported_again() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        for rev in (2, 3):
            await scene.edit(doc, a=rev)
            (await scene.connection.next_call("commitChanges")).fail(StatusError(403, "no"))
            (await scene.connection.next_call("commitChanges")).fail(StatusError(403, "no"))
            (await scene.connection.next_call("commitChanges")).commit(rev)
            await scene.sync.settled(1)
        assert [str(error) for error, _ in scene.errors] == ["no", "no"]


@virtual_time
async def test_a_ladder_that_ends_without_a_connection_is_silent() -> None:
    connection = failing(StatusError(500, "x"))
    connection.set_online = lambda online: None  # type: ignore[method-assign]  # a deaf transport
    async with sync_scene(connection) as scene:
        await edited(scene)
        await asyncio.sleep(170)
        del connection.replies["commitChanges"]
        push = await connection.next_call("commitChanges")  # the last of the ladder
        scene.sync.set_online(False)
        push.fail(StatusError(500, "x"))
        await asyncio.sleep(1000)
        assert scene.errors == []
        assert connection.count("commitChanges") == 11


@virtual_time
async def test_a_terminal_failure_without_work_is_not_probed_again() -> None:
    connection = FakeConnection(getDoc=lambda call: StatusError(403, "no"))
    async with sync_scene(connection) as scene:
        await scene.open()
        await asyncio.sleep(10_000)
        assert connection.count("getDoc") == 1


@virtual_time
async def test_an_edit_brings_a_far_off_probe_forward_but_not_in_quick_succession() -> None:
    connection = failing(StatusError(403, "no"))
    async with sync_scene(connection) as scene:
        await edited(scene)
        doc = scene.patches.get_open_doc("d")
        assert doc is not None
        for number in range(5):
            await scene.edit(doc, b=number)
        assert connection.count("commitChanges") == 1
        await asyncio.sleep(1.1)
        assert connection.count("commitChanges") == 2


@virtual_time
async def test_the_server_may_ask_for_a_longer_wait() -> None:
    connection = failing(TooManyRequestsError("slow", retry_after_ms=20_000))
    connection.replies["commitChanges"] = lambda call: StatusError(
        429, "slow", {"retryAfterMs": 20_000}
    )
    async with sync_scene(connection) as scene:
        await edited(scene)
        await asyncio.sleep(19.9)
        assert connection.count("commitChanges") == 1
        await asyncio.sleep(0.2)
        assert connection.count("commitChanges") == 2


@pytest.mark.parametrize("wait_s", [1, 400], ids=["ladder", "probe"])
@pytest.mark.parametrize("how", ["untrack", "disconnect"])
def test_waits_are_cancelled(how: str, wait_s: float) -> None:
    @virtual_time
    async def run() -> None:
        connection = failing(StatusError(500 if wait_s == 1 else 403, "x"))
        async with sync_scene(connection) as scene:
            await edited(scene)
            if how == "untrack":
                await scene.patches.untrack_docs(["d"])
            else:
                await scene.sync.disconnect()
            await asyncio.sleep(10_000)
            assert connection.count("commitChanges") == 1

    run()


@virtual_time
async def test_a_reconnect_starts_everything_over_and_reports_again() -> None:
    connection = failing(StatusError(403, "no"))
    async with sync_scene(connection) as scene:
        await edited(scene)
        connection.drop()
        assert scene.entry().status == "error"
        connection.restore()
        await idle()
        assert connection.count("commitChanges") == 2
        assert len(scene.errors) == 2


INTERRUPTIONS: dict[str, Callable[[], BaseException]] = {
    "network": lambda: NetworkError("lost"),
    "time-out": TimeoutError,
    "cancelled": asyncio.CancelledError,
    "storage": lambda: StorageTimeoutError("slow"),
}


@pytest.mark.parametrize("error", INTERRUPTIONS.values(), ids=INTERRUPTIONS.keys())
def test_an_interruption_is_no_error_at_any_moment(error: Callable[[], BaseException]) -> None:
    @virtual_time
    async def run() -> None:
        async with sync_scene() as scene:
            await scene.open()
            (await scene.connection.next_call("getDoc")).fail(error())
            await idle()
            assert scene.entry() == SyncedDoc(0, False, "unsynced")
            load = await scene.connection.next_call("getDoc")
            assert now() == 1
            load.answer(Snapshot(state={}, rev=1))
            await idle()
            assert "error" not in scene.statuses()
            assert scene.errors == []

    run()


@virtual_time
async def test_an_interrupted_document_with_work_stays_synced_with_work() -> None:
    async with sync_scene(failing(NetworkError("lost"))) as scene:
        await edited(scene)
        assert scene.entry() == SyncedDoc(1, True, "synced")


@virtual_time
async def test_interruptions_that_last_are_probed_even_without_work_and_never_reported() -> None:
    connection = FakeConnection(getDoc=lambda call: NetworkError("lost"))
    async with sync_scene(connection) as scene:
        await scene.open()
        await asyncio.sleep(470)
        assert connection.count("getDoc") == 11
        await asyncio.sleep(20)
        assert connection.count("getDoc") > 11
        await asyncio.sleep(10_000)
        assert scene.errors == []


@virtual_time
async def test_a_cancellation_that_outlives_the_ladder_is_reported_once() -> None:
    connection = FakeConnection(getDoc=lambda call: asyncio.CancelledError())
    async with sync_scene(connection) as scene:
        await scene.open()
        await asyncio.sleep(5000)
        assert len(scene.errors) == 1


@virtual_time
async def test_a_reconnect_syncs_again_what_was_interrupted() -> None:
    async with sync_scene() as scene:
        await scene.open()
        await scene.connection.next_call("getDoc")
        scene.connection.drop()
        await idle()
        scene.connection.restore()
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=2))
        await idle()
        assert now() == 0
        assert scene.entry().committed_rev == 2


@virtual_time
async def test_a_failure_of_an_old_connection_does_not_slow_the_new_one() -> None:
    async with sync_scene() as scene:
        await scene.open()
        await scene.connection.next_call("getDoc")
        scene.connection.drop()
        scene.connection.restore()  # before the failure was looked at
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=2))
        await idle()
        assert now() == 0
        assert scene.entry() == SyncedDoc(2, False, "synced")


@virtual_time
async def test_cancellation_during_teardown_arms_nothing() -> None:
    async with sync_scene() as scene:
        await scene.open()
        await scene.connection.next_call("getDoc")
        await scene.sync.disconnect()
        await asyncio.sleep(1000)
        assert scene.connection.count("getDoc") == 1
        assert scene.errors == []


@pytest.mark.parametrize("how", ["untrack", "disconnect"])
def test_teardown_while_a_store_is_at_work_ends_it_and_arms_nothing(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @virtual_time
    async def run() -> None:
        async with sync_scene(FakeConnection(unsubscribe=[])) as scene:
            await scene.opened_at(1)

            async def hang(*_args: object, **_options: object) -> list[Change]:
                await asyncio.Event().wait()
                return []

            monkeypatch.setattr(scene.algorithm, "apply_server_changes", hang)
            scene.broadcast(committed(2))
            await idle()
            async with asyncio.timeout(1):
                if how == "untrack":
                    await scene.patches.untrack_docs(["d"])
                await scene.sync.disconnect()
            calls = len(scene.connection.calls)
            await asyncio.sleep(1000)
            assert len(scene.connection.calls) == calls
            assert scene.errors == []

    run()


@virtual_time
async def test_a_coded_failure_still_shows_when_interruptions_do_not() -> None:
    errors: list[Any] = [NetworkError("lost"), StatusError(500, "x"), NetworkError("lost")]
    connection = failing(StatusError(500, "x"))
    connection.replies["commitChanges"] = lambda call: errors.pop(0)
    async with sync_scene(connection) as scene:
        await edited(scene)
        assert scene.entry().status == "synced"
        await asyncio.sleep(1.5)
        assert scene.entry().status == "error"
        await asyncio.sleep(2)
        assert scene.entry().status == "synced"


@virtual_time
async def test_one_document_s_failure_stays_its_own() -> None:
    server = LogServer()
    connection = FakeConnection(**server.replies())
    connection.replies["getDoc"] = lambda call: (
        StatusError(403, "no") if call.doc_id == "bad" else Snapshot(state={}, rev=0)
    )
    async with sync_scene(connection) as scene:
        await scene.open("bad")
        good = await scene.open("good")
        await scene.edit(good, a=1)
        assert scene.entry("good") == SyncedDoc(1, False, "synced")
        assert scene.entry("bad").status == "error"
        assert scene.sync.state.syncing is None


@virtual_time
async def test_a_broadcast_that_storage_refuses_is_reported_and_fetched_later() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.algorithm.fail("apply_server_changes", OSError("disk"))
        scene.broadcast(committed(2))
        await idle()
        assert [str(error) for error, _ in scene.errors] == ["disk"]
        assert scene.entry().status == "synced"
        (await scene.connection.next_call("getChangesSince")).answer([committed(2)])
        await idle()
        assert doc.state == {"r2": 2}

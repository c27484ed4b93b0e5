"""Deletion, here and on the server (`docs/internals/sync.md` 9 and 13)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from patches import Patches, PatchesSync
from patches.errors import (
    DeletionPendingError,
    DocDeletedError,
    ForbiddenError,
    StatusError,
    StorageError,
)
from patches.model.change import Change, Snapshot
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import SyncScene, sync_scene


def quiet() -> FakeConnection:
    return FakeConnection(unsubscribe=[])


def now() -> float:
    return asyncio.get_running_loop().time()


def assert_gone(scene: SyncScene) -> None:
    assert "d" not in scene.sync.synced
    assert "d" not in scene.patches.tracked_docs
    assert "d" not in scene.algorithm.records
    assert scene.patches.get_open_doc("d") is None


@virtual_time
async def test_a_remote_deletion_forgets_the_document_and_hands_its_work_over() -> None:
    async with sync_scene(quiet()) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        push = await scene.connection.next_call("commitChanges")
        (change,) = push.changes
        scene.connection.on_doc_deleted.emit("d")
        push.fail(DocDeletedError("d", deleted_at=1, last_rev=1))
        await idle()
        assert_gone(scene)
        assert scene.deleted == [("d", [change.id])]
        assert doc.is_closed
        assert scene.errors == []


@pytest.mark.parametrize("method", ["getDoc", "getChangesSince", "commitChanges"])
def test_a_410_anywhere_is_a_remote_deletion(method: str) -> None:
    @virtual_time
    async def run() -> None:
        async with sync_scene(quiet()) as scene:
            scene.connection.replies[method] = lambda call: StatusError(410, "gone")
            if method == "getDoc":
                await scene.open()
            else:
                doc = await scene.opened_at(1)
                if method == "commitChanges":
                    await scene.edit(doc, a=1)
                else:
                    scene.broadcast()
            await idle()
            assert_gone(scene)
            assert len(scene.deleted) == 1

    run()


@virtual_time
async def test_a_deletion_during_the_subscription_ends_the_full_sync() -> None:
    connection = quiet()
    del connection.replies["subscribe"]
    async with sync_scene(connection, connect=False) as scene:
        await scene.open()
        await scene.sync.connect()
        subscribe = await connection.next_call("subscribe")
        connection.on_doc_deleted.emit("d")  # the notification comes before the answer
        subscribe.answer([])
        await idle()
        assert_gone(scene)
        assert connection.methods == ["subscribe"]
        await scene.sync.settled(1)


@virtual_time
async def test_a_repeated_deletion_says_nothing_more() -> None:
    async with sync_scene(quiet()) as scene:
        await scene.opened_at(1)
        for _ in range(3):
            scene.connection.on_doc_deleted.emit("d")
        await idle()
        scene.connection.on_doc_deleted.emit("d")
        await idle()
        assert scene.deleted == [("d", [])]


@virtual_time
async def test_work_that_only_the_open_document_holds_is_handed_over_too() -> None:
    async with sync_scene(quiet()) as scene:
        doc = await scene.opened_at(1)
        handed: list[Sequence[Change]] = []
        scene.sync.on_remote_doc_deleted(lambda _doc_id, pending: handed.append(pending))
        scene.algorithm.fail("handle_doc_change", *[OSError("disk full")] * 3)
        doc.apply([{"op": "replace", "path": "/a", "value": 1}])
        await asyncio.sleep(10)  # the document is latched
        scene.connection.on_doc_deleted.emit("d")
        await idle()
        assert_gone(scene)
        assert [change.ops for change in handed[0]] == [
            [{"op": "replace", "path": "/a", "value": 1}]
        ]


@virtual_time
async def test_an_edit_made_while_the_document_goes_is_refused_or_handed_over() -> None:
    async with sync_scene(quiet()) as scene:
        doc = await scene.opened_at(1)
        made: list[int] = []
        load_doc, close_doc = scene.algorithm.load_doc, scene.patches.close_doc

        def edit() -> None:
            if not doc.is_closed:
                made.append(len(made))
                doc.apply([{"op": "replace", "path": f"/k{len(made)}", "value": 1}])

        async def loading(doc_id: str) -> Snapshot | None:
            snapshot = await load_doc(doc_id)
            edit()
            await idle()
            return snapshot

        async def closing(doc_id: str, **options: bool) -> None:
            edit()
            await close_doc(doc_id, **options)
            edit()
            await idle()

        scene.algorithm.load_doc = loading  # type: ignore[method-assign]  # arranged
        scene.patches.close_doc = closing  # type: ignore[method-assign]  # arranged
        scene.connection.on_doc_deleted.emit("d")
        await idle(300)
        assert made
        assert doc.is_closed
        ((_, pending),) = scene.deleted
        assert len(pending) == len(made)


@virtual_time
async def test_a_disconnect_in_the_middle_of_a_deletion_hands_the_work_over_all_the_same() -> None:
    async with sync_scene(quiet()) as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        await scene.edit(doc, mine=1)
        gate, untrack_docs = asyncio.Event(), scene.algorithm.untrack_docs

        async def slow(doc_ids: Sequence[str]) -> None:
            await gate.wait()
            await untrack_docs(doc_ids)

        scene.algorithm.untrack_docs = slow  # type: ignore[method-assign]  # arranged
        scene.connection.on_doc_deleted.emit("d")
        await idle()
        assert scene.deleted == []
        leaving = asyncio.ensure_future(scene.sync.disconnect())
        await idle()
        gate.set()
        await leaving
        assert len(scene.deleted[0][1]) == 1
        assert_gone(scene)


@virtual_time
async def test_a_deletion_that_a_disconnect_cut_off_is_carried_out_by_the_next_connect() -> None:
    async with sync_scene(quiet()) as scene:
        await scene.opened_at(1)
        scene.connection.on_doc_deleted.emit("d")
        await scene.sync.disconnect()  # before the document was let go of
        await scene.sync.connect()
        await scene.sync.settled(1)
        assert_gone(scene)
        assert scene.deleted == [("d", [])]


@virtual_time
async def test_a_deletion_is_carried_out_once_the_store_can_be_read_and_loses_nothing() -> None:
    async with sync_scene(quiet()) as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        await scene.edit(doc, mine=1)
        load_doc, failures = scene.algorithm.load_doc, [OSError("disk"), OSError("disk")]

        async def failing(doc_id: str) -> Snapshot | None:
            if failures:
                raise failures.pop()
            return await load_doc(doc_id)

        scene.algorithm.load_doc = failing  # type: ignore[method-assign]  # arranged
        scene.connection.on_doc_deleted.emit("d")
        await idle()
        assert not doc.is_closed
        assert [(str(error), doc_id) for error, doc_id in scene.errors] == [("disk", "d")]
        await asyncio.sleep(3)  # after 1 and 1.5 s
        assert len(scene.deleted[0][1]) == 1
        assert_gone(scene)


@virtual_time
async def test_work_is_handed_over_although_the_store_cannot_forget_it() -> None:
    async with sync_scene(quiet()) as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        await scene.edit(doc, mine=1)

        async def failing(doc_ids: Sequence[str]) -> None:
            raise OSError("disk")

        scene.algorithm.untrack_docs = failing  # type: ignore[method-assign]  # arranged
        scene.connection.on_doc_deleted.emit("d")
        await idle()
        assert len(scene.deleted[0][1]) == 1
        assert [(str(error), doc_id) for error, doc_id in scene.errors] == [("disk", "d")]
        assert "d" not in scene.sync.synced


@virtual_time
async def test_a_deletion_that_cannot_be_stored_does_not_hold_up_a_disconnect_for_ever() -> None:
    async with sync_scene(quiet()) as scene:
        await scene.opened_at(1)

        async def hang(doc_ids: Sequence[str]) -> None:
            await asyncio.Event().wait()

        scene.algorithm.untrack_docs = hang  # type: ignore[method-assign]  # arranged
        scene.connection.on_doc_deleted.emit("d")
        await idle()
        await scene.sync.disconnect()
        assert now() == 10


@virtual_time
async def test_an_async_handler_runs_and_the_document_can_be_made_anew_meanwhile() -> None:
    async with sync_scene(quiet()) as scene:
        await scene.opened_at(1)
        done = asyncio.Event()

        async def handler(_doc_id: str, _pending: Sequence[Change]) -> None:
            await asyncio.sleep(5)
            done.set()

        scene.sync.on_remote_doc_deleted(handler)
        scene.connection.on_doc_deleted.emit("d")
        await idle()
        doc = await scene.opened_at(0)
        await done.wait()
        assert now() == 5
        scene.broadcast(committed(1))
        await idle()
        assert doc.state == {"r1": 1}


@virtual_time
async def test_a_hung_handler_is_logged_after_ten_seconds_and_wedges_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with sync_scene(quiet()) as scene:
        await scene.opened_at(1, "a")
        await scene.opened_at(1, "b")

        async def hang(_doc_id: str, _pending: Sequence[Change]) -> None:
            await asyncio.Event().wait()

        scene.sync.on_remote_doc_deleted(hang)
        scene.connection.on_doc_deleted.emit("a")
        await asyncio.sleep(9)
        assert "has not come to an end" not in caplog.text
        await asyncio.sleep(2)
        assert "has not come to an end" in caplog.text
        scene.connection.on_doc_deleted.emit("b")
        await idle()
        assert [doc_id for doc_id, _ in scene.deleted] == ["a", "b"]
        assert dict(scene.sync.synced) == {}


@virtual_time
async def test_a_fast_handler_costs_nothing() -> None:
    async with sync_scene(quiet()) as scene:
        await scene.opened_at(1)
        scene.connection.on_doc_deleted.emit("d")
        await idle()
        assert now() == 0
        assert_gone(scene)


@virtual_time
async def test_a_local_deletion_is_carried_out_when_connected() -> None:
    connection = quiet()
    connection.replies["deleteDoc"] = None
    async with sync_scene(connection) as scene:
        await scene.opened_at(1)
        await scene.patches.delete_doc("d")
        await idle()
        assert sorted(connection.methods[-2:]) == ["deleteDoc", "unsubscribe"]
        assert_gone(scene)
        assert scene.deleted == []


@pytest.mark.parametrize("method", ["getDoc", "commitChanges"])
def test_what_was_in_flight_of_a_document_deleted_here_brings_nothing_back(method: str) -> None:
    @virtual_time
    async def run() -> None:
        connection = quiet()
        async with sync_scene(connection) as scene:
            if method == "getDoc":
                await scene.open()
            else:
                await scene.edit(await scene.opened_at(1), a=1)
            call = await connection.next_call(method)
            deleting = asyncio.ensure_future(scene.patches.delete_doc("d"))
            delete = await connection.next_call("deleteDoc")
            assert call.result.cancelled()  # its answer has nobody to go to
            scene.broadcast(committed(2))
            await idle()
            assert scene.algorithm.records["d"].deleted
            assert "d" not in scene.sync.synced
            delete.answer()
            await deleting
            assert_gone(scene)
            assert scene.errors == []

    run()


@virtual_time
async def test_a_local_deletion_offline_waits_for_the_next_full_sync() -> None:
    connection = quiet()
    async with sync_scene(connection) as scene:
        await scene.opened_at(1)
        connection.drop()
        await scene.patches.delete_doc("d")
        assert scene.algorithm.records["d"].deleted
        assert connection.count("deleteDoc") == 0
        connection.restore()
        (await connection.next_call("deleteDoc")).answer()
        await scene.sync.settled(1)
        assert_gone(scene)
        assert connection.methods[-2:] == ["getDoc", "deleteDoc"]


@virtual_time
async def test_a_failed_deletion_is_reported_kept_and_tried_again() -> None:
    connection = quiet()
    connection.replies["deleteDoc"] = lambda call: StatusError(500, "x")
    async with sync_scene(connection) as scene:
        await scene.opened_at(1)
        await scene.patches.delete_doc("d")
        assert scene.errors[-1][1] == "d"
        assert scene.algorithm.records["d"].deleted
        connection.replies["deleteDoc"] = lambda call: StatusError(410, "gone already")
        connection.drop()
        connection.restore()
        await idle()
        assert_gone(scene)


@virtual_time
async def test_a_tombstone_whose_dropping_seemed_to_fail_does_not_keep_the_document_shut() -> None:
    connection = quiet()
    connection.replies["deleteDoc"] = None
    async with sync_scene(connection) as scene:
        await scene.opened_at(1)
        confirm = scene.algorithm.confirm_delete_doc

        async def seems_to_fail(doc_id: str) -> None:
            await confirm(doc_id)
            raise StorageError("the outcome is unknown")

        scene.algorithm.confirm_delete_doc = seems_to_fail  # type: ignore[method-assign]  # arranged
        await scene.patches.delete_doc("d")
        with pytest.raises(DeletionPendingError):
            await scene.open()
        connection.drop()
        connection.restore()
        await idle()
        assert not (await scene.open()).is_closed


@pytest.mark.parametrize("failed", ["server", "store", "store, in appearance"])
def test_a_deletion_that_fails_for_a_while_is_tried_again_on_the_same_connection(
    failed: str,
) -> None:
    @virtual_time
    async def run() -> None:
        connection = quiet()
        answers: list[Exception | None] = [StatusError(503, "no storage")] * 3 + [None] * 9
        connection.replies["deleteDoc"] = (
            (lambda call: answers.pop(0)) if failed == "server" else None
        )
        async with sync_scene(connection) as scene:
            await scene.opened_at(1)
            confirm = scene.algorithm.confirm_delete_doc
            left = [] if failed == "server" else [StorageError("full")] * 3

            async def confirm_later(doc_id: str) -> None:
                if failed != "store" or not left:
                    await confirm(doc_id)
                if left:
                    raise left.pop()

            scene.algorithm.confirm_delete_doc = confirm_later  # type: ignore[method-assign]  # arranged
            await scene.patches.delete_doc("d")
            with pytest.raises(DeletionPendingError):
                await scene.open()
            await asyncio.sleep(10)
            assert_gone(scene)
            assert len(scene.errors) == 1  # the same three times is told once
            assert connection.methods.count("subscribe") == 1  # it was connected all the time
            assert not (await scene.open()).is_closed

    run()


@virtual_time
async def test_a_deletion_waits_as_long_as_the_server_asks_and_no_more_once_disconnected() -> None:
    connection = quiet()
    connection.replies["deleteDoc"] = lambda call: StatusError(
        429, "slowly", data={"retryAfterMs": 60_000}
    )
    async with sync_scene(connection) as scene:
        await scene.opened_at(1)
        await scene.patches.delete_doc("d")
        await asyncio.sleep(59)
        assert connection.methods.count("deleteDoc") == 1
        await asyncio.sleep(2)
        assert connection.methods.count("deleteDoc") == 2
        connection.drop()
        await asyncio.sleep(200)
        assert connection.methods.count("deleteDoc") == 2
        connection.replies["deleteDoc"] = None
        connection.restore()
        await idle()
        assert_gone(scene)


@virtual_time
async def test_a_deletion_made_offline_is_carried_out_before_the_document_is_made_anew() -> None:
    connection = quiet()
    async with sync_scene(connection) as scene:
        await scene.opened_at(1)
        connection.drop()
        await scene.patches.delete_doc("d")
        for reopen in (scene.open(), scene.patches.track_docs(["d"], "small")):
            with pytest.raises(DeletionPendingError, match="'d'"):
                await reopen
        connection.restore()
        (await connection.next_call("deleteDoc")).answer()
        await idle()
        doc = await scene.open()
        (await connection.next_call("getDoc")).answer(Snapshot(state={}, rev=0))
        await scene.sync.settled(1)
        assert doc.state == {}


@virtual_time
async def test_a_client_without_a_sync_makes_a_deleted_document_anew() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("d")
        doc.apply([{"op": "replace", "path": "/a", "value": 1}])
        await patches.delete_doc("d")
        assert (await patches.open_doc("d")).state == {}


@virtual_time
async def test_work_on_a_document_that_the_server_has_deleted_is_told_before_settled() -> None:
    deleted = DocDeletedError("d", deleted_at=1, last_rev=1)
    connection = FakeConnection(getDoc=deleted, commitChanges=deleted)
    async with sync_scene(connection) as scene:
        doc = await scene.open()
        doc.apply([{"op": "replace", "path": "/a", "value": 1}])
        await scene.sync.settled(1)
        assert [(doc_id, len(pending)) for doc_id, pending in scene.deleted] == [("d", 1)]
        assert scene.errors == []


@virtual_time
async def test_work_that_nobody_takes_over_is_reported() -> None:
    deleted = DocDeletedError("d", deleted_at=1, last_rev=1)
    connection = FakeConnection(commitChanges=deleted)
    async with Patches() as patches, PatchesSync(patches, connection) as sync:
        errors: list[tuple[type[Exception], str | None]] = []
        sync.on_error(lambda error, context: errors.append((type(error), context.doc_id)))
        doc = await patches.open_doc("d")
        load = await connection.next_call("getDoc")
        doc.apply([{"op": "replace", "path": "/a", "value": 1}])
        load.answer(Snapshot(state={}, rev=0))
        await sync.settled(1)
        assert errors == [(DocDeletedError, "d")]


@virtual_time
async def test_a_deletion_that_is_refused_for_good_is_given_up_and_reported() -> None:
    connection = quiet()
    connection.replies["deleteDoc"] = ForbiddenError("WRITE_FORBIDDEN:d")
    async with sync_scene(connection) as scene:
        await scene.opened_at(1)
        await scene.patches.delete_doc("d")
        await idle()
        assert [(type(error), doc_id) for error, doc_id in scene.errors] == [(ForbiddenError, "d")]
        doc = await scene.open()
        (await connection.next_call("getDoc")).answer(Snapshot(state={"a": 1}, rev=1))
        await scene.sync.settled(1)
        assert doc.state == {"a": 1}
        connection.drop()
        connection.restore()
        (await connection.next_call("getChangesSince")).answer([])
        await idle()
        assert connection.count("deleteDoc") == 1

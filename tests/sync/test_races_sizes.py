"""Changes and frames that are too large."""

from __future__ import annotations

import asyncio

import pytest

from patches.errors import (
    ChangeRefusedError,
    FrameTooLargeError,
    StatusError,
    UnsplittableChangeError,
)
from patches.net.connection import CommitAnswer
from patches.options import DEFAULT_MAX_PAYLOAD_BYTES, DocOptions
from patches.testing.fake_connection import Call, FakeConnection
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import LogServer, SyncScene, sync_scene

TOO_LARGE = ChangeRefusedError("any", "too large", code=413)


def budgets(scene: SyncScene) -> list[int | None]:
    """The storage budgets that the algorithm was asked with, without repeats."""
    seen: list[int | None] = []
    for options in scene.algorithm.seen_options:
        if seen[-1:] != [options.max_storage_bytes]:
            seen.append(options.max_storage_bytes)
    return seen


@virtual_time
async def test_a_413_halves_the_budget_until_accepted_and_then_it_is_as_configured() -> None:
    async with sync_scene(max_storage_bytes=1_000_000) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        (await scene.connection.next_call("commitChanges")).fail(TOO_LARGE)
        (await scene.connection.next_call("commitChanges")).fail(TOO_LARGE)
        (await scene.connection.next_call("commitChanges")).commit(2)
        await idle()
        await scene.edit(doc, b=1)
        (await scene.connection.next_call("commitChanges")).commit(3)
        await scene.sync.settled(1)
        assert budgets(scene) == [1_000_000, 500_000, 250_000, 1_000_000]
        assert asyncio.get_running_loop().time() == 0
        assert scene.errors == []
        assert "error" not in scene.statuses()


@virtual_time
async def test_at_the_floor_the_change_is_set_aside() -> None:
    connection = FakeConnection(commitChanges=lambda call: TOO_LARGE)
    async with sync_scene(connection, max_storage_bytes=300_000) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        assert budgets(scene)[:3] == [300_000, 150_000, 100_000]
        assert len(scene.quarantined) == 1
        assert scene.entry().status == "synced"
        assert len(scene.errors) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StatusError(413, "the document", {"limit": "max_doc_bytes"}), "synced"),
        (StatusError(413, "doc", {"scope": "doc"}), "error"),
    ],
    ids=["limit", "doc"],
)
def test_a_413_that_is_not_about_a_change_halves_nothing(error: StatusError, status: str) -> None:
    @virtual_time
    async def run() -> None:
        connection = FakeConnection(commitChanges=lambda call: error)
        async with sync_scene(connection, max_storage_bytes=300_000) as scene:
            doc = await scene.opened_at(1)
            await scene.edit(doc, a=1)
            await asyncio.sleep(20)
            assert budgets(scene) == [300_000]
            assert connection.count("commitChanges") == 1
            assert scene.entry().status == status
            assert len(scene.errors) == 1

    run()


@virtual_time
async def test_a_413_without_a_configured_budget_sets_the_change_aside() -> None:
    connection = FakeConnection(commitChanges=lambda call: TOO_LARGE)
    async with sync_scene(connection) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        await asyncio.sleep(300)
        assert connection.count("commitChanges") == 1
        assert len(scene.quarantined) == 1
        assert scene.entry().status == "synced"


@virtual_time
async def test_an_unsplittable_change_latches_only_its_document() -> None:
    server = LogServer()
    async with sync_scene(FakeConnection(**server.replies())) as scene:
        bad, good = await scene.open("bad"), await scene.open("good")
        await idle()
        scene.algorithm.fail(
            "next_batch",
            UnsplittableChangeError("add", "/a", size=9, limit=3, doc_id="bad", change_id="c"),
        )
        await scene.edit(bad, a=1)
        await scene.edit(good, a=1)
        assert scene.entry("bad").status == "error"
        assert scene.entry("good").status == "synced"
        assert [doc_id for _, doc_id in scene.errors] == ["bad"]
        await asyncio.sleep(601)
        assert scene.entry("bad").status == "synced"


@virtual_time
async def test_a_frame_too_large_halves_the_batch_and_goes_on_after_the_reconnect() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        for number in range(4):
            await scene.edit(doc, **{f"k{number}": "x" * 1000})
        scene.connection.restore()
        push = await scene.connection.next_call("commitChanges")
        assert len(push.changes) == 4
        push.fail(FrameTooLargeError("1009"))
        scene.connection.drop()
        await idle()
        scene.connection.restore()
        rev = 2
        for _ in range(2):
            push = await scene.connection.next_call("commitChanges")
            assert len(push.changes) in (1, 2, 3)
            push.commit(rev)
            rev += len(push.changes)
            await idle()
            if rev == 6:
                break
        await scene.sync.settled(1)
        assert scene.errors == []


@virtual_time
async def test_a_frame_too_large_with_one_change_is_like_a_413() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a="x" * 5000)
        for _ in range(2):  # once more with a smaller budget, which divides nothing
            (await scene.connection.next_call("commitChanges")).fail(FrameTooLargeError("1009"))
            await idle()
        ((error, doc_id),) = scene.errors
        assert isinstance(error, ChangeRefusedError)
        assert (error.code, error.scope, doc_id) == (413, "change", "d")
        assert scene.quarantined == [error.change_id]
        assert scene.entry().status == "synced"


@virtual_time
async def test_what_the_server_takes_at_once_is_learnt_once_for_all_documents() -> None:
    def at_most(call: Call) -> CommitAnswer | Exception:
        if sum(len(change.encoded) for change in call.changes) > 3_500:
            return StatusError(413, "the commit", {"limit": "max_commit_bytes"})
        return server._commit_changes(call)

    server = LogServer()
    connection = FakeConnection(**{**server.replies(), "commitChanges": at_most})
    async with sync_scene(connection) as scene:
        docs = [await scene.open(doc_id) for doc_id in ("a", "b")]
        await idle()
        for doc in docs:
            connection.drop()
            for number in range(9):
                await scene.edit(doc, **{f"k{number}": "x" * 1_000})
            connection.restore()
            await scene.sync.settled(1)
        refused = [call for call in connection.calls if call.method == "commitChanges"
                   and call.result.done() and call.result.exception() is not None]  # fmt: skip
        assert len(refused) == 2  # 9 kB, then 4.5 kB; afterwards none
        assert scene.errors == []


@virtual_time
async def test_a_commit_that_breaks_the_connection_twice_is_made_smaller() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        for number in range(4):
            await scene.edit(doc, **{f"k{number}": "x" * 50_000})
        for _ in range(2):
            scene.connection.restore()
            push = await scene.connection.next_call("commitChanges")
            assert len(push.changes) == 4
            scene.connection.drop()
            await idle()
        scene.connection.restore()
        push = await scene.connection.next_call("commitChanges")
        assert len(push.changes) < 4
        push.commit(2)
        await idle()
        assert scene.errors == []


@virtual_time
async def test_one_change_that_breaks_the_connection_twice_is_set_aside() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        await scene.edit(doc, large="x" * 1_500_000)
        await scene.edit(doc, small=1)
        for _ in range(2):
            scene.connection.restore()
            push = await scene.connection.next_call("commitChanges")
            assert len(push.changes) == 1
            scene.connection.drop()
            await idle()
        assert len(scene.quarantined) == 1
        scene.connection.restore()
        (await scene.connection.next_call("commitChanges")).commit(2)
        await idle()
        assert doc.state == {"small": 1}
        assert scene.entry().status == "synced"


@virtual_time
async def test_options_are_the_call_s_then_the_client_s_then_the_default() -> None:
    async with sync_scene(max_payload_bytes=5000, max_unsplittable_bytes=7) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        assert scene.algorithm.seen_options[-1] == DocOptions(
            max_payload_bytes=5000, max_unsplittable_bytes=7
        )
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        assert scene.algorithm.seen_options[-1].max_payload_bytes == DEFAULT_MAX_PAYLOAD_BYTES

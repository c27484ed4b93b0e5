"""Changes and frames that are too large (`spec/sync.md` 7 row 4, 10, 13; reliability 2)."""

from __future__ import annotations

import asyncio

import pytest

from patches.errors import (
    ChangeRefusedError,
    FrameTooLargeError,
    StatusError,
    UnsplittableChangeError,
)
from patches.options import DEFAULT_MAX_PAYLOAD_BYTES, DocOptions
from patches.testing.fake_connection import FakeConnection
from patches.testing.sync_scene import LogServer, SyncScene, sync_scene
from patches.testing.virtual_time import idle, virtual_time

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
async def test_at_the_floor_the_document_is_latched() -> None:
    connection = FakeConnection(commitChanges=lambda call: TOO_LARGE)
    async with sync_scene(connection, max_storage_bytes=300_000) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        assert budgets(scene) == [300_000, 150_000, 100_000]
        assert scene.entry().status == "error"
        assert len(scene.errors) == 1


@pytest.mark.parametrize(
    "error",
    [StatusError(413, "commit", {"limit": 5}), StatusError(413, "doc", {"scope": "doc"})],
    ids=["unscoped", "doc"],
)
def test_a_413_that_is_not_about_a_change_halves_nothing(error: StatusError) -> None:
    @virtual_time
    async def run() -> None:
        connection = FakeConnection(commitChanges=lambda call: error)
        async with sync_scene(connection, max_storage_bytes=300_000) as scene:
            doc = await scene.opened_at(1)
            await scene.edit(doc, a=1)
            await asyncio.sleep(20)
            assert budgets(scene) == [300_000]
            assert connection.count("commitChanges") == 5  # an ordinary error, on the ladder

    run()


@virtual_time
async def test_a_413_without_a_configured_budget_latches() -> None:
    connection = FakeConnection(commitChanges=lambda call: TOO_LARGE)
    async with sync_scene(connection) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        await asyncio.sleep(300)
        assert connection.count("commitChanges") == 1
        assert scene.entry().status == "error"


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
        (await scene.connection.next_call("commitChanges")).fail(FrameTooLargeError("1009"))
        await idle()
        (error, doc_id) = scene.errors[0]
        assert isinstance(error, ChangeRefusedError)
        assert (error.code, error.scope, doc_id) == (413, "change", "d")
        assert error.change_id == scene.algorithm.records["d"].pending[0].id
        assert scene.entry().status == "error"


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

"""Several sync objects used in turn over one `Patches`: another url is another `PatchesSync`."""

from __future__ import annotations

import gc
import weakref

import pytest

from patches.client.patches import Patches
from patches.errors import StatusError
from patches.sync import PatchesSync, SyncedDoc
from patches.testing.fake_connection import FakeConnection
from patches.testing.virtual_time import idle, virtual_time
from tests.support.small_algorithm import SmallAlgorithm
from tests.support.sync_scene import LogServer


def small_patches() -> Patches:
    return Patches(algorithms=[SmallAlgorithm()], default_algorithm="small")


def honest() -> FakeConnection:
    return FakeConnection(**LogServer().replies())


def refusing() -> FakeConnection:
    """A server that is another than the one the documents come from."""
    no = StatusError(403, "no")
    return FakeConnection(getDoc=no, getChangesSince=no, commitChanges=no)


@pytest.mark.parametrize("made_first", ["the first", "the second"])
def test_a_document_shows_the_status_of_the_sync_that_is_used(made_first: str) -> None:
    @virtual_time
    async def run() -> None:
        async with small_patches() as patches:
            if made_first == "the first":
                first, second = PatchesSync(patches, honest()), PatchesSync(patches, refusing())
            else:
                second, first = PatchesSync(patches, refusing()), PatchesSync(patches, honest())
            async with first:
                await patches.open_doc("d")
                await first.settled(1)
            await patches.close_doc("d")
            async with second:
                await idle()
                told: list[str] = []
                patches.on_open_doc(
                    lambda doc: doc.on_status_change(lambda status, _error: told.append(status))
                )
                doc = await patches.open_doc("d")
                doc.set({"a": 1})
                await doc.flush()
                await idle()
                assert second.synced["d"].status == "error"
                assert doc.sync_status == "error"
                assert "synced" not in told

    run()


@virtual_time
async def test_the_one_that_is_not_used_any_more_is_freed() -> None:
    async with small_patches() as patches:
        connection = honest()
        first = PatchesSync(patches, connection)
        async with first:
            await patches.open_doc("d")
            await first.settled(1)
        freed = weakref.ref(first)
        del first
        async with PatchesSync(patches, connection) as second:
            await second.settled(1)
            gc.collect()
            assert freed() is None


@virtual_time
async def test_one_that_was_never_connected_is_freed_too() -> None:
    async with small_patches() as patches:
        freed = weakref.ref(PatchesSync(patches, honest()))
        async with PatchesSync(patches, honest()):
            gc.collect()
            assert freed() is None


@virtual_time
async def test_a_disconnected_one_goes_on_showing_what_is_edited_until_another_connects() -> None:
    async with small_patches() as patches:
        first = PatchesSync(patches, honest())
        async with first:
            doc = await patches.open_doc("d")
            await first.settled(1)
        doc.set({"a": 1})
        await doc.flush()
        assert first.synced["d"] == SyncedDoc(0, True, "synced")
        async with PatchesSync(patches, honest()):
            assert dict(first.synced) == {}


@virtual_time
async def test_one_that_is_used_again_knows_what_has_happened_meanwhile() -> None:
    async with small_patches() as patches:
        server = LogServer()
        first = PatchesSync(patches, FakeConnection(**server.replies()))
        async with first:
            kept, gone = await patches.open_doc("kept"), await patches.open_doc("gone")
            kept.set({"a": 1})
            await first.settled(1)
        async with PatchesSync(patches, FakeConnection(**server.replies())) as second:
            kept.set({"a": 2})
            await patches.untrack_docs([gone.id])
            await patches.open_doc("new")
            await second.settled(1)
        async with first:
            await first.settled(1)
            assert dict(first.synced) == {
                "kept": SyncedDoc(2, False, "synced"),
                "new": SyncedDoc(0, False, "synced"),
            }
            assert kept.sync_status == "synced"
        kept.set({"a": 3})
        async with first:
            await first.settled(1)
        assert [change.rev for change in server.logs["kept"]] == [1, 2, 3]


@virtual_time
async def test_one_that_is_in_use_goes_on_when_another_connects_and_lets_go_at_its_end() -> None:
    async with small_patches() as patches:
        server = LogServer()
        first = PatchesSync(patches, FakeConnection(**server.replies()))
        async with first, PatchesSync(patches, FakeConnection(**server.replies())):
            doc = await patches.open_doc("d")
            doc.set({"a": 1})
            await first.settled(1)
            assert first.synced["d"] == SyncedDoc(1, False, "synced")
        assert dict(first.synced) == {}

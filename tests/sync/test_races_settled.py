"""Waiting until nothing is left to send (`settled`, `docs/internals/sync.md` 1)."""

from __future__ import annotations

import asyncio

import pytest

from patches.errors import StatusError
from patches.sync import SyncState
from patches.testing.fake_connection import FakeConnection
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import LogServer, sync_scene


@virtual_time
async def test_settled_waits_for_unsaved_pending_and_in_flight_edits() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        doc.apply([{"op": "replace", "path": "/a", "value": 1}])
        settled = asyncio.ensure_future(scene.sync.settled())
        push = await scene.connection.next_call("commitChanges")
        await idle()
        assert not settled.done()
        push.commit(2)
        await settled


@virtual_time
async def test_settled_waits_while_offline_and_times_out() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.connection.drop()
        with pytest.raises(TimeoutError):
            await scene.sync.settled(60)
        scene.connection.restore()
        (await scene.connection.next_call("getChangesSince")).answer([])
        await scene.sync.settled(60)


@virtual_time
async def test_settled_raises_what_no_waiting_can_help() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        settled = asyncio.ensure_future(scene.sync.settled())
        (await scene.connection.next_call("commitChanges")).fail(StatusError(403, "not yours"))
        with pytest.raises(StatusError, match="not yours"):
            await settled


@virtual_time
async def test_settled_raises_what_is_not_tried_any_more() -> None:
    connection = FakeConnection(getDoc=lambda call: StatusError(500, "broken"))
    async with sync_scene(connection) as scene:
        await scene.open()
        with pytest.raises(StatusError, match="broken"):
            await scene.sync.settled(10_000)
        assert connection.count("getDoc") == 11


@virtual_time
async def test_settled_raises_when_edits_cannot_be_stored() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.algorithm.fail("handle_doc_change", *[OSError("disk full")] * 3)
        doc.apply([{"op": "replace", "path": "/a", "value": 1}])
        with pytest.raises(OSError, match="disk full"):
            await scene.sync.settled(60)


@virtual_time
async def test_two_syncs_after_each_other_on_one_client() -> None:
    server = LogServer()
    async with sync_scene(FakeConnection(**server.replies())) as scene:
        doc = await scene.open()
        await scene.edit(doc, a=1)
        await scene.sync.settled(1)
        await scene.sync.disconnect()
        await scene.edit(doc, b=1)
        assert scene.entry().has_pending
        await scene.sync.connect()
        await scene.sync.settled(1)
        assert [change.rev for change in server.logs["d"]] == [1, 2]
        assert [state.syncing for state in scene.states if state.syncing] == ["initial"] * 2
        assert scene.sync.state == SyncState(connected=True)

"""Handlers of a `PatchesSync` may disconnect it and connect it again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.errors import StatusError
from patches.model.change import Snapshot
from patches.testing.fake_connection import FakeConnection
from patches.testing.fixtures import ServerFixture
from patches.testing.virtual_time import idle, virtual_time


@pytest.mark.parametrize("signal", ["on_error", "on_state_change"])
def test_a_handler_disconnects_and_connects(signal: str) -> None:
    @virtual_time
    async def run() -> None:
        connection = FakeConnection(getDoc=StatusError(403, "no"), getChangesSince=[])
        async with Patches() as patches, PatchesSync(patches, connection) as sync:
            done: list[str] = []

            async def recover(*_: Any) -> None:
                if not done:
                    done.append("begun")
                    await sync.disconnect()
                    connection.replies["getDoc"] = Snapshot(state={"a": 1}, rev=1)
                    await sync.connect()
                    await sync.settled(1)
                    done.append("ended")

            getattr(sync, signal)(recover)
            doc = await patches.open_doc("d")
            if signal == "on_state_change":
                connection.drop()
                connection.restore()
            await idle(500)
            assert done == ["begun", "ended"]
            assert doc.state == {"a": 1}
            assert sync.state.connected
            doc.apply([{"op": "replace", "path": "/b", "value": 2}])
            (await connection.next_call("commitChanges")).commit(2)
            await sync.settled(1)

    run()


async def test_a_handler_does_so_over_a_real_connection() -> None:
    async with ServerFixture() as server:
        client = await server.client("ann")
        recovered = asyncio.Event()

        async def recover(_doc_id: str, _pending: Any) -> None:
            await client.sync.disconnect()
            await client.sync.connect()
            recovered.set()

        client.sync.on_remote_doc_deleted(recover)
        other = await server.client("bob")
        doc = await client.open_doc("d")
        doc.set({"a": 1})
        await client.sync.settled(5)
        await other.patches.track_docs(["d"])
        await other.sync.settled(5)
        await other.patches.delete_doc("d")
        await asyncio.wait_for(recovered.wait(), 5)
        second = await client.open_doc("e")
        second.set({"b": 1})
        await client.sync.settled(5)
        assert await server.state("e") == {"b": 1}


@virtual_time
async def test_async_handlers_run_after_one_of_them_has_connected_again() -> None:
    connection = FakeConnection()
    async with Patches() as patches, PatchesSync(patches, connection) as sync:
        states: list[bool] = []

        async def recover(state: Any) -> None:
            states.append(state.connected)
            if len(states) == 1:
                await sync.disconnect()
                await sync.connect()

        sync.on_state_change(recover)
        connection.drop()
        await idle()
        told = len(states)
        connection.drop()
        await idle()
        assert states[told:] == [False]


@virtual_time
async def test_the_other_handlers_end_with_a_disconnect() -> None:
    connection = FakeConnection()
    async with Patches() as patches, PatchesSync(patches, connection) as sync:
        ended: list[str] = []

        async def waits(_state: Any) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("ended")

        sync.on_state_change(waits)
        connection.drop()
        await idle()
        assert ended == []
        await sync.disconnect()
        assert ended

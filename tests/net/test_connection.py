"""Wire objects become changes and snapshots, and the other way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from patches.errors import JSONRPCError, NetworkError
from patches.model import codec
from patches.model.change import Change
from patches.net.connection import RpcConnection
from patches.testing.contracts.connection import ConnectionContract, ConnectionScene
from patches.testing.streams import MemoryNetwork, MemoryStream, memory_transport
from patches.testing.virtual_time import idle, virtual_time

CHANGE = {
    "id": "c1",
    "ops": [{"op": "replace", "path": "/a", "value": 1}],
    "baseRev": 1,
    "rev": 2,
    "createdAt": 5,
    "committedAt": 6,
    "mood": "good",
}


class TestRpcConnection(ConnectionContract):
    def scene(self) -> ConnectionScene:
        network = MemoryNetwork()

        def set_reachable(is_reachable: bool) -> None:
            network.up = is_reachable

        return ConnectionScene(
            connection=RpcConnection(memory_transport(network)),
            set_reachable=set_reachable,
            cut=network.cut,
        )


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[RpcConnection, MemoryStream]]:
    network = MemoryNetwork()
    connection = RpcConnection(memory_transport(network))
    await connection.connect()
    try:
        yield connection, await network.accepted.get()
    finally:
        await connection.disconnect()


async def answered(server: MemoryStream, call: Any, result: Any) -> tuple[dict[str, Any], Any]:
    """The request that `call` sends, and what it returns for `result`."""
    task = asyncio.ensure_future(call)
    request = json.loads(await server.receive())
    await server.send(codec.encode({"jsonrpc": "2.0", "id": request["id"], "result": result}))
    return request, await task


@virtual_time
async def test_calls_have_the_method_names_and_parameters_of_the_protocol() -> None:
    change = Change.from_wire(CHANGE)
    async with connected() as (connection, server):
        request, snapshot = await answered(
            server, connection.get_doc("d"), {"state": {"a": 1}, "rev": 1, "changes": [CHANGE]}
        )
        assert (request["method"], request["params"]) == ("getDoc", ["d"])
        assert (snapshot.state, snapshot.rev, snapshot.head) == ({"a": 1}, 1, 2)
        assert snapshot.changes[0] == change
        assert snapshot.changes[0].metadata == {"mood": "good"}

        request, changes = await answered(
            server, connection.get_changes_since("d", 1, {"token": "t"}), [CHANGE]
        )
        assert (request["method"], request["params"]) == (
            "getChangesSince",
            ["d", 1, {"token": "t"}],
        )
        assert changes == [change]

        request, answer = await answered(
            server,
            connection.commit_changes("d", [change]),
            {"changes": [CHANGE], "docReloadRequired": True},
        )
        assert (request["method"], request["params"]) == ("commitChanges", ["d", [CHANGE]])
        assert answer.changes == [change]
        assert answer.doc_reload_required

        request, granted = await answered(server, connection.subscribe(["d", "e"]), ["d"])
        assert (request["method"], request["params"]) == ("subscribe", [["d", "e"]])
        assert granted == ["d"]
        request, removed = await answered(server, connection.unsubscribe(["d"]), ["d"])
        assert (request["method"], request["params"], removed) == ("unsubscribe", [["d"]], ["d"])
        request, _ = await answered(server, connection.delete_doc("d"), None)
        assert (request["method"], request["params"]) == ("deleteDoc", ["d"])
        request, undeleted = await answered(server, connection.undelete_doc("d"), True)
        assert (request["method"], undeleted) == ("undeleteDoc", True)


@pytest.mark.parametrize(
    "result",
    [None, 3, [], {"rev": "1"}, {"rev": 1, "changes": 5}, {"rev": 1, "changes": [{"id": "x"}]}],
    ids=str,
)
def test_an_answer_that_is_no_document_fails_the_call(result: Any) -> None:
    @virtual_time
    async def run() -> None:
        async with connected() as (connection, server):
            with pytest.raises(JSONRPCError, match="expected"):
                await answered(server, connection.get_doc("d"), result)

    run()


@virtual_time
async def test_notifications_are_routed_and_unreadable_ones_reported() -> None:
    got: list[Any] = []
    async with connected() as (connection, server):
        connection.on_changes_committed(lambda doc_id, changes: got.append((doc_id, len(changes))))
        connection.on_doc_deleted(lambda doc_id: got.append(doc_id))
        connection.on_notification(lambda method, params: got.append(method))
        connection.on_error(lambda error: got.append(type(error)))
        for method, params in (
            ("changesCommitted", {"docId": "d", "changes": [CHANGE]}),
            ("changesCommitted", {"docId": "d", "changes": []}),
            ("docDeleted", {"docId": "d"}),
            ("rowsCame", {"docId": "d"}),
            ("changesCommitted", {"docId": "d", "changes": "x"}),
            ("changesCommitted", {"docId": 7, "changes": []}),
            ("docDeleted", None),
        ):
            await server.send(codec.encode({"jsonrpc": "2.0", "method": method, "params": params}))
        await idle()
    assert got == [("d", 1), ("d", 0), "d", "rowsCame", JSONRPCError, JSONRPCError, JSONRPCError]


@virtual_time
async def test_a_lost_connection_rejects_what_is_in_flight() -> None:
    async with connected() as (connection, server):
        call = asyncio.ensure_future(connection.get_doc("d"))
        await server.receive()
        server.cut()
        with pytest.raises(NetworkError):
            await call


@virtual_time
async def test_a_transport_that_says_error_and_no_more_rejects_what_is_in_flight_too() -> None:
    network = MemoryNetwork()
    transport = memory_transport(network)
    connection = RpcConnection(transport)
    await connection.connect()
    call = asyncio.ensure_future(connection.get_doc("d"))
    await idle()
    transport.on_state_change.emit("error")
    with pytest.raises(NetworkError):
        async with asyncio.timeout(1):  # not after 30 s of silence
            await call
    await connection.disconnect()


@virtual_time
async def test_disconnect_rejects_what_is_in_flight() -> None:
    async with connected() as (connection, server):
        call = asyncio.ensure_future(connection.get_doc("d"))
        await server.receive()
        await connection.disconnect()
        with pytest.raises(NetworkError):
            await call

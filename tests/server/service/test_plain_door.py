"""Rights, limits and back pressure are no matter of JSON-RPC: another door has them as well."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from patches.errors import UnauthorizedError
from patches.limits import Limits
from patches_server.algorithms import services_on
from patches_server.service.server import PatchesServer
from patches_server.stores.memory.backend import MemoryBackend
from tests.server.service.plain_door import PlainDoor

CHANGE: dict[str, Any] = {"id": "c1", "ops": [{"op": "replace", "path": "/a", "value": 1}]}


class Doorman:
    """Everybody may read and write what is theirs, and what begins with "all"."""

    async def authenticate(self, request: Any) -> str:
        if not isinstance(request, dict) or not isinstance(request.get("token"), str):
            raise UnauthorizedError("a token, please")
        return str(request["token"])

    async def can_access(self, principal: str, doc_id: str, *_: object) -> bool:
        return doc_id.startswith((principal, "all"))


class Client:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, *line: Any) -> None:
        self.writer.write(json.dumps(line).encode() + b"\n")

    async def next(self) -> Any:
        async with asyncio.timeout(10):
            line = await self.reader.readline()
        return json.loads(line) if line else None

    async def call(self, id: str, name: str, *params: Any) -> Any:
        """The answer to a call; what comes before it is passed over."""
        self.send(id, name, *params)
        while (line := await self.next())[0] != id:
            pass
        return line


class Place:
    """A running server with a plain door."""

    def __init__(self, server: PatchesServer, port: int) -> None:
        self.server, self.port = server, port
        self.clients: list[Client] = []

    async def connect(self, hello: Any) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        client = Client(reader, writer)
        writer.write(json.dumps(hello).encode() + b"\n")
        self.clients.append(client)
        return client


@asynccontextmanager
async def a_place(**limits: Any) -> AsyncIterator[Place]:
    backend = MemoryBackend()
    services = services_on(backend)
    server = PatchesServer(
        services, auth=Doorman(), relay=False, limits=Limits(**limits), drain_s=1.0
    )
    async with server:
        listener = await asyncio.start_server(
            PlainDoor(server).serve, "127.0.0.1", 0, limit=server.limits.max_frame_bytes
        )
        place = Place(server, listener.sockets[0].getsockname()[1])
        try:
            yield place
        finally:
            listener.close()
            for client in place.clients:
                client.writer.close()
            while server.sessions:  # noqa: ASYNC110  # nothing else runs
                await asyncio.sleep(0.001)


async def test_two_peers_sync_a_document() -> None:
    async with a_place() as place:
        ann, bob = await place.connect({"token": "ann"}), await place.connect({"token": "bob"})
        for peer in (ann, bob):
            assert (await peer.next())[0] == "welcome"
        assert await bob.call("1", "subscribe", ["all/plan"]) == ["1", "ok", ["all/plan"]]
        [id, outcome, result] = await ann.call("1", "commitChanges", "all/plan", [CHANGE])
        assert (id, outcome) == ("1", "ok")
        method, told = await bob.next()
        assert (method, told["changes"]) == ("changesCommitted", result["changes"])
        assert len((await bob.call("2", "getChangesSince", "all/plan", 0))[2]) == 1


async def test_rights_and_limits_hold_here_too() -> None:
    async with a_place(requests_burst=3, requests_per_s=1.0, max_connections_per_principal=1) as (
        place
    ):
        stranger = await place.connect(["what?"])
        assert await stranger.next() == ["refused", 401, "a token, please"]
        ann = await place.connect({"token": "ann"})
        await ann.next()
        again = await place.connect({"token": "ann"})
        assert (await again.next())[:2] == ["refused", 429]
        refused = await ann.call("1", "commitChanges", "bob's", [CHANGE])
        assert refused == ["1", "error", 403, "WRITE_FORBIDDEN:bob's"]
        assert await ann.call("2", "subscribe", ["bob's", "ann's"]) == ["2", "ok", ["ann's"]]
        assert (await ann.call("3", "nonsense"))[2:] == [-32000, "Unknown method 'nonsense'."]
        ann.send("4", "getDoc", "ann's")
        assert (await ann.next())[1:3] == ["error", 429]


async def test_answers_wait_for_a_slow_peer_and_broadcasts_end_it() -> None:
    async with a_place(max_response_buffer_bytes=1_000_000) as place:
        documents = place.server.router.services["ot"].documents
        await documents.change("all/large", lambda patch: patch.add("/text", "x" * 500_000))
        slow = await place.connect({"token": "slow"})
        await slow.next()
        assert (await slow.call("0", "subscribe", ["all/news"]))[1] == "ok"
        for number in range(1, 101):
            slow.send(str(number), "getDoc", "all/large")
        for number in range(1, 101):
            assert (await slow.next())[:2] == [str(number), "ok"]
        [session] = place.server.sessions.values()
        slow.reader._transport.pause_reading()  # type: ignore[attr-defined]  # it reads no more
        news = 0
        while session.outbox.closing is None:
            news += 1
            await documents.change("all/news", lambda patch: patch.replace("/n", "x" * 100_000))
        assert session.outbox.closing.code == 1013
        assert news > 10


def test_the_door_is_short() -> None:
    assert len(inspect.getsource(inspect.getmodule(PlainDoor) or PlainDoor).splitlines()) < 100

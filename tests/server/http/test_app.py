"""The aiohttp application: upgrade, health, limits on connecting, real sockets."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from patches.errors import InvalidRequestError, UnauthorizedError
from patches.limits import Limits
from patches.model import codec
from patches_server.auth.access import Principal, allow_all
from patches_server.http.app import SERVER, create_app
from patches_server.service.server import PatchesServer
from patches_server.stores.sqlite import SqliteBackend

Client: TypeAlias = TestClient[Any, Any]
Start: TypeAlias = Callable[..., Awaitable[Client]]

_ids = itertools.count(1)


@pytest.fixture
def start(aiohttp_client: Any) -> Start:
    """Starts an application with the options given, in memory and allowing everything."""

    async def started(**options: Any) -> Client:
        app = create_app(**{"auth": allow_all, "relay": False, **options})
        client: Client = await aiohttp_client(app)
        return client

    return started


def server_of(client: Client) -> PatchesServer:
    assert isinstance(client.server, TestServer)
    return client.server.app[SERVER]


async def call(ws: Any, method: str, *params: Any) -> Any:
    """The answer to a request; notifications before it are passed over."""
    request_id = next(_ids)
    await ws.send_str(
        codec.encode_text(
            {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}
        )
    )
    while True:
        answer = await ws.receive_json(timeout=5)
        if answer.get("id") == request_id:
            return answer


def change(change_id: str, value: Any, *, base_rev: int = 0, **op: Any) -> dict[str, Any]:
    ops = [{"op": "replace", "path": "/a", "value": value, **op}]
    return {"id": change_id, "baseRev": base_rev, "rev": base_rev + 1, "ops": ops}


async def test_documents_are_served_at_ws(start: Start) -> None:
    client = await start()
    async with client.ws_connect("/ws") as one, client.ws_connect("/ws") as two:
        await call(two, "subscribe", "d")
        result = (await call(one, "commitChanges", "d", [change("c1", 1)]))["result"]
        assert result["changes"][0]["rev"] == 1
        assert (await two.receive_json(timeout=5))["params"]["changes"] == result["changes"]
        lww = [change("c2", 1, ts=5)]
        result = (await call(one, "commitChanges", "lww/d", lww))["result"]
        assert result["changes"][0]["ops"][0]["rev"] == 1


async def test_what_is_committed_outlives_the_server(start: Start, tmp_path: Path) -> None:
    for round_ in range(2):
        client = await start(store=f"sqlite:///{tmp_path}/docs.db")
        async with client.ws_connect("/ws") as ws:
            if round_ == 0:
                await call(ws, "commitChanges", "d", [change("c1", "kept")])
            changes = (await call(ws, "getChangesSince", "d", 0))["result"]
            assert [item["id"] for item in changes] == ["c1"]
        await client.close()


async def test_without_auth_everything_is_denied(start: Start) -> None:
    client = await start(auth=None)
    async with client.ws_connect("/ws") as ws:
        assert (await call(ws, "getDoc", "d"))["error"]["code"] == 403


async def test_health_and_readiness(start: Start) -> None:
    client = await start()
    for path in ("/healthz", "/readyz"):
        async with client.get(path) as answer:
            assert answer.status == 200
    await server_of(client).close()
    async with client.get("/readyz") as answer:
        assert answer.status == 503
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await client.ws_connect("/ws")
    assert caught.value.status == 503


async def test_readiness_is_the_stores_and_no_documents(tmp_path: Path, start: Start) -> None:
    """Whatever a document of that name is."""
    backend = SqliteBackend(tmp_path / "server.db")
    await backend.epoch()
    with closing(sqlite3.connect(tmp_path / "server.db")) as conn, conn:
        conn.execute("INSERT INTO server_documents VALUES ('readyz', 'other', 0, 0)")
    client = await start(store=backend)
    async with client.get("/readyz") as answer:
        assert answer.status == 200
    await backend.close()
    async with client.get("/readyz") as answer:
        assert answer.status == 503


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        ("http://{host}", (), 101),
        ("http://evil.example", (), 403),
        ("null", (), 403),
        ("http://{host}.evil.example", (), 403),
        ("https://app.example", ("https://app.example",), 101),
        ("https://app.example", ("*",), 101),
    ],
)
async def test_pages_of_other_sites_may_not_connect(
    start: Start, origin: str, allowed: tuple[str, ...], status: int
) -> None:
    client = await start(allowed_origins=allowed)
    host = f"{client.host}:{client.port}"
    headers = {"Origin": origin.format(host=host)}
    if status == 101:
        async with client.ws_connect("/ws", headers=headers):
            return
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await client.ws_connect("/ws", headers=headers)
    assert caught.value.status == status


class TokenAuth:
    """Takes the token that comes as a second sub-protocol."""

    async def authenticate(self, request: Any) -> Principal:
        token = request.headers.get("Sec-WebSocket-Protocol", "").split(",")[-1].strip()
        if token != "secret":
            raise UnauthorizedError("no such token")
        return Principal(id="ann")

    async def can_access(self, principal: Principal, doc_id: str, *_: object) -> bool:
        return doc_id.startswith(f"{principal.id}/")


async def test_the_principal_comes_from_the_http_request(start: Start) -> None:
    client = await start(auth=TokenAuth())
    async with client.ws_connect("/ws", protocols=("patches", "secret")) as ws:
        assert ws.protocol == "patches"
        assert "result" in await call(ws, "getDoc", "ann/d")
        assert (await call(ws, "getDoc", "bob/d"))["error"]["code"] == 403
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await client.ws_connect("/ws", protocols=("patches", "wrong"))
    assert caught.value.status == 401


async def test_connections_are_limited(start: Start) -> None:
    limits = Limits(max_connections=2, max_connections_per_principal=1)
    client = await start(auth=TokenAuth(), limits=limits)
    protocols = ("patches", "secret")
    async with client.ws_connect("/ws", protocols=protocols):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect("/ws", protocols=protocols)
        assert caught.value.status == 429
    client = await start(limits=limits)
    async with client.ws_connect("/ws"), client.ws_connect("/ws"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await client.ws_connect("/ws")
        assert caught.value.status == 503


async def test_closing_ends_connections_with_1001(start: Start) -> None:
    client = await start()
    async with client.ws_connect("/ws") as ws:
        await call(ws, "getDoc", "d")
        await server_of(client).close()
        message = await ws.receive(timeout=5)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)


async def test_a_frame_above_the_hard_limit_closes_with_1009(start: Start) -> None:
    client = await start(limits=Limits(max_frame_bytes=1_000))
    async with client.ws_connect("/ws") as ws, client.ws_connect("/ws") as other:
        await ws.send_str("x" * 2_000)
        message = await ws.receive(timeout=5)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
        assert "result" in await call(other, "getDoc", "d")


async def test_invalid_utf8_is_a_parse_error_and_a_binary_frame_is_read(start: Start) -> None:
    client = await start()
    async with client.ws_connect("/ws") as ws:
        await ws.send_frame(b'{"id":1,"method":"\xff"}', aiohttp.WSMsgType.TEXT)
        assert (await ws.receive_json(timeout=5))["error"]["code"] == -32700
        await ws.send_bytes(b'{"id":2,"method":"getDoc","params":["d"]}')
        assert (await ws.receive_json(timeout=5))["result"]["rev"] == 0


async def test_a_cut_connection_leaves_nothing_behind(start: Start) -> None:
    client = await start(relay=True)
    server = server_of(client)
    ended = asyncio.Event()
    ws = await client.ws_connect("/ws")
    await call(ws, "subscribe", ["a", "b"])
    [session] = server.sessions.values()
    end = session.end

    def end_and_tell() -> None:
        end()
        ended.set()

    session.end = end_and_tell  # type: ignore[method-assign]  # to know when
    assert ws._response.connection is not None
    assert ws._response.connection.transport is not None
    ws._response.connection.transport.abort()
    async with asyncio.timeout(5):
        await ended.wait()
    assert server.relay is not None
    assert (len(server.sessions), len(server.hub), len(server.relay)) == (0, 0, 0)
    await ws.close()


async def test_bad_settings_are_refused_at_once() -> None:
    with pytest.raises(InvalidRequestError, match="no store for"):
        create_app(store="mongodb://x")
    with pytest.raises(InvalidRequestError, match="no algorithm"):
        create_app(routes={"a": "crdt"})


async def test_the_page_is_served_where_it_is_wanted(start: Start) -> None:
    client = await start(page=True)
    async with client.get("/") as answer:
        assert answer.status == 200
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    for path in ("/nothing.js", "/../app.py", "/%2e%2e/app.py", "/index.py"):
        async with client.get(path) as answer:
            assert answer.status == 404, path
    client = await start()
    async with client.get("/") as answer:
        assert answer.status == 404


async def test_an_application_of_ones_own_may_mount_it(aiohttp_client: Any) -> None:
    outer = web.Application()
    outer.add_subapp("/sync/", create_app(auth=allow_all))
    client: Client = await aiohttp_client(TestServer(outer))
    async with client.ws_connect("/sync/ws") as ws:
        assert "result" in await call(ws, "getDoc", "d")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("store", 7),
        ("store", "nonsense:"),
        ("auth", "allow-all"),
        ("routes", "board/*=lww"),
        ("routes", [("board/*",)]),
        ("routes", {"board/*": 7}),
        ("routes", {"board/*": "crdt"}),
        ("limits", {"max_frame_bytes": 5}),
        ("runtime", "now"),
        ("services", {"mine": object()}),
        ("services", ["mine"]),
        ("allowed_origins", "app.example.com"),
        ("relay", "no"),
        ("page", None),
        ("durability", "maybe"),
        ("reauth_s", -1),
        ("reauth_s", "300"),
        ("reauth_s", float("nan")),
        ("validate", "rules"),
        ("hide_existence", 1),
        ("drain_s", None),
        ("drain_s", float("inf")),
        ("metrics", "yes"),
    ],
)
def test_every_setting_is_checked_where_it_is_given(setting: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        create_app(**{setting: value})
    assert "object has no attribute" not in str(refused.value)
    names = (setting.removesuffix("s"), "origin", "store")
    assert any(name in str(refused.value) for name in names)


async def test_a_page_of_a_name_that_was_made_to_point_here_may_not_connect(start: Start) -> None:
    client = await start()
    rebound = {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect("/ws", headers=rebound)
    assert refused.value.status == 403
    through_a_proxy = {**rebound, "X-Forwarded-For": "192.0.2.1"}
    async with client.ws_connect("/ws", headers=through_a_proxy):
        pass
    async with client.ws_connect("/ws", headers={"Host": "evil.example:8000"}):
        pass


async def test_a_name_of_its_own_is_no_matter_where_people_sign_in(start: Start) -> None:
    class Door:
        async def authenticate(self, request: web.Request) -> str:
            return "ann"

        async def can_access(self, *_: object) -> bool:
            return True

    client = await start(auth=Door())
    headers = {"Host": "docs.example", "Origin": "http://docs.example"}
    async with client.ws_connect("/ws", headers=headers):
        pass

"""`POST /rpc`: one call, held to what a call over a socket is held to."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from patches.errors import ChangeRefusedError, UnauthorizedError
from patches.limits import Limits
from patches_server import SERVER, Principal, create_app

CHANGE = {"id": "c1", "ops": [{"op": "replace", "path": "/a", "value": 1}]}


class Members:
    async def authenticate(self, request: Any) -> Principal:
        name = request.headers.get("X-Name")
        if name is None:
            raise UnauthorizedError("please sign in")
        return Principal(id=name)

    async def can_access(self, principal: Any, _doc_id: str, kind: str, *_call: Any) -> bool:
        return kind == "read" or principal.id == "ann"


def refuse(_principal: Any, _doc_id: str, changes: Any) -> None:
    if any(op.get("value") == "bad" for change in changes for op in change.ops):
        raise ChangeRefusedError(changes[0].id, "no bad words")


@pytest.fixture
async def http() -> Any:
    limits = Limits(max_frame_bytes=200_000, max_change_bytes=100_000)
    app = create_app(auth=Members(), validate=refuse, limits=limits)
    async with TestClient(TestServer(app), headers={"X-Name": "ann"}) as client:
        yield client


async def call(http: Any, method: str, *params: Any, **request: Any) -> tuple[int, Any]:
    frame = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
    async with http.post("/rpc", json=frame, **request) as answer:
        assert answer.content_type == "application/json"
        return answer.status, await answer.json()


async def test_a_call_is_answered_with_its_frame(http: Any) -> None:
    status, committed = await call(http, "commitChanges", "d", [CHANGE])
    assert (status, committed["id"]) == (200, 7)
    assert committed["result"]["changes"][0]["rev"] == 1
    status, read = await call(http, "getDoc", "d")
    assert (status, len(read["result"]["changes"])) == (200, 1)
    await call(http, "commitChanges", "d", [CHANGE])
    read = (await call(http, "getDoc", "d"))[1]
    assert len(read["result"]["changes"]) == 1, "sent again, it counts once"


async def test_those_who_follow_see_what_is_posted_and_nobody_is_present(http: Any) -> None:
    async with http.ws_connect("/ws") as socket:
        frame = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": [["d"]]}
        await socket.send_json(frame)
        while (await socket.receive_json()).get("id") != 1:
            pass
        await call(http, "getDoc", "d")
        await call(http, "commitChanges", "d", [CHANGE])
        heard = await socket.receive_json(timeout=10)
        assert (heard["method"], heard["params"]["docId"]) == ("changesCommitted", "d")
        assert len(http.server.app[SERVER].sessions) == 1, "the callers are gone"


@pytest.mark.parametrize("method", ["subscribe", "unsubscribe", "peer-signal"])
async def test_what_needs_a_stream_is_refused(http: Any, method: str) -> None:
    status, answer = await call(http, method, ["d"])
    assert status == 200
    assert answer["error"]["code"] == 400
    assert answer["error"]["message"].endswith("needs a websocket or an event stream")


async def test_rights_rules_and_sign_in_are_those_of_a_socket(http: Any) -> None:
    ben = {"headers": {"X-Name": "ben"}}
    assert (await call(http, "commitChanges", "d", [CHANGE], **ben))[1]["error"]["code"] == 403
    bad = {"id": "c2", "ops": [{"op": "replace", "path": "/a", "value": "bad"}]}
    refused = (await call(http, "commitChanges", "d", [bad]))[1]["error"]
    assert (refused["code"], refused["message"]) == (400, "no bad words")
    async with aiohttp.ClientSession() as nobody:
        async with nobody.post(http.make_url("/rpc"), json={}) as answer:
            assert (answer.status, await answer.json()) == (401, {"message": "please sign in"})
    evil = {"headers": {"X-Name": "ann", "Origin": "https://elsewhere.example"}}
    assert (await call(http, "getDoc", "d", **evil))[0] == 403


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 200, -32700),
        (b"{", 200, -32700),
        (b"[]", 200, -32600),
        (b'"x"', 200, -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"nonsense"}', 200, -32000),
        (b"\xff\xfe", 200, -32700),
        (b"[" * 100_000, 200, 400),
        (b"x" * 300_000, 413, None),
    ],
)
async def test_bad_input_gets_a_clear_answer(
    http: Any, body: bytes, status: int, code: int | None
) -> None:
    async with http.post("/rpc", data=body) as answer:
        assert answer.status == status
        said = await answer.json()
    if code is not None:
        assert said["error"]["code"] == code
    else:
        assert said == {"message": "the body is larger than 200000 bytes (max_frame_bytes)"}
    assert (await call(http, "getDoc", "d"))[0] == 200


async def test_a_notification_is_not_answered(http: Any) -> None:
    async with http.post("/rpc", json={"jsonrpc": "2.0", "method": "getDoc", "params": []}) as sent:
        assert (sent.status, await sent.read()) == (204, b"")


async def test_a_server_that_closes_says_so(http: Any) -> None:
    await http.server.app[SERVER].close()
    async with http.post("/rpc", json={"jsonrpc": "2.0", "id": 1, "method": "getDoc"}) as answer:
        assert answer.status == 503


async def test_many_at_once(http: Any) -> None:
    changes = [
        {"id": f"c{n}", "ops": [{"op": "@inc", "path": "/n", "value": 1}]} for n in range(40)
    ]
    await asyncio.gather(*(call(http, "commitChanges", "d", [change]) for change in changes))
    _, read = await call(http, "getDoc", "d")
    assert read["result"]["changes"][-1]["rev"] == 40

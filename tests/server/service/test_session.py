"""One peer's conversation: answers, refusals, order and the bound on what is under way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from patches.limits import Limits


async def test_a_call_is_answered_under_its_id(connect: Any) -> None:
    peer = connect()
    await peer.send(b'{"jsonrpc":"2.0","id":"abc","method":"getDoc","params":["d"]}')
    assert (
        await peer.next_bytes()
        == b'{"jsonrpc":"2.0","id":"abc","result":{"state":null,"rev":0,"changes":[]}}'
    )


async def test_a_method_that_returns_nothing_is_answered_without_a_result(connect: Any) -> None:
    peer = connect()
    await peer.start("deleteDoc", "d")
    assert await peer.next_bytes() == b'{"jsonrpc":"2.0","id":1}'


async def test_absent_params_are_no_arguments_and_other_values_the_first_one(connect: Any) -> None:
    peer = connect()
    message = "INVALID_REQUEST: docId is required (got {})"
    for params, got in [
        ("", "undefined"),
        (',"params":[""]', "empty string"),
        (',"params":[null]', "null"),
        (',"params":null', "null"),
        (',"params":[7]', "7"),
        (',"params":[true]', "true"),
        (',"params":{"docId":"d"}', "[object Object]"),
    ]:
        await peer.send(f'{{"jsonrpc":"2.0","id":1,"method":"getDoc"{params}}}')
        assert (await peer.next())["error"] == {"code": 400, "message": message.format(got)}
    await peer.send('{"id":2,"method":"undeleteDoc","params":"d"}')
    assert (await peer.next())["result"] is False


INVALID = (
    '{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Invalid Request","data":%s}}'
)


@pytest.mark.parametrize(
    ("frame", "answer"),
    [
        (
            '{"jsonrpc": "2.0", oops',
            '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error","data":{}}}',
        ),
        (
            '{"jsonrpc":"2.0","id":5}',
            INVALID % "5",
        ),
        (
            '[{"jsonrpc":"2.0","id":1,"method":"getDoc","params":["d"]}]',
            INVALID % "null",
        ),
        (
            "42",
            INVALID % "null",
        ),
        (
            '{"id":[1],"method":"getDoc","params":["d"]}',
            INVALID % "null",
        ),
    ],
    ids=["not JSON", "no method", "a batch", "a number", "an id that is a list"],
)
async def test_what_is_no_request_gets_the_recorded_answer(
    connect: Any, frame: str, answer: str
) -> None:
    peer = connect()
    await peer.send(frame)
    assert (await peer.next_bytes()).decode() == answer
    assert await peer.result("getChangesSince", "d", 0) == []


async def test_an_id_of_null_is_answered_and_no_id_is_not(connect: Any, documents: Any) -> None:
    peer = connect()
    await peer.send('{"jsonrpc":"2.0","method":"deleteDoc","params":["d"]}')
    await peer.send('{"jsonrpc":"2.0","method":"whatever","params":[]}')
    await peer.send('{"jsonrpc":"2.0","id":null,"method":"getChangesSince","params":["d",9]}')
    assert await peer.next_bytes() == b'{"jsonrpc":"2.0","id":null,"result":[]}'
    assert not documents.deleted, "a request sent as a notification is not carried out"


@pytest.mark.parametrize("name", ["noSuchMethod", "__init__", "get_doc", "store", "on"])
async def test_only_the_table_leads_from_a_name_to_code(connect: Any, name: str) -> None:
    error = await connect().error(name, "d")
    assert error == {"code": -32000, "message": f"Unknown method '{name}'."}


async def test_an_unforeseen_error_tells_nothing_but_a_reference(
    connect: Any, documents: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("SELECT secret FROM /var/lib/x")

    documents.get_doc = fail
    error = await connect().error("getDoc", "d")
    assert error["code"] == -32000
    assert error["message"] == "Server error"
    assert list(error["data"]) == ["ref"]
    assert error["data"]["ref"] in caplog.text


async def test_calls_on_one_document_keep_their_order(connect: Any, documents: Any) -> None:
    peer = connect()
    documents.gate.clear()
    first = await peer.start("commitChanges", "d", [{"id": "c1", "ops": []}])
    second = await peer.start("commitChanges", "d", [{"id": "c2", "ops": []}])
    read = await peer.start("getChangesSince", "d", 0)
    other = await peer.start("getChangesSince", "elsewhere", 0)
    assert (await peer.answer(other))["result"] == [], "another document does not wait"
    assert documents.entered == ["c1"]
    documents.gate.set()
    assert (await peer.answer(first))["result"]["changes"][0]["rev"] == 1
    assert (await peer.answer(second))["result"]["changes"][0]["rev"] == 2
    assert [change["id"] for change in (await peer.answer(read))["result"]] == ["c1", "c2"]


async def test_reading_stops_while_too_many_calls_are_under_way(serve: Any, documents: Any) -> None:
    peer = (await serve(limits=Limits(max_inflight_requests=2)))()
    documents.gate.clear()
    for doc_id in ("a", "b"):
        await peer.start("commitChanges", doc_id, [{"id": f"c-{doc_id}", "ops": []}])
    third = asyncio.ensure_future(peer.start("getDoc", "c"))
    await asyncio.sleep(0)
    assert not third.done()
    documents.gate.set()
    async with asyncio.timeout(5):
        await peer.answer(await third)


async def test_a_lost_socket_does_not_cut_off_a_commit(connect: Any, documents: Any) -> None:
    peer, other = connect(), connect()
    await other.result("subscribe", "d")
    documents.gate.clear()
    await peer.start("commitChanges", "d", [{"id": "c1", "ops": []}])
    await asyncio.sleep(0)
    peer.session.end()
    documents.gate.set()
    assert (await other.notification("changesCommitted"))["changes"][0]["id"] == "c1"


async def test_the_client_id_of_a_change_is_the_connections(connect: Any) -> None:
    peer = connect()
    change = {"id": "c1", "ops": [], "clientId": "forged"}
    result = await peer.result("commitChanges", "d", [change])
    assert result["changes"][0]["clientId"] == peer.id


async def test_a_burst_over_the_rate_is_told_when_to_come_back(serve: Any) -> None:
    peer = (await serve(limits=Limits(requests_per_s=1.0, requests_burst=2)))()
    for _ in range(2):
        await peer.result("getChangesSince", "d", 0)
    error = await peer.error("getChangesSince", "d", 0)
    assert error["code"] == 429
    assert 0 < error["data"]["retryAfterMs"] <= 1000


async def test_too_many_bytes_of_commits_are_refused_with_the_wait(serve: Any) -> None:
    limits = Limits(commit_bytes_per_s=100.0, commit_bytes_burst=300)
    peer = (await serve(limits=limits))()
    change = {"id": "c1", "ops": [{"op": "replace", "path": "/a", "value": "x" * 200}]}
    await peer.result("commitChanges", "d", [change])
    error = await peer.error("commitChanges", "d", [{**change, "id": "c2"}])
    assert error["code"] == 429
    assert await peer.result("getChangesSince", "d", 1) == [], "nothing of it was done"


async def test_a_large_commit_is_charged_once(serve: Any) -> None:
    limits = Limits(commit_bytes_per_s=1.0, commit_bytes_burst=250_000)
    peer = (await serve(limits=limits))()
    change = {"id": "c1", "ops": [{"op": "replace", "path": "/a", "value": "x" * 100_000}]}
    for change_id in ("c1", "c2"):
        assert "result" in await peer.call("commitChanges", "d", [{**change, "id": change_id}])
    assert (await peer.error("commitChanges", "d", [{**change, "id": "c3"}]))["code"] == 429


async def test_closing_waits_for_the_calls_under_way(serve: Any, documents: Any) -> None:
    connect = await serve()
    peer = connect()
    documents.gate.clear()
    call = await peer.start("commitChanges", "d", [{"id": "c1", "ops": []}])
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(connect.server.close())
    await asyncio.sleep(0)
    documents.gate.set()
    await closing
    assert (await peer.answer(call))["result"]["changes"][0]["id"] == "c1"
    assert peer.session.outbox.closing.code == 1001

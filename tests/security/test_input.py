"""Threats in bytes and JSON (`docs/internals/reliability.md` 4.2)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from patches.errors import StorageError
from patches.limits import Limits
from patches.model import codec
from patches_server.stores.sqlite.backend import SqliteBackend

OP = {"op": "replace", "path": "/a", "value": 1}


async def commit_raw(peer: Any, doc_id: str, ops: str) -> Any:
    """Commit operations that are given as JSON text."""
    change = f'{{"id":"c1","ops":{ops}}}'
    await peer.send(
        f'{{"jsonrpc":"2.0","id":"raw","method":"commitChanges","params":["{doc_id}",[{change}]]}}'
    )
    return await peer.answer("raw")


def value(text: str) -> str:
    return f'[{{"op":"replace","path":"/a","value":{text}}}]'


async def nothing_stored(peer: Any, doc_id: str = "d") -> bool:
    return bool(await peer.result("getChangesSince", doc_id, 0) == [])


@pytest.mark.parametrize("depth", [61, 130, 300, 2_000, 100_000])
async def test_t17_deep_values_are_refused_under_their_id(connect: Any, depth: int) -> None:
    peer = connect()
    answer = await commit_raw(peer, "d", value("[" * depth + "]" * depth))
    assert answer["error"]["code"] == 400
    assert await nothing_stored(peer)


async def test_t17_a_document_does_not_grow_too_deep_step_by_step(connect: Any) -> None:
    peer = connect()
    path = ""
    for step in range(200):
        path += "/x"
        ops = [{"op": "add", "path": path, "value": {}}]
        answer = await peer.call("commitChanges", "d", [{"id": f"c{step}", "ops": ops}])
        if "error" in answer:
            break
    assert answer["error"]["data"]["scope"] == "change"
    assert "changes" in await peer.result("getDoc", "d")


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9007199254740993", "1" * 5_000]
)
async def test_t18_numbers_that_no_browser_holds_are_refused(connect: Any, number: str) -> None:
    for doc_id in ("d", "lww/d"):
        peer = connect()
        answer = await commit_raw(peer, doc_id, value(number))
        assert answer["error"]["code"] == 400, answer
        assert await nothing_stored(peer, doc_id)


async def test_t19_half_an_emoji_passes_through_unharmed(connect: Any) -> None:
    author, reader = connect(), connect()
    await reader.result("subscribe", ["d", "lww/d"])
    for doc_id in ("d", "lww/d"):
        answer = await commit_raw(author, doc_id, value('"\\ud83d"'))
        assert answer["result"]["changes"][0]["ops"][0]["value"] == "\ud83d"
        told = await reader.notification("changesCommitted")
        assert told["changes"][0]["ops"][0]["value"] == "\ud83d"
        assert "\\ud83d" in json.dumps(await reader.result("getDoc", doc_id))


async def test_t20_duplicate_keys_and_broken_bytes(connect: Any) -> None:
    peer = connect()
    await peer.send('{"id":1,"method":"nothing","method":"getChangesSince","params":["d",0]}')
    assert (await peer.answer(1))["result"] == []
    for frame in (b"\xef\xbb\xbf{}", b'{"id":1}x', b"\xff", b'{"id":1,"method":"\xc3"}', b""):
        await peer.send(frame)
        assert (await peer.next())["error"]["code"] == -32700


@pytest.mark.parametrize(
    "ops",
    [
        '[{"op":"replace","path":"/__proto__/x","value":1}]',
        '[{"op":"add","path":"/a","value":{"__proto__":{"x":1}}}]',
        '[{"op":"replace","path":"/constructor/prototype/x","value":1}]',
        '[{"op":"move","from":"/__proto__","path":"/a"}]',
    ],
)
async def test_t21_keys_that_hurt_javascript_are_refused(connect: Any, ops: str) -> None:
    for doc_id in ("d", "lww/d"):
        peer = connect()
        answer = await commit_raw(peer, doc_id, ops)
        assert answer["error"]["data"] == {"changeId": "c1", "scope": "change"}
        assert await nothing_stored(peer, doc_id)
    assert "result" in await commit_raw(connect(), "d", value('{"constructor":1,"toString":2}'))


async def test_t24_a_deleted_document_stays_deleted(connect: Any) -> None:
    peer, other = connect(), connect()
    for doc_id in ("d", "lww/d"):
        change = {"id": "c1", "ops": [OP], "baseRev": 0}
        await peer.result("commitChanges", doc_id, [change])
        await peer.result("deleteDoc", doc_id)
        for each in (peer, other):
            for fields in ({"baseRev": 0}, {"baseRev": 1}, {}):
                error = await each.error("commitChanges", doc_id, [{**change, **fields}])
                assert error["code"] == 410
                assert error["data"].keys() == {"deletedAt", "lastRev"}
        assert (await peer.error("getDoc", doc_id))["code"] == 410
        assert await peer.result("subscribe", [doc_id]) == []
        assert await peer.notification("docDeleted") == {"docId": doc_id}
        assert await peer.result("undeleteDoc", doc_id) is True
        assert await nothing_stored(peer, doc_id)


async def test_t25_batches_and_ids_of_odd_types(connect: Any) -> None:
    peer = connect()
    for frame in ([{"id": 1, "method": "getDoc", "params": ["d"]}] * 3, [], 7, "x", None, True):
        await peer.send(codec.encode(frame))
        assert (await peer.next())["error"]["code"] == -32600
    odd: list[Any] = [{}, [], True]
    for request_id in odd:
        await peer.send({"id": request_id, "method": "getDoc", "params": ["d"]})
        assert (await peer.next())["error"]["code"] == -32600
    for good_id in ("", "x", 0, -1, 1.5, None):
        await peer.send({"id": good_id, "method": "getChangesSince", "params": ["d", 0]})
        assert await peer.next() == {"jsonrpc": "2.0", "id": good_id, "result": []}
    for _ in range(2):
        await peer.send({"id": 5, "method": "getChangesSince", "params": ["d", 0]})
    assert [(await peer.next())["id"] for _ in range(2)] == [5, 5], "each of two equal ids"


@pytest.mark.parametrize(
    "part",
    [{"retain": -1}, {"retain": 2**31}, {"delete": 1.5}, {"delete": True}, {"retain": "1"}],
    ids=repr,
)
async def test_t26_lengths_in_text_are_small_whole_numbers(connect: Any, part: Any) -> None:
    ops = [{"op": "@txt", "path": "/t", "value": [part, {"insert": "x"}]}]
    error = await connect().error("commitChanges", "d", [{"id": "c1", "ops": ops}])
    assert error["data"] == {"changeId": "c1", "scope": "change"}


@pytest.mark.parametrize(
    "changes",
    [
        "x",
        {},
        [{"id": "ok", "ops": [OP]}, "x"],
        [{"id": "ok", "ops": [OP]}, {"id": "bad", "ops": {}}],
        [{"id": "ok", "ops": [OP]}, {"id": "bad", "ops": [{**OP, "op": "explode"}]}],
        [{"id": "ok", "ops": [OP]}, {"id": "bad", "ops": [OP], "baseRev": -1}],
        [{"id": "ok", "ops": [OP]}, {"id": "bad", "ops": [{**OP, "ts": "x"}]}],
    ],
    ids=repr,
)
async def test_t27_confused_types_leave_nothing_half_applied(connect: Any, changes: Any) -> None:
    for doc_id in ("d", "lww/d"):
        peer = connect()
        assert (await peer.error("commitChanges", doc_id, changes))["code"] == 400
        assert await nothing_stored(peer, doc_id)


async def test_t30_errors_leave_no_trace_of_the_inside(connect: Any) -> None:
    peer = connect()

    async def fails(*_: Any, **__: Any) -> None:
        raise OSError(13, "Permission denied", "/home/ann/secret.db")

    connect.server.router.services["ot"].documents.get_doc = fails
    answer = json.dumps(await peer.call("getDoc", "d"))
    for leak in ("Traceback", "secret", "home", ".py", "OSError", "Permission"):
        assert leak not in answer


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "after a part"])
async def test_t30_a_merge_that_fails_does_not_repeat_what_the_store_said(
    serve: Any, begun: bool
) -> None:
    connect = await serve()
    peer = connect()
    await peer.result("commitChanges", "d", [{"id": "c1", "ops": [OP]}])
    branch = await peer.result("createBranch", "d", 1)
    await peer.result("commitChanges", branch, [{"id": "c2", "ops": [OP]}])
    if begun:
        await peer.result("commitChanges", "d", [{"id": "c3", "ops": [OP], "baseRev": 1}])

    for error, code in ((StorageError("/home/ann/s.db: full"), 503), (KeyError("s.db"), -32000)):

        async def fails(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        connect.server.router.services["ot"].documents.commit_as = fails
        told = await peer.error("mergeBranch", branch)
        assert told["code"] == code
        assert told["data"]["ref"]
        assert "s.db" not in str(told)


async def test_t27_options_of_odd_types_are_refused_and_leave_nothing(
    serve: Any, tmp_path: Path
) -> None:
    peer = (await serve(backend=SqliteBackend(tmp_path / "s.db")))()
    for doc_id in ("d", "lww/d"):
        await peer.result("commitChanges", doc_id, [{"id": "c1", "ops": [OP]}])
        for options in ({"origin": "\ud83d"}, {"groupId": "\ud83d"}, {"groupId": 7}):
            assert (await peer.error("listVersions", doc_id, options))["code"] == 400
        odd: Any
        for odd in ("x", -5, 1.5, True, {"a": 1}, 2**60):
            branch = {"id": f"{doc_id}/branch", "contentStartRev": odd}
            assert (await peer.error("createBranch", doc_id, 1, branch))["code"] == 400, odd
        assert await peer.result("listBranches", doc_id) == []


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        *(("-1", [1, 2, 3]), ("1e3", [1, 2, 3]), ("\u0661", [1, 2, 3]), ("9" * 20, [1, 2, 3])),
        *(("01", [1, 9, 2, 3]), ("", [9, 1, 2, 3]), ("-", [1, 2, 3, 9]), ("+1", [1, 2, 3])),
    ],
)
async def test_t22_odd_array_places_are_read_as_everywhere(
    connect: Any, segment: str, expected: list[int]
) -> None:
    peer = connect()
    made = {"id": "c1", "ops": [{"op": "replace", "path": "/l", "value": [1, 2, 3]}], "baseRev": 0}
    await peer.result("commitChanges", "d", [made])
    odd = {"op": "add", "path": f"/l/{segment}", "value": 9}
    await peer.result("commitChanges", "d", [{"id": "c2", "ops": [odd], "baseRev": 1}])
    version = await peer.result("createVersion", "d", {})
    assert await peer.result("getVersionState", "d", version) == {"l": expected}


@pytest.mark.parametrize("path", ["l", "l/0", "~", "#/l", " /l", 7, None, [], {}], ids=repr)
async def test_t22_what_is_no_pointer_is_refused(connect: Any, path: Any) -> None:
    for doc_id in ("d", "lww/d"):
        peer = connect()
        ops = [{"op": "replace", "path": path, "value": 1}]
        error = await peer.error("commitChanges", doc_id, [{"id": "c1", "ops": ops}])
        assert error["data"] == {"changeId": "c1", "scope": "change"}
        assert await nothing_stored(peer, doc_id)


async def test_t23_copies_of_copies_stop_at_the_size_of_a_document(serve: Any) -> None:
    peer = (await serve(limits=Limits(max_doc_bytes=100_000)))()
    ops: list[dict[str, Any]] = [{"op": "replace", "path": "/a", "value": {"text": "x" * 1_000}}]
    await peer.result("commitChanges", "d", [{"id": "c0", "ops": ops, "baseRev": 0}])
    for number in range(1, 30):
        ops = [{"op": "copy", "from": "/a", "path": f"/a/k{number}"}]
        change = {"id": f"c{number}", "ops": ops, "baseRev": number}
        answer = await peer.call("commitChanges", "d", [change])
        if "error" in answer:
            break
    assert answer["error"]["code"] == 413
    assert answer["error"]["data"]["limit"] == "max_doc_bytes"
    version = await peer.result("createVersion", "d", {})
    state = await peer.result("getVersionState", "d", version)
    assert 1_000 < len(json.dumps(state)) <= 110_000
    ops = [{"op": "remove", "path": "/a"}]
    assert "result" in await peer.call(
        "commitChanges", "d", [{"id": "smaller", "ops": ops, "baseRev": number - 1}]
    )


@pytest.mark.parametrize(
    "text", ["/constructor" * 300, "/" * 60, "/__proto" * 400, '"id":"' * 500, '"params" ' * 300]
)
async def test_t28_no_text_makes_a_pattern_slow(connect: Any, text: str) -> None:
    peer = connect()
    before = time.process_time()
    for _ in range(50):
        await commit_raw(peer, "d", value(json.dumps(text)).replace('"/a"', json.dumps(text)))
        await peer.send(text)
        await peer.next()
        await peer.call("listVersions", text)
    assert time.process_time() - before < 2.0  # a pattern that backtracks takes years


def test_t29_nothing_of_ours_fixes_the_hash_seed() -> None:
    root = Path(__file__).parents[2]
    files = [root / "Makefile", root / "pyproject.toml"]
    for package in ("patches", "patches_server"):
        files += (root / package).rglob("*.py")
    assert len(files) > 100
    assert [f for f in files if "PYTHONHASHSEED" in f.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("nasty", ["%", "_", "a%b", "a_b", "'; DROP TABLE ot_heads; --", '"', "\\"])
async def test_t15_nothing_a_peer_sends_is_sql(serve: Any, tmp_path: Path, nasty: str) -> None:
    peer = (await serve(backend=SqliteBackend(tmp_path / "s.db")))()
    for doc_id in (f"d/{nasty}", f"lww/{nasty}"):
        await peer.result("commitChanges", doc_id, [{"id": nasty, "ops": [OP]}])
        below = [
            {"op": "replace", "path": f"/{nasty}", "value": {"in": 1}},
            {"op": "replace", "path": f"/{nasty}/in", "value": 2},
            {"op": "replace", "path": "/axb", "value": 3},
            {"op": "remove", "path": f"/{nasty}"},
        ]
        for number, op in enumerate(below, start=1):
            change = {"id": f"{nasty}{number}", "ops": [op], "baseRev": number}
            await peer.result("commitChanges", doc_id, [change])
        version = await peer.result("createVersion", doc_id, {"name": nasty})
        assert await peer.result("getVersionState", doc_id, version) == {"a": 1, "axb": 3}
        listed = await peer.result("listVersions", doc_id, {"origin": nasty, "groupId": nasty})
        assert listed == []
        assert (await peer.error("listVersions", doc_id, {"orderBy": nasty}))["code"] == 400
        assert await peer.result("getChangesSince", doc_id + "x", 0) == []

"""What a raw websocket gets for each kind of bad input, and that nothing stored changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp

from tests.collections.test_scenarios_server import DOC, Stage

ROW = {"id": "b", "owner": "u1", "title": "t"}
REFUSED: list[tuple[Any, int, str | None]] = [
    ([{"op": "add", "path": "/tasks/a", "value": {**ROW, "id": "a"}}], 409, "ROW_EXISTS"),
    ([{"op": "replace", "path": "/tasks/x/votes", "value": 1}], 409, "ROW_NOT_FOUND"),
    (
        [
            {"op": "test", "path": "/tasks/a/votes", "value": 3},
            {"op": "replace", "path": "/tasks/a/votes", "value": 4},
        ],
        409,
        "EXPECTATION_FAILED",
    ),
    ([{"op": "add", "path": "/tasks/b", "value": {**ROW, "owner": "u2"}}], 403, "DENIED"),
    ([{"op": "add", "path": "/labels/l", "value": {"id": "l", "name": "n"}}], 403, "DENIED"),
    ([{"op": "add", "path": "/tasks/b", "value": {**ROW, "title": "twice"}}], 409, "CONSTRAINT"),
    ([{"op": "add", "path": "/tasks/b", "value": {**ROW, "title": "broken"}}], 503, None),
    ([{"op": "add", "path": '/ta"sks; DROP TABLE tasks/b', "value": ROW}], 400, None),
    ([{"op": "replace", "path": "/tasks/a/no such column", "value": 1}], 400, None),
    ([{"op": "replace", "path": "/tasks/a/votes", "value": "1; --"}], 400, None),
    ([{"op": "replace", "path": "/tasks/a/votes", "value": 2**53}], 400, None),
    ([{"op": "replace", "path": "/tasks/a/tags", "value": {"a": 1}}], 400, None),
    ([{"op": "replace", "path": "/tasks/a/title", "value": "\ud800"}], 400, None),
    ([{"op": "add", "path": f"/tasks/{'k' * 201}", "value": ROW}], 400, None),
    ([{"op": "copy", "from": "/tasks/a", "path": "/tasks/b"}], 400, None),
    ([{"op": "add", "path": "", "value": {}}], 400, None),
    (["not an operation"], 400, None),
    (
        [{"op": "remove", "path": f"/tasks/k{number}"} for number in range(1_001)],
        413,
        None,
    ),
    ([{"op": "replace", "path": "/tasks/a/title", "value": "x" * 262_144}], 413, None),
]


async def test_each_refusal_names_its_change_and_changes_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "boards")
    async with stage.server, aiohttp.ClientSession() as session:
        await stage.sql("CREATE UNIQUE INDEX once ON tasks (title) WHERE title = 'twice'")
        for key, title in (("a", "t"), ("c", "twice")):
            await stage.documents.push(DOC, "tasks", id=key, owner="u1", title=title)
        url = await stage.server.url()
        async with session.ws_connect(url, headers={"X-User": "u1"}) as socket:

            async def call(number: int, method: str, *params: Any) -> dict[str, Any]:
                frame = {"jsonrpc": "2.0", "id": number, "method": method, "params": [DOC, *params]}
                await socket.send_str(json.dumps(frame))
                while True:
                    answer: dict[str, Any] = json.loads(await socket.receive_str(timeout=10))
                    if answer.get("id") == number:
                        return answer

            before = (await call(0, "getDoc"))["result"]
            for number, (ops, code, reason) in enumerate(REFUSED, start=1):
                change = {"id": f"c{number}", "ops": ops}
                answer = await call(number, "commitChanges", [change])
                assert "error" in answer, (ops, answer)
                error = answer["error"]
                assert error["code"] == code, (ops, error)
                if code == 503:
                    assert error["data"]["ref"]
                    continue
                assert error["data"]["scope"] == "change", (ops, error)
                assert error["data"]["changeId"] == change["id"]
                assert error["data"].get("code") == reason
            after = (await call(900, "getDoc"))["result"]
            assert (after["state"], after["rev"]) == (before["state"], before["rev"])
            stale = await call(901, "getChangesSince", 99)
            assert (stale["error"]["code"], stale["error"]["data"]["scope"]) == (409, "doc")
            subset = {"id": "s", "table": "cards", "where": ["=", "1 OR 1=1", 1]}
            assert (await call(902, "loadSubset", subset))["error"]["code"] == 400

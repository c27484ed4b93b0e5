"""A server without actions: what it commits, and whom it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import ChangeRefusedError
from patches.model.change import ChangeInput
from patches_server.documents.context import CallContext, call_context
from patches_server.replay.server import ReplayServer
from patches_server.stores.memory.backend import MemoryBackend

DOC = "lists/1"
ROW = {"id": "a", "title": "Milk", "audience": "*"}


def a_server(**settings: Any) -> ReplayServer:
    return ReplayServer(MemoryBackend(), None, **settings)


def change(change_id: str, *ops: Any, base_rev: int = 0, **metadata: Any) -> ChangeInput:
    return ChangeInput(
        id=change_id,
        ops=list(ops),
        base_rev=base_rev,
        metadata={
            "kind": "action",
            "action": {"name": "add@1", "args": {}},
            "clock": [int(change_id.strip("c")), 0, "me"],
            **metadata,
        },
    )


def put(key: str = "a", **columns: Any) -> dict[str, Any]:
    return {"op": "add", "path": f"/todos/{key}", "value": {**ROW, "id": key, **columns}}


def correction(*ops: Any, **more: Any) -> dict[str, Any]:
    return {"ops": list(ops), "corrects": ["c1"], "failed": [], **more}


async def test_operations_are_committed_with_the_audience_of_their_row() -> None:
    server = a_server()
    gone = {"op": "remove", "path": "/todos/none"}
    title = {"op": "replace", "path": "/todos/a/title", "value": "Tea", "aud": "forged"}
    await server.commit_changes(DOC, [change("c1", put(), gone)])
    (made,) = (await server.commit_changes(DOC, [change("c2", title, base_rev=1)])).changes
    assert made.ops == [{"op": "replace", "path": "/todos/a/title", "value": "Tea", "aud": "*"}]
    assert made.metadata["runner"] == "client"
    assert await server.state(DOC) == {"todos": {"a": {**ROW, "title": "Tea"}}}
    first = (await server.get_changes_since(DOC, 0))[0]
    assert [op["path"] for op in first.ops] == ["/todos/a"]  # what did nothing is not kept


async def test_who_is_behind_is_answered_with_what_is_missing_and_nothing_is_committed() -> None:
    server = a_server()
    await server.commit_changes(DOC, [change("c1", put())])
    answer = (await server.commit_changes(DOC, [change("c2", put("b"))])).changes
    assert [each.id for each in answer] == ["c1"]
    assert await server.store.get_current_rev(DOC) == 1
    again = (await server.commit_changes(DOC, [change("c1", put())])).changes
    assert [each.id for each in again] == ["c1"]


async def test_what_was_run_together_is_committed_together() -> None:
    server = a_server()
    await server.commit_changes(DOC, [change("c1", put())])
    failed = [{"id": "c1", "name": "add@1", "message": "full"}]
    remove = {"op": "remove", "path": "/todos/a"}
    batch = [
        change("c2", put("b"), base_rev=1, group=2),
        change("c3", put("c"), base_rev=1, sync=correction(remove, failed=failed)),
    ]
    with pytest.raises(ChangeRefusedError, match="only 1 of the 2") as caught:
        await server.commit_changes(DOC, batch[:1])
    assert caught.value.data is not None
    assert caught.value.data["code"] == "GROUP_INCOMPLETE"
    changes = (await server.commit_changes(DOC, batch)).changes
    assert [each.metadata["kind"] for each in changes] == ["action", "action", "sync"]
    assert changes[-1].metadata["group"] == 2
    assert changes[-1].metadata["failed"] == [{**failed[0], "client": "me"}]
    assert "group" not in changes[0].metadata
    assert sorted((await server.state(DOC))["todos"]) == ["b", "c"]


async def test_what_corrects_nothing_is_no_change_and_keeps_the_others_together() -> None:
    server = a_server()
    batch = [change("c2", put("b"), group=2), change("c3", put("c"), sync=correction())]
    changes = (await server.commit_changes(DOC, batch)).changes
    assert [each.metadata.get("group") for each in changes] == [None, 1]
    assert await server.compact(DOC) == 0


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"kind": "other"}, "expected an action"),
        ({"clock": None}, r"expected \[ms, n, client\]"),
        ({"action": None}, "expected {name, args}"),
        ({"group": 0}, "group: expected a number"),
        ({"sync": {}}, "sync: expected {ops, corrects, failed}"),
        ({"sync": correction(failed=[{}])}, "of what failed"),
        ({"sync": correction(corrects=[1])}, "corrects: expected ids"),
        ({"sync": correction({"op": "test", "path": "/a"})}, "operation 0"),
        ({"kind": "sync", "corrects": None}, "corrects: expected ids"),
    ],
)
async def test_what_is_malformed_is_refused(bad: dict[str, Any], problem: str) -> None:
    server = a_server()
    with pytest.raises(ChangeRefusedError, match=problem) as caught:
        await server.commit_changes(DOC, [change("c1", put()), change("c2", put("b"), **bad)])
    assert (caught.value.change_id, caught.value.code) == ("c2", 400)
    assert await server.store.get_current_rev(DOC) == 0
    assert await server.state(DOC) == {}


@pytest.mark.parametrize(
    "op",
    [
        {"op": "add", "path": "/Todos/a", "value": ROW},
        {"op": "add", "path": "/_patches_x/a", "value": ROW},
        {"op": "add", "path": "/todos/a", "value": {**ROW, "no name": 1}},
        {"op": "add", "path": "/todos", "value": {}},
        {"op": "replace", "path": "/todos/a/id", "value": "b"},
        {"op": "replace", "path": "/todos/a/audience", "value": "b"},
        {"op": "move", "path": "/todos/a", "from": "/todos/b"},
    ],
    ids=str,
)
async def test_what_is_no_row_of_a_table_is_refused(op: dict[str, Any]) -> None:
    server = a_server()
    with pytest.raises(ChangeRefusedError):
        await server.commit_changes(DOC, [change("c1", op)])
    assert await server.state(DOC) == {}


async def test_a_row_of_others_is_not_written_and_nothing_of_the_change_is_left() -> None:
    server = a_server(audiences=lambda context: {"*", f"user:{context.principal}"})
    own, foreign = put("b", audience="user:ann"), put("c", audience="user:bob")

    async def as_user(name: str, *changes: ChangeInput) -> Any:
        with call_context(CallContext(principal=name)):
            return (await server.commit_changes(DOC, list(changes))).changes

    await as_user("ann", change("c1", put(), own))
    with pytest.raises(ChangeRefusedError, match="user:bob") as caught:
        await as_user("ann", change("c2", put("d"), foreign, base_rev=1))
    assert caught.value.code == 403
    hidden = {"op": "replace", "path": "/todos/b/title", "value": "x"}
    with pytest.raises(ChangeRefusedError, match="user:ann"):
        await as_user("bob", change("c3", put(), hidden, base_rev=1, clock=[3, 0, "bob"]))
    assert sorted((await server.state(DOC))["todos"]) == ["a", "b"]
    (seen,) = await as_user("bob", change("c4", put("e"), base_rev=1, clock=[4, 0, "bob"]))
    assert seen.metadata["rights"] == ["*", "user:bob"]
    with call_context(CallContext(principal="ann")):
        changes = await server.get_changes_since(DOC, 1)
    assert changes[0].metadata["rights"] == ["*"]  # no more than the reader has, too

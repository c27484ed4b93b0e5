"""`move`, `copy` and `test` on last-write-wins documents, as another client sends them."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import ChangeRefusedError
from patches.limits import Limits
from patches.model import codec
from patches.model.change import ChangeInput
from patches.model.json_values import Json, Op
from patches_server.lww.server import LWWServer
from patches_server.lww.state import state_of
from patches_server.stores.memory.backend import MemoryBackend

START: Json = {"a": {"x": 1}, "l": ["p", "q", "r"], "n": 5}


async def started(**options: Any) -> LWWServer:
    server = LWWServer(MemoryBackend(), **options)
    ops = [{"op": "replace", "path": f"/{key}", "value": value} for key, value in START.items()]
    await commit(server, "start", *ops)
    return server


async def commit(server: LWWServer, change_id: str, *ops: Op, base_rev: int = 0) -> list[Op]:
    change = ChangeInput.from_wire({"id": change_id, "ops": list(ops), "baseRev": base_rev})
    result = await server.commit_changes("d", [change])
    answered: list[Op] = result.changes[0].ops
    return answered


async def state(server: LWWServer) -> Json:
    return state_of(await server.store.load_rows("d", now=0))


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        (
            [{"op": "move", "from": "/n", "path": "/m"}],
            {"a": {"x": 1}, "l": ["p", "q", "r"], "m": 5},
        ),
        ([{"op": "move", "from": "/a/x", "path": "/x"}], {**START, "a": {}, "x": 1}),
        ([{"op": "move", "from": "/l/0", "path": "/l/2"}], {**START, "l": ["q", "r", "p"]}),
        ([{"op": "copy", "from": "/a", "path": "/b"}], {**START, "b": {"x": 1}}),
        ([{"op": "copy", "from": "/l/0", "path": "/l/0"}], {**START, "l": ["p", "p", "q", "r"]}),
        (
            [
                {"op": "replace", "path": "/a/y", "value": 2},
                {"op": "copy", "from": "/a", "path": "/b"},
                {"op": "@inc", "path": "/n", "value": 1},
            ],
            {**START, "a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "n": 6},
        ),
        (
            [
                {"op": "test", "path": "/n", "value": 5},
                {"op": "replace", "path": "/n", "value": 7},
            ],
            {**START, "n": 7},
        ),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_they_are_stored_as_what_they_write(ops: list[Op], expected: Json) -> None:
    server = await started()
    await commit(server, "c", *ops)
    assert await state(server) == expected
    stored = await server.store.load_rows("d", now=0)
    assert {row.op["op"] for row in stored.rows} <= {"replace", "remove"}


async def test_a_failed_test_drops_its_change_and_tells_the_sender_what_is_there() -> None:
    server = await started()
    ops = [
        {"op": "replace", "path": "/n", "value": 6},
        {"op": "test", "path": "/a/x", "value": 2},
    ]
    answered = await commit(server, "c", *ops, base_rev=1)
    assert await state(server) == START
    assert {op["path"]: op["value"] for op in answered} == {"/n": 5}


async def test_what_has_nothing_to_take_is_left_out_and_the_rest_is_stored() -> None:
    server = await started()
    await commit(server, "gone", {"op": "remove", "path": "/a"}, base_rev=1)
    move = {"op": "move", "from": "/a", "path": "/b"}
    answered = await commit(
        server, "c", move, {"op": "replace", "path": "/n", "value": 6}, base_rev=1
    )
    assert await state(server) == {"l": ["p", "q", "r"], "n": 6}
    assert {(op["op"], op["path"]) for op in answered} == {("remove", "/a"), ("replace", "/n")}


async def test_a_repetition_moves_nothing_again() -> None:
    server = await started()
    swap = {"op": "move", "from": "/l/0", "path": "/l/2"}
    for _ in range(2):
        await commit(server, "c", swap, base_rev=1)
    assert (await state(server))["l"] == ["q", "r", "p"]


async def test_they_write_with_their_own_time() -> None:
    server = await started()
    await commit(server, "c", {"op": "copy", "from": "/n", "path": "/m", "ts": 1_000})
    [row] = (await server.store.load_rows("d", now=0, paths=["/m"])).rows
    assert (row.ts, row.op["value"]) == (1_000, 5)


@pytest.mark.parametrize(
    ("limits", "limit"),
    [(Limits(max_doc_bytes=10_000), "max_doc_bytes"), (Limits(max_doc_depth=9), "max_doc_depth")],
)
async def test_copies_that_double_a_document_are_refused_unbuilt(
    limits: Limits, limit: str
) -> None:
    server = await started(limits=limits)
    bomb = [{"op": "copy", "from": "/a", "path": f"/a/k{n}"} for n in range(200)]
    with pytest.raises(ChangeRefusedError) as refused:
        await commit(server, "bomb", *bomb)
    assert refused.value.data is not None
    assert refused.value.data["limit"] == limit
    assert len(codec.encode(await state(server))) < 100

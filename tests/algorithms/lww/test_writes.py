"""What recorded operations become on an LWW document."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.lww import LWWDoc
from patches.errors import PatchError, UnsupportedOperationError
from patches.json_patch import apply_patch
from patches.model.change import Snapshot
from patches.model.json_values import Json, Op, json_equal


def put(path: str, value: Json, **fields: Json) -> Op:
    return {"op": "replace", "path": path, "value": value, **fields}


def remove(path: str) -> Op:
    return {"op": "remove", "path": path}


STATE: dict[str, Json] = {
    "list": [1, 2, 3],
    "items": [{"id": "a", "tags": ["x"]}, {"id": "b", "tags": []}],
    "group": {"a": 1, "list": [0]},
    "n": 5,
    "none": None,
    "zero": 0,
    "text": "abc",
}


def opened(state: Json = STATE) -> LWWDoc:
    return LWWDoc("doc", Snapshot(state=state, rev=1))


CASES: dict[str, tuple[list[Op], list[Op]]] = {
    "a member is written as it is": ([put("/n", 6)], [put("/n", 6)]),
    "a removal too": ([remove("/group/a")], [remove("/group/a")]),
    "a deep new member too": ([put("/new/deep/x", 1)], [put("/new/deep/x", 1)]),
    "an empty container is soft": (
        [{"op": "add", "path": "/new", "value": {}}],
        [{"op": "add", "path": "/new", "value": {}}],
    ),
    "an append is the whole list": (
        [{"op": "add", "path": "/list/-", "value": 4}],
        [put("/list", [1, 2, 3, 4])],
    ),
    "an insert is the whole list": (
        [{"op": "add", "path": "/list/0", "value": 0}],
        [put("/list", [0, 1, 2, 3])],
    ),
    "a removal from a list is the whole list": ([remove("/list/1")], [put("/list", [1, 3])]),
    "an element is the whole list": ([put("/list/1", 9)], [put("/list", [1, 9, 3])]),
    "many edits of a list are one write": (
        [{"op": "add", "path": "/list/-", "value": i} for i in (4, 5, 6)],
        [put("/list", [1, 2, 3, 4, 5, 6])],
    ),
    "a list in an element is written at its path": (
        [{"op": "add", "path": "/items/0/tags/-", "value": "y"}],
        [put("/items/0/tags", ["x", "y"])],
    ),
    "a member of an element is a field": ([put("/items/1/id", "c")], [put("/items/1/id", "c")]),
    "a list that an add makes is written whole": (
        [{"op": "add", "path": "/new/0", "value": 1}],
        [put("/new", [1])],
    ),
    "a write past the end of a list is the list": (
        [put("/items/3/id", "d")],
        [put("/items", [*STATE["items"], None, {"id": "d"}])],
    ),
    "a move within a list is the list": (
        [{"op": "move", "from": "/list/0", "path": "/list/2"}],
        [put("/list", [2, 3, 1])],
    ),
    "a move of a member removes and writes": (
        [{"op": "move", "from": "/group/a", "path": "/moved"}],
        [remove("/group/a"), put("/moved", 1)],
    ),
    "a move from a list to a member": (
        [{"op": "move", "from": "/list/0", "path": "/first"}],
        [put("/list", [2, 3]), put("/first", 1)],
    ),
    "a move from a member into a list": (
        [{"op": "move", "from": "/n", "path": "/list/0"}],
        [remove("/n"), put("/list", [5, 1, 2, 3])],
    ),
    "a move up over its own parent": (
        [{"op": "move", "from": "/group/a", "path": "/group"}],
        [put("/group", 1)],
    ),
    "a move below itself": (
        [{"op": "move", "from": "/group", "path": "/group/old"}],
        [remove("/group"), put("/group/old", {"a": 1, "list": [0]})],
    ),
    "a move within one element's list": (
        [{"op": "move", "from": "/items/0", "path": "/items/0/tags/0"}],
        [put("/items", [{"id": "b", "tags": [{"id": "a", "tags": ["x"]}]}])],
    ),
    "a move onto itself is nothing": ([{"op": "move", "from": "/n", "path": "/n"}], []),
    "a copy is a write": ([{"op": "copy", "from": "/n", "path": "/m"}], [put("/m", 5)]),
    "a copy into a list is the list": (
        [{"op": "copy", "from": "/n", "path": "/list/0"}],
        [put("/list", [5, 1, 2, 3])],
    ),
    "a test is left out": (
        [{"op": "test", "path": "/n", "value": 5}, put("/n", 6)],
        [put("/n", 6)],
    ),
    "a test sees what was written before it": (
        [put("/n", 6), {"op": "test", "path": "/n", "value": 6}],
        [put("/n", 6)],
    ),
    "below null, the null is replaced": ([put("/none/x", 1)], [put("/none", {"x": 1})]),
    "below zero too": ([put("/zero/x/y", 1)], [put("/zero", {"x": {"y": 1}})]),
    "a removal below null is nothing": ([remove("/none/x")], []),
    "a root removal is an empty document": ([remove("")], [put("", {})]),
    "an increment stays one": (
        [{"op": "@inc", "path": "/n", "value": 2}],
        [{"op": "@inc", "path": "/n", "value": 2}],
    ),
    "an increment in a list is the list": (
        [{"op": "@inc", "path": "/list/0", "value": 2}],
        [put("/list", [3, 2, 3])],
    ),
    "an increment below a new object is its result": (
        [put("/stats", {"n": 5}), {"op": "@inc", "path": "/stats/n", "value": 2}],
        [put("/stats", {"n": 5}), put("/stats/n", 7)],
    ),
    "a delta of another kind is its result": (
        [{"op": "@inc", "path": "/n", "value": 2}, {"op": "@max", "path": "/n", "value": 50}],
        [{"op": "@inc", "path": "/n", "value": 2}, put("/n", 50)],
    ),
    "a maximum of null is its result": (
        [{"op": "@max", "path": "/none", "value": -4}],
        [put("/none", -4)],
    ),
    "a list edit after a write to the list": (
        [put("/fresh", []), {"op": "add", "path": "/fresh/-", "value": 1}],
        [put("/fresh", [1])],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_an_edit_becomes(name: str) -> None:
    ops, writes = CASES[name]
    doc = opened()
    expected = apply_patch(STATE, ops, strict=True)
    assert doc.prepare_ops(ops) == writes
    if writes and ops != [remove("")]:
        doc.take_ops(ops)
        assert json_equal(doc.state, expected)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ({"op": "@txt", "path": "/text", "value": [{"insert": "x"}]}, "set the whole text"),
        ({"op": "@inc", "path": "/n", "value": 1, "soft": True}, "cannot be soft"),
    ],
)
def test_what_a_field_cannot_hold_is_refused_with_the_way_out(op: Op, message: str) -> None:
    doc = opened()
    with pytest.raises(UnsupportedOperationError, match=message):
        doc.apply([op])
    assert doc.state == STATE
    assert not doc.unsaved


@pytest.mark.parametrize(
    "op",
    [
        {"op": "test", "path": "/n", "value": 6},
        {"op": "move", "from": "/nope", "path": "/x"},
        {"op": "copy", "from": "/nope", "path": "/x"},
        {"op": "@inc", "path": "/group", "value": 1},
        {"op": "@inc", "path": "/text", "value": 1},
        {"op": "@inc", "path": "/none", "value": "x"},
        put("/text/x", 1),
        put("/list/9", 1),
        remove("/list/9"),
        {"op": "zap", "path": "/n"},
        {"op": "replace", "value": 1},
    ],
)
def test_what_cannot_be_applied_raises_and_changes_nothing(op: Op) -> None:
    doc = opened()
    with pytest.raises(PatchError):
        doc.take_ops([put("/before", 1), op])
    assert doc.state is not None
    assert doc.state == STATE
    assert not doc.unsaved


def test_text_in_a_draft_says_what_to_do_instead() -> None:
    doc = opened()
    with pytest.raises(UnsupportedOperationError, match="OT document"):
        doc.change(lambda draft: draft.text("body").insert(0, "Dear all, "))
    assert doc.state == STATE


def test_a_draft_edits_lists_and_counters() -> None:
    def edit(draft: Any) -> None:
        draft["list"].append(4)
        draft["list"][0] = 9
        draft["items"][0]["id"] = "z"
        draft.increment("n", 2)
        del draft["group"]["a"]
        draft["new"] = {"deep": []}

    doc = opened()
    doc.change(edit)
    assert doc.state["list"] == [9, 2, 3, 4]
    assert doc.state["items"][0]["id"] == "z"
    assert (doc.state["n"], doc.state["new"]) == (7, {"deep": []})
    names = {op["path"]: op["op"] for op in doc.unsaved[0]}
    assert names["/list"] == "replace"
    assert names["/n"] == "@inc"
    assert not any(path.startswith("/list/") for path in names)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_writes_lead_where_the_operations_do(seed: int) -> None:
    source = random.Random(seed)
    paths = ["/list", "/list/0", "/list/-", "/items/0/tags", "/items/0/tags/0", "/group", "/none"]
    paths += ["/group/a", "/group/list/0", "/n", "/new/0", "/new/x", "/items/1", "/none/x", "/zero"]
    ops: list[Op] = []
    state: Json = STATE
    for _ in range(source.randint(1, 6)):
        kind = source.choice(("add", "replace", "remove", "move", "copy", "add", "replace"))
        op: Op = {"op": kind, "path": source.choice(paths)}
        if kind in ("move", "copy"):
            op["from"] = source.choice(paths)
        elif kind != "remove":
            op["value"] = source.choice((1, "x", [], {}, [7], {"k": [1]}, None))
        try:
            state = apply_patch(state, [op], strict=True)
        except PatchError:
            continue
        ops.append(op)
    writes = opened().prepare_ops(ops)
    assert json_equal(apply_patch(STATE, writes, strict=True), state)
    names = {(op["op"], op["path"]) for op in writes}
    assert not any(name in ("move", "copy", "test") for name, _ in names)

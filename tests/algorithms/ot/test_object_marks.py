"""Edits of members whose keys look like indexes are marked, and merge as members do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from patches.algorithms.ot import OTDoc
from patches.algorithms.ot.object_marks import mark_object_keys
from patches.model.change import Snapshot
from patches.model.json_values import Json, Op
from tests.support.ot_scene import Client, Server

STATE: Json = {"y": {"5": 1, "6": {"7": 2}}, "l": [{"1": 0}, [3], {}], "t": {}}


def written(edit: Callable[[Any], object]) -> list[Op]:
    doc = OTDoc("doc", Snapshot(state=STATE, rev=1))
    doc.change(edit)
    return doc.unsaved[-1]


@pytest.mark.parametrize(
    ("edit", "marks"),
    [
        (lambda d: d.y.pop("5"), [True]),
        (lambda d: d.y.update({"8": 1}), [True]),
        (lambda d: d.y["6"].update({"0": 1}), [True]),
        (lambda d: d.l[0].increment("1"), [True]),
        (lambda d: d.y.setdefault("9", {}), [True]),
        (lambda d: d.y.text("3").insert(0, "a"), [True]),
        (lambda d: d.move("/y/5", "/y/7"), [True]),
        (lambda d: d.move("/y/5", "/l/0"), ["from"]),
        (lambda d: d.copy("/l/0", "/y/7"), ["path"]),
        (lambda d: d.move("/y/5", "/z"), [True]),
        (lambda d: d.l.append(1), [None]),
        (lambda d: d.move("/l/0", "/l/2"), [None]),
        (lambda d: d.y.update(name=1), [None]),
        (lambda d: d.y.update({"01": 1}), [None]),
        (lambda d: (d.l.insert(0, 1), d.y.update({"8": 1}), d.l.pop()), [None, True, None]),
    ],
    ids=[
        "remove", "set", "nested", "increment", "setdefault", "text", "move", "move to a list",
        "copy of an element", "move to a name", "append", "move in a list", "a name", "no index",
        "several",
    ],
)  # fmt: skip
def test_what_a_draft_writes_is_marked(edit: Callable[[Any], object], marks: list[Json]) -> None:
    assert [op.get("obj") for op in written(edit)] == marks


def test_operations_and_whole_states_are_marked_too() -> None:
    doc = OTDoc("doc", Snapshot(state=STATE, rev=1))
    doc.apply([{"op": "remove", "path": "/y/5"}, {"op": "add", "path": "/l/0", "value": 1}])
    assert [op.get("obj") for op in doc.unsaved[-1]] == [True, None]
    doc.set({"y": {"6": {"7": 3}}, "l": doc.state["l"], "t": {}})
    assert [op.get("obj") for op in doc.unsaved[-1]] == [True]


@pytest.mark.parametrize(
    ("state", "ops", "marks"),
    [
        ({}, [{"op": "replace", "path": "/m/5", "value": 1}], [True]),
        ({}, [{"op": "add", "path": "/m/0", "value": 1}], [None]),
        ({}, [{"op": "@inc", "path": "/m/0", "value": 1}], [True]),
        (
            {"l": [0, [1, 2], {}]},
            [{"op": "move", "from": "/l/0", "path": "/l/1/7"}],
            ["path"],
        ),
        (
            {"m": []},
            [
                {"op": "replace", "path": "/m", "value": {}},
                {"op": "add", "path": "/m/3", "value": 1},
            ],
            [None, True],
        ),
    ],
    ids=["made by replace", "made as a list", "made by @inc", "after a removal", "within the edit"],
)
def test_the_container_counts_as_it_is_when_the_operation_runs(
    state: Json, ops: list[Op], marks: list[Json]
) -> None:
    assert [op.get("obj") for op in mark_object_keys(state, ops)] == marks


def test_an_edit_without_such_keys_stays_the_same_list() -> None:
    for ops in ([{"op": "replace", "path": "/a", "value": 1}], [{"op": "remove", "path": "/l/0"}]):
        assert mark_object_keys(STATE, ops) is ops


async def test_users_keyed_by_number_keep_their_names() -> None:
    server = Server().make({"y": {"5": 1}})
    client = await Client().open()
    await client.pull(server)
    client.doc.change(lambda draft: draft.y.pop("5"))
    await client.save(client.doc.unsaved[-1])
    server.edit({"op": "replace", "path": "/y/7", "value": 9})
    await client.pull(server)
    await client.push(server)
    assert client.doc.state == server.state == {"y": {"7": 9}}
    assert server.log[-1].ops == [{"op": "remove", "path": "/y/5", "obj": True}]


def test_text_parts_of_length_0_are_taken_out_of_an_edit() -> None:
    doc = OTDoc("doc", Snapshot(state=STATE, rev=1))
    doc.change(lambda draft: draft.text("body").apply([{"retain": 0}, {"insert": "x"}]))
    assert doc.unsaved[-1] == [{"op": "@txt", "path": "/body", "value": [{"insert": "x"}]}]

"""Taking a change out of a pending queue, with what is nothing without it."""

from __future__ import annotations

from typing import Any

import pytest

from patches.algorithms.ot.ejection import compute_pending_ejection
from patches.json_patch import apply_patch
from patches.model.change import Change
from patches.model.json_values import Op

STATE: dict[str, Any] = {"a": 1, "empty": None, "list": [1, 2]}


def queue(*edits: list[Op]) -> list[Change]:
    return [
        Change(id=f"c{n}", ops=ops, base_rev=1, rev=1 + n, created_at=1)
        for n, ops in enumerate(edits, 1)
    ]


def put(path: str, value: Any) -> Op:
    return {"op": "replace", "path": path, "value": value}


@pytest.mark.parametrize(
    "first",
    [
        pytest.param([put("/new/x", 1)], id="below nothing"),
        pytest.param([put("/new/x/y", 1)], id="two levels below nothing"),
        pytest.param([put("/empty/x", 1)], id="below null"),
        pytest.param([{"op": "add", "path": "/new/0", "value": 1}], id="into a list to be made"),
        pytest.param([{"op": "move", "from": "/a", "path": "/new/a"}], id="a move below nothing"),
    ],
)
def test_a_change_that_makes_its_containers_can_be_taken_out(first: list[Op]) -> None:
    pending = queue(first, [put("/z", 2)])
    ejection = compute_pending_ejection(STATE, 1, pending, "c1")
    assert ejection is not None
    assert ejection.lost == []
    state = STATE
    for change in ejection.new_pending:
        state = apply_patch(state, change.ops, strict=True)
    assert state == {**STATE, "z": 2}


def test_what_is_written_into_what_it_made_is_named() -> None:
    pending = queue([put("/card", {"n": 1})], [put("/z", 1)], [put("/card/n", 2), put("/y", 1)])
    ejection = compute_pending_ejection(STATE, 1, pending, "c1")
    assert ejection is not None
    assert [change.id for change in ejection.lost] == ["c3"]


def test_what_only_takes_away_is_not_missed() -> None:
    typed: Op = {"op": "@txt", "path": "/card/text", "value": [{"retain": 1}, {"delete": 1}]}
    pending = queue(
        [put("/card", {"n": 1, "text": {"ops": [{"insert": "abc\n"}]}})],
        [{"op": "remove", "path": "/card/n"}],
        [typed],
    )
    ejection = compute_pending_ejection(STATE, 1, pending, "c1")
    assert ejection is not None
    assert ejection.lost == []
    assert ejection.new_pending == []

"""Text edits are stored without parts of length 0."""

from __future__ import annotations

import pytest

from patches.json_patch.text_values import without_empty_text_parts
from patches.model.json_values import Json, Op

X: Json = {"insert": "x"}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([{"retain": 0}, X], [X]),
        ([{"delete": 0}, X, {"retain": 0, "attributes": {"b": True}}], [X]),
        ([{"insert": ""}, X], [X]),
        ([{"retain": 0.0}, X], [X]),
        ([{"retain": 0}], []),
        ([X, {"insert": {}}], [X, {"insert": {}}]),
    ],
    ids=["retain", "delete and format", "insert", "a float", "nothing left", "an embed stays"],
)
def test_parts_of_length_0_are_taken_out(parts: list[Json], expected: list[Json]) -> None:
    op: Op = {"op": "@txt", "path": "/t", "value": parts}
    other: Op = {"op": "replace", "path": "/u", "value": [{"retain": 0}]}
    assert without_empty_text_parts([op, other]) == [{**op, "value": expected}, other]
    older: Op = {"op": "@txt", "path": "/t", "value": {"ops": parts}}
    assert without_empty_text_parts([older]) == [{**older, "value": {"ops": expected}}]


@pytest.mark.parametrize(
    "value", [None, "x", 0, [X], [None, 7], [{}], [{"retain": False}], {"ops": 3}], ids=repr
)
def test_everything_else_stays_the_same_list(value: Json) -> None:
    ops: list[Op] = [{"op": "@txt", "path": "/t", "value": value}]
    assert without_empty_text_parts(ops) is ops

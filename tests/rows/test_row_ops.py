"""Changes of rows as JSON Patch: parsed, applied, inverted, and made of a difference."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patches.errors import NotARowOperationError
from patches.json_patch import apply_patch
from patches.json_patch.pointer import escape
from patches.model.json_values import Op
from patches.rows import RowOp, apply_row_ops, diff_rows, invert_row_ops, parse_row_ops, touched_by

KEYS = st.sampled_from(["a", "b", "c~/d", "ü"])
TABLES = st.sampled_from(["t", "u"])
COLUMNS = st.sampled_from(["x", "y"])
VALUES = st.sampled_from([None, 0, 1, 1.0, True, False, "s", "1", [1], [True], {"k": None}])
ROWS = st.fixed_dictionaries({"x": VALUES, "y": VALUES})
STATES = st.fixed_dictionaries({"t": st.dictionaries(KEYS, ROWS), "u": st.dictionaries(KEYS, ROWS)})


@st.composite
def row_ops(draw: st.DrawFn) -> Op:
    table, key = draw(TABLES), escape(draw(KEYS))
    kind = draw(st.sampled_from(["add", "replace", "remove", "clear"]))
    if kind == "add":
        return {"op": "add", "path": f"/{table}/{key}", "value": draw(ROWS)}
    if kind == "replace":
        path = f"/{table}/{key}/{draw(COLUMNS)}"
        return {"op": "replace", "path": path, "value": draw(VALUES)}
    if kind == "remove":
        return {"op": "remove", "path": f"/{table}/{key}"}
    return {"op": "add", "path": f"/{table}", "value": {}}


OPS = st.lists(row_ops(), max_size=8)


@given(STATES, OPS)
def test_applying_does_what_json_patch_does_where_that_works(
    state: dict[str, Any], ops: list[Op]
) -> None:
    expected = copy.deepcopy(state)
    for op in ops:
        parts = op["path"].split("/")[1:]
        key = parts[1].replace("~1", "/").replace("~0", "~") if len(parts) > 1 else None
        if op["op"] != "add" and key not in expected[parts[0]]:
            continue
        if len(parts) == 1:
            op = op | {"op": "replace"}  # `add` of an empty object yields to what is there
        expected = apply_patch(expected, [op], strict=True)
    before = copy.deepcopy(state)
    assert apply_row_ops(state, parse_row_ops(ops)) == expected
    assert state == before


@given(STATES, OPS)
def test_the_inverse_leads_back(state: dict[str, Any], ops: list[Op]) -> None:
    parsed = parse_row_ops(ops)
    after = apply_row_ops(state, parsed)
    inverse = invert_row_ops(state, parsed)
    assert repr_of(apply_row_ops(after, parse_row_ops(inverse))) == repr_of(state)


@given(STATES, STATES)
def test_the_difference_leads_from_one_state_to_the_other(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    ops = diff_rows(places(before), places(after))
    assert repr_of(apply_row_ops(before, parse_row_ops(ops))) == repr_of(after)
    assert diff_rows(places(after), places(after)) == []
    tables = [op["path"].split("/")[1] for op in ops]
    assert tables == sorted(tables)


def places(state: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {(table, key): row for table, rows in state.items() for key, row in rows.items()}


def repr_of(state: dict[str, Any]) -> str:
    """Tells `1` from `True`, and not `1` from `1.0`."""
    rows = {place: dict(sorted(row.items())) for place, row in sorted(places(state).items())}
    return repr(rows).replace("1.0", "1")


def test_an_update_is_an_operation_for_each_column_that_differs_null_written_out() -> None:
    before = {("t", "a/b"): {"x": 1, "y": "s", "z": True}}
    after = {("t", "a/b"): {"x": None, "y": "s", "z": 1}}
    assert diff_rows(before, after) == [
        {"op": "replace", "path": "/t/a~1b/x", "value": None},
        {"op": "replace", "path": "/t/a~1b/z", "value": 1},
    ]


def test_a_column_that_is_gone_gives_the_whole_row() -> None:
    ops = diff_rows({("t", "a"): {"x": 1, "y": 2}}, {("t", "a"): {"x": 1}})
    assert ops == [{"op": "add", "path": "/t/a", "value": {"x": 1}}]


def test_what_is_not_touched_is_shared() -> None:
    state = {"t": {"a": {"x": 1}, "b": {"x": 2}}, "u": {}}
    after = apply_row_ops(state, [RowOp("replace", "t", "a", "x", 5)])
    assert after["u"] is state["u"]
    assert after["t"]["b"] is state["t"]["b"]


def test_touched_rows_are_those_before() -> None:
    state = {"t": {"a": {"x": 1}, "b": {"x": 2}}}
    ops = [RowOp("clear", "t"), RowOp("add", "t", "c", None, {"x": 3}), RowOp("remove", "u", "a")]
    assert touched_by(state, ops) == {
        ("t", "a"): {"x": 1},
        ("t", "b"): {"x": 2},
        ("t", "c"): None,
        ("u", "a"): None,
    }


@pytest.mark.parametrize(
    "op",
    [
        {"op": "add", "path": "", "value": {}},
        {"op": "add", "path": "t", "value": {}},
        {"op": "add", "path": "/t", "value": {"a": {}}},
        {"op": "add", "path": "/t/a", "value": []},
        {"op": "add", "path": "/t/a"},
        {"op": "add", "path": "/t/a/x", "value": 1},
        {"op": "replace", "path": "/t/a", "value": {}},
        {"op": "replace", "path": "/t/a/x"},
        {"op": "replace", "path": "/t/a/x/y", "value": 1},
        {"op": "remove", "path": "/t"},
        {"op": "remove", "path": "/t/a/x"},
        {"op": "move", "path": "/t/a", "from": "/t/b"},
        {"op": "test", "path": "/t/a/x", "value": 1},
        {"op": "remove", "path": 5},
        {},
    ],
    ids=str,
)
def test_what_is_no_change_of_rows_is_refused(op: Op) -> None:
    with pytest.raises(NotARowOperationError, match="operation 1 ") as caught:
        parse_row_ops([{"op": "remove", "path": "/t/a"}, op])
    assert caught.value.index == 1

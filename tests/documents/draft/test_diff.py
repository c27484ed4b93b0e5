"""The patch between two states: it leads there, and is small."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.documents.draft import ops_to_reach
from patches.errors import InvalidValueError
from patches.json_patch import apply_patch
from patches.model.json_values import json_equal


@pytest.mark.parametrize(
    ("old", "new", "ops"),
    [
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, [{"op": "replace", "path": "/a", "value": True}]),
        ({"a": 0}, {"a": False}, [{"op": "replace", "path": "/a", "value": False}]),
        ({"a": 1, "b": 2}, {"a": 1}, [{"op": "remove", "path": "/b"}]),
        ({}, {"a/b": {}}, [{"op": "replace", "path": "/a~1b", "value": {}}]),
        (
            {"a": {"x": 1, "y": 2}},
            {"a": {"x": 1, "y": 3}},
            [{"op": "replace", "path": "/a/y", "value": 3}],
        ),
        ({"a": {"x": 1}}, {"a": {"y": 1}}, [{"op": "replace", "path": "/a", "value": {"y": 1}}]),
        ([1, 2, 3], [1, 3], [{"op": "remove", "path": "/1"}]),
        ([1, 3], [1, 2, 3], [{"op": "add", "path": "/1", "value": 2}]),
        ([1, 2, 3], [3, 1, 2], [{"op": "move", "from": "/2", "path": "/0"}]),
        ([True], [1], [{"op": "replace", "path": "/0", "value": 1}]),
        (
            [1],
            [1, {}],
            [
                {"op": "add", "path": "/1", "value": None},
                {"op": "replace", "path": "/1", "value": {}},
            ],
        ),
        ([{"id": 1, "n": 1}, {"id": 2}], [{"id": 0}, {"id": 1, "n": 2}, {"id": 2}], None),
        ({"l": [1, 2]}, {"l": [3, 4, 5]}, [{"op": "replace", "path": "/l", "value": [3, 4, 5]}]),
        (
            {"t": {"ops": [{"insert": "ab\n"}]}},
            {"t": {"ops": [{"insert": "aXb\n"}]}},
            [{"op": "@txt", "path": "/t", "value": [{"retain": 1}, {"insert": "X"}]}],
        ),
        ({"t": {"ops": [{"insert": "ab\n"}]}}, {"t": {"ops": [{"insert": "no newline"}]}}, None),
        ({"a": 1}, [1], [{"op": "replace", "path": "", "value": [1]}]),
        (1, None, [{"op": "replace", "path": "", "value": None}]),
    ],
)
def test_what_differs_is_written(old: Any, new: Any, ops: list[Any] | None) -> None:
    found = ops_to_reach(old, new)
    assert ops is None or found == ops
    assert json_equal(apply_patch(old, found, strict=True), new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"a": {"x": 1}}, {"a": {"y": 1}}),
        ({"a": {"x": 1}}, {"a": {}}),
        ({"l": [1, 2]}, {"l": [3, 4, 5]}),
        ({"l": [1, 2]}, {"l": []}),
        ({"t": {"ops": [{"insert": "a\n"}]}}, {"t": {"b": [{"insert": "no newline"}]}}),
    ],
)
def test_containers_may_be_kept(old: Any, new: Any) -> None:
    ops = ops_to_reach(old, new, whole=False)
    assert {op["path"].count("/") for op in ops} == {2}
    assert json_equal(apply_patch(old, ops, strict=True), new)


def test_texts_can_be_set_as_values() -> None:
    old, new = {"t": {"ops": [{"insert": "a\n"}]}}, {"t": {"ops": [{"insert": "b\n"}]}}
    ops = ops_to_reach(old, new, text=False)
    assert {op["op"] for op in ops} == {"replace"}
    assert apply_patch(old, ops, strict=True) == new


def test_a_target_that_is_not_json_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidValueError) as caught:
        ops_to_reach({}, {"a": [{1, 2}]})
    assert caught.value.path == "/a/0"


def test_one_change_in_a_large_list_of_objects_is_one_operation() -> None:
    old = [{"id": n, "done": False} for n in range(2_000)]
    new = copy.deepcopy(old)
    new[1_000]["done"] = True
    assert ops_to_reach(old, new) == [{"op": "replace", "path": "/1000/done", "value": True}]


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "0", "a/b"]), inner, max_size=3)
        | st.builds(lambda text: {"ops": [{"insert": text + "\n"}]}, st.text("ab😀", max_size=3))
    ),
    max_leaves=10,
)


@settings(max_examples=400, deadline=None)
@given(old=values, new=values, text=st.booleans())
def test_the_patch_leads_exactly_there(old: Any, new: Any, text: bool) -> None:
    before = copy.deepcopy((old, new))
    assert json_equal(apply_patch(old, ops_to_reach(old, new, text=text), strict=True), new)
    assert (old, new) == before


@settings(max_examples=100, deadline=None)
@given(state=values)
def test_nothing_leads_to_an_equal_state(state: Any) -> None:
    assert ops_to_reach(state, copy.deepcopy(state)) == []


@pytest.mark.parametrize("empty", [{}, []], ids=["object", "list"])
def test_an_empty_container_is_inserted_by_two_operations(empty: Any) -> None:
    """`add` of an empty container is soft: into a list it would be skipped."""
    assert ops_to_reach({"l": [1, 2]}, {"l": [1, empty, 2]}) == [
        {"op": "add", "path": "/l/1", "value": None},
        {"op": "replace", "path": "/l/1", "value": empty},
    ]

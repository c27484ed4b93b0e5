"""Operations from outside: plain lists and `jsonpatch.JsonPatch`."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.documents.draft import plain_ops
from patches.errors import InvalidValueError, PatchError
from patches.json_patch import apply_patch

NULL_THEN_EMPTY = [
    {"op": "add", "path": "/l/1", "value": None},
    {"op": "replace", "path": "/l/1", "value": {}},
]


@pytest.mark.parametrize("path", ["/l/1", "/l/-"])
def test_an_empty_container_is_inserted_into_a_list_and_not_skipped(path: str) -> None:
    ops = [{"op": "add", "path": path, "value": {}}]
    assert plain_ops({"l": [1]}, ops) == NULL_THEN_EMPTY
    assert plain_ops({"l": [1]}, jsonpatch.JsonPatch(ops)) == NULL_THEN_EMPTY


def test_the_list_may_be_made_by_the_operations_before() -> None:
    ops = [
        {"op": "add", "path": "/l", "value": [1]},
        {"op": "add", "path": "/l/1", "value": {}},
    ]
    assert plain_ops({}, ops)[1:] == NULL_THEN_EMPTY


def test_on_a_member_only_a_json_patch_object_means_replace() -> None:
    ops = [{"op": "add", "path": "/o", "value": {}}]
    assert plain_ops({"o": 1}, ops) == ops
    replaced = [{"op": "replace", "path": "/o", "value": {}}]
    assert plain_ops({"o": 1}, jsonpatch.JsonPatch(ops)) == replaced


def test_a_write_that_says_soft_stays_soft() -> None:
    ops = [{"op": "add", "path": "/l/0", "value": {}, "soft": True}]
    assert plain_ops({"l": [1]}, ops) == ops


def test_the_operations_are_copied() -> None:
    value = [1]
    ops = plain_ops({}, ({"op": "add", "path": "/a", "value": value},))
    value.append(2)
    assert ops == [{"op": "add", "path": "/a", "value": [1]}]


@pytest.mark.parametrize("ops", [None, "text", {"op": "add"}, 5, [1], [None]])
def test_what_is_no_list_of_operations_is_refused(ops: Any) -> None:
    with pytest.raises(PatchError):
        plain_ops({}, ops)


def test_a_value_that_is_not_json_is_named() -> None:
    with pytest.raises(InvalidValueError, match=r"ops\[0\].*'/value/0'"):
        plain_ops({}, [{"op": "add", "path": "/a", "value": [float("nan")]}])


values = st.recursive(
    st.none() | st.integers(0, 2) | st.sampled_from("xy"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(old=values, new=values)
def test_a_patch_of_jsonpatch_does_here_what_it_does_there(old: Any, new: Any) -> None:
    old, new = {"root": old}, {"root": new}
    patch = jsonpatch.make_patch(old, new)
    assert apply_patch(old, plain_ops(old, patch), strict=True) == patch.apply(old)

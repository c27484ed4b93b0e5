"""The builder, path proxies and pointers."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patches.errors import PatchError
from patches.json_patch import ABSENT, JSONPatch, PathProxy, create_json_patch, pointer
from patches.json_patch.javascript import json_text, number_text
from patches.text import Delta


def test_a_patch_is_built_with_a_path_proxy() -> None:
    def build(patch: JSONPatch, path: PathProxy) -> None:
        patch.replace(path.title, "Plan").increment(path.views).remove(path["a/b"][0])

    assert create_json_patch(build).ops == [
        {"op": "replace", "path": "/title", "value": "Plan"},
        {"op": "@inc", "path": "/views", "value": 1},
        {"op": "remove", "path": "/a~1b/0"},
    ]


def test_ops_is_the_live_list_and_results_are_lists_of_their_own() -> None:
    ops = [{"op": "replace", "path": "/a", "value": 1}]
    patch = JSONPatch(ops)
    patch.remove("/b")
    assert patch.ops is ops
    assert patch.compose().ops is not ops
    assert patch.transform([]).ops is not ops
    assert patch.to_json() is not ops
    assert JSONPatch.from_json(ops).ops == ops


def test_the_argument_is_transformed_over_the_patch() -> None:
    first = JSONPatch().add("/list/0", "x")
    assert first.transform(JSONPatch().remove("/list/0")).ops == [
        {"op": "remove", "path": "/list/1"}
    ]


def test_applying_and_undoing() -> None:
    patch = JSONPatch().replace("/a", 2).add("/b", 3)
    state = {"a": 1}
    assert patch.apply(state, strict=True) == {"a": 2, "b": 3}
    assert patch.concat(patch.invert(state)).apply(state) == state


def test_a_value_may_say_what_it_is_in_json() -> None:
    delta = Delta().insert("hi\n")
    assert JSONPatch().replace("/t", delta).ops[0]["value"] == {"ops": [{"insert": "hi\n"}]}
    assert JSONPatch().text("/t", delta).ops[0]["value"] == [{"insert": "hi\n"}]


@pytest.mark.parametrize(
    ("value", "kind"), [("x", "string"), (None, "object"), (True, "boolean"), (1.5, "number")]
)
def test_a_text_needs_a_list_of_ops(value: object, kind: str) -> None:
    with pytest.raises(PatchError, match=f"got {kind}"):
        JSONPatch().text("/t", value)  # type: ignore[arg-type]  # that is the point


def test_a_path_proxy_can_only_be_read() -> None:
    path = PathProxy()
    with pytest.raises(PatchError, match=r"patch.replace\(path.title, value\)"):
        path.title = 1
    with pytest.raises(PatchError, match=r"patch.remove\(path.title\)"):
        del path.title
    with pytest.raises(PatchError, match="Cannot set property '0'"):
        path[0] = 1
    assert str(path) == ""
    assert str(copy.copy(path.a)) == "/a"


def test_pointers() -> None:
    assert pointer.parse("/a~1b/c~0d/~01/") == ["a/b", "c~d", "~1", ""]
    assert pointer.join("a/b", "c~d", 0) == "/a~1b/c~0d/0"
    assert pointer.parse("") == []
    assert pointer.parent("/a/b") == "/a"
    assert not pointer.is_index("\u0661")
    assert not pointer.is_index("01")
    with pytest.raises(PatchError, match="begins with '/'"):
        pointer.parse("a/b")
    with pytest.raises(PatchError, match="no parent"):
        pointer.parent("")


def test_absent_is_one_and_false() -> None:
    assert not ABSENT
    assert copy.deepcopy(ABSENT) is ABSENT
    assert repr(ABSENT) == "ABSENT"


def test_absent_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(ABSENT)) is ABSENT


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (-12.5, "-12.5"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.25e22, "1.25e+22"),
        (0.000001, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (5e-324, "5e-324"),
        (123456789.125, "123456789.125"),
        (1e16, "10000000000000000"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_numbers_are_written_as_in_javascript(number: float, text: str) -> None:
    assert number_text(number) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_number_reads_as_itself(number: float) -> None:
    assert float(number_text(number)) == number


def test_messages_hold_compact_json() -> None:
    assert json_text({"a": [1.0, None, True, "é\ud83d"]}) == '{"a":[1,null,true,"é\\ud83d"]}'

"""Apply where the recorded cases say little: equality, sharing, limits, own handlers."""

from __future__ import annotations

import math
import sys

import pytest

from patches.errors import PatchError
from patches.json_patch import ABSENT, CustomOp, apply_patch, exists
from patches.model.json_values import Json, Op
from patches.text import Delta


@pytest.mark.parametrize(
    ("state", "value", "matches"),
    [
        pytest.param(1, True, False, id="one is not true"),
        pytest.param(0, False, False, id="zero is not false"),
        pytest.param([1], [True], False, id="nor inside a list"),
        pytest.param({"a": 0}, {"a": False}, False, id="nor inside an object"),
        pytest.param(1, 1.0, True, id="1 is 1.0"),
        pytest.param([], {}, False, id="a list is no object"),
        pytest.param({"a": 1, "b": 2}, {"b": 2, "a": 1}, True, id="order of keys does not count"),
    ],
)
def test_equality_is_that_of_json(state: Json, value: Json, matches: bool) -> None:
    ops: list[Op] = [{"op": "test", "path": "/v", "value": value}]
    if matches:
        assert apply_patch({"v": state}, ops, strict=True) == {"v": state}
    else:
        with pytest.raises(PatchError, match="not matched"):
            apply_patch({"v": state}, ops, strict=True)


def test_replacing_true_by_one_is_a_change() -> None:
    state = {"v": True}
    after = apply_patch(state, [{"op": "replace", "path": "/v", "value": 1}])
    assert after["v"] == 1
    assert after["v"] is not True


@pytest.mark.parametrize(
    ("current", "value", "expected"),
    [
        pytest.param(1.5, 0.5, 2, id="an integral sum is an integer"),
        pytest.param(2**53 - 1, 1, 2.0**53, id="beyond 2^53 a float"),
        pytest.param(1.7e308, 1e308, sys.float_info.max, id="never beyond the largest double"),
        pytest.param(None, 3, 3, id="null counts as 0"),
        pytest.param(True, 1, 2, id="true counts as 1"),
        pytest.param("x", 1.5, "x1.5", id="text is joined"),
        pytest.param("x", 1.0, "x1", id="numbers are written as in JavaScript"),
        pytest.param("n", 1e21, "n1e+21", id="large numbers too"),
        pytest.param("n", 1.5e-7, "n1.5e-7", id="small numbers too"),
    ],
)
def test_increment(current: Json, value: Json, expected: Json) -> None:
    after = apply_patch({"n": current}, [{"op": "@inc", "path": "/n", "value": value}])
    assert after["n"] == expected
    assert type(after["n"]) is type(expected)


@pytest.mark.parametrize("value", [{"a": 1}, [1]], ids=str)
def test_an_increment_by_what_is_no_number_fails(value: Json) -> None:
    with pytest.raises(PatchError, match="not a finite number"):
        apply_patch({"n": 1.7e308}, [{"op": "@inc", "path": "/n", "value": value}], strict=True)


def test_an_increment_without_a_value_fails_and_changes_nothing() -> None:
    state = {"n": 1}
    errors: list[str] = []
    after = apply_patch(
        state,
        [{"op": "@inc", "path": "/n"}],
        on_error=lambda message, index: errors.append(message),
    )
    assert after is state
    assert errors == ["[op:@inc] the result is not a finite number: /n"]


@pytest.mark.parametrize(
    ("name", "current", "value", "wins"),
    [
        ("@max", "9", 10, True),
        ("@max", "abc", 1, False),
        ("@min", "abc", 1, False),
        ("@max", 5, "0x10", True),
        ("@max", 5, "Infinity", True),
        ("@max", 5, "inf", False),
        ("@max", 5, "nan", False),
        ("@min", 1, "", True),
        ("@max", 1, [2], True),
        ("@max", False, 1, True),
        ("@max", 5, "\u0666", False),
    ],
)
def test_maximum_and_minimum_compare_as_javascript(
    name: str, current: Json, value: Json, wins: bool
) -> None:
    after = apply_patch({"v": current}, [{"op": name, "path": "/v", "value": value}])
    assert after["v"] is (value if wins else current)


def test_a_copied_value_does_not_change_with_its_source() -> None:
    state = {"a": {"b": {"c": 1}}}
    ops: list[Op] = [
        {"op": "replace", "path": "/a/b/c", "value": 2},
        {"op": "copy", "from": "/a", "path": "/z"},
        {"op": "replace", "path": "/z/b/c", "value": 3},
        {"op": "replace", "path": "/a/b/d", "value": 4},
    ]
    after = apply_patch(state, ops, strict=True)
    assert after == {"a": {"b": {"c": 2, "d": 4}}, "z": {"b": {"c": 3}}}
    assert state == {"a": {"b": {"c": 1}}}


def test_one_value_added_twice_is_two_values() -> None:
    value: Json = {"n": 1}
    ops: list[Op] = [
        {"op": "add", "path": "/a", "value": value},
        {"op": "add", "path": "/b", "value": value},
        {"op": "replace", "path": "/a/n", "value": 2},
    ]
    assert apply_patch({}, ops) == {"a": {"n": 2}, "b": {"n": 1}}
    assert value == {"n": 1}


@pytest.mark.parametrize(
    "op",
    [
        pytest.param({"op": "add", "value": 1}, id="no path"),
        pytest.param({"op": "add", "path": 5, "value": 1}, id="a path that is no text"),
        pytest.param({"op": "move", "path": "/a"}, id="a move without a source"),
        pytest.param({"op": "replace", "path": "/s/x", "value": 1}, id="below a text"),
        pytest.param({"op": "add", "path": "/l/999999999/x", "value": 1}, id="far beyond the end"),
        pytest.param({"op": "@txt", "path": "/junk", "value": []}, id="a text that is none"),
    ],
)
def test_what_no_mode_takes_raises(op: Op) -> None:
    state = {"s": "text", "l": [], "junk": {"ops": [1]}}
    with pytest.raises(PatchError):
        apply_patch(state, [op])
    assert state == {"s": "text", "l": [], "junk": {"ops": [1]}}


@pytest.mark.parametrize(
    "delta",
    [
        5,
        [5],
        [{"retain": -1}],
        [{"retain": 1.5}],
        [{"delete": True}],
        [{"insert": 7}],
        [{"retain": math.inf}],
        {"ops": "x"},
    ],
    ids=str,
)
def test_a_malformed_delta_fails(delta: Json) -> None:
    with pytest.raises(PatchError, match="Invalid delta"):
        apply_patch({}, [{"op": "@txt", "path": "/t", "value": delta}], strict=True)


def test_a_huge_retain_costs_nothing_and_is_told() -> None:
    overruns: list[int] = []
    after = apply_patch(
        {"t": {"ops": [{"insert": "ab\n"}]}},
        [{"op": "@txt", "path": "/t", "value": [{"retain": 2**31}, {"insert": "x"}]}],
        on_text_overrun=overruns.append,
    )
    assert after == {"t": {"ops": [{"insert": "ab\nx\n"}]}}
    assert overruns == [2**31 - 3]


def test_typing_in_halves_of_a_pair_joins_them() -> None:
    state: Json = {}
    for position, half in enumerate("\ud83d\ude00"):
        delta = Delta().retain(position).insert(half).ops
        state = apply_patch(state, [{"op": "@txt", "path": "/t", "value": delta}], strict=True)
    assert state == {"t": {"ops": [{"insert": "😀\n"}]}}


def test_a_removed_root_is_absent() -> None:
    assert apply_patch({"a": 1}, [{"op": "remove", "path": ""}]) is ABSENT
    assert apply_patch(ABSENT, [{"op": "add", "path": "/a", "value": 1}]) == {"a": 1}
    assert not exists(ABSENT, "")


def double(current: Json, value: Json) -> Json:
    if not isinstance(current, int):
        raise PatchError("[op:@times] not a number")
    return current * value


TIMES = {"@times": CustomOp(apply=double)}


def test_a_custom_operation_sets_what_its_handler_gives() -> None:
    ops: list[Op] = [{"op": "@times", "path": "/n", "value": 3}]
    assert apply_patch({"n": 2}, ops, custom_ops=TIMES) == {"n": 6}
    with pytest.raises(PatchError, match="not a number"):
        apply_patch({"n": "x"}, ops, strict=True, custom_ops=TIMES)
    with pytest.raises(PatchError, match=r"\[op:@times\] unknown"):
        apply_patch({"n": 2}, ops, strict=True)


def test_a_custom_test_ends_the_patch() -> None:
    def is_even(current: Json, value: Json) -> Json:
        if current % 2:
            raise PatchError("odd")
        return ABSENT

    custom = {"@even": CustomOp(apply=is_even, like="test")}
    state = {"n": 1}
    ops: list[Op] = [
        {"op": "replace", "path": "/x", "value": 1},
        {"op": "@even", "path": "/n"},
    ]
    assert apply_patch(state, ops, custom_ops=custom) is state


def test_a_custom_operation_comes_before_a_built_in_one() -> None:
    custom = {"@inc": CustomOp(apply=lambda current, value: "mine")}
    ops: list[Op] = [{"op": "@inc", "path": "/n", "value": 1}]
    assert apply_patch({"n": 1}, ops, custom_ops=custom) == {"n": "mine"}


@pytest.mark.parametrize(("name", "value"), [("@min", 5), ("@max", -5), ("@min", "b")])
@pytest.mark.parametrize("state", [{"a": None}, {}], ids=["null", "absent"])
def test_an_extreme_of_nothing_is_the_value(state: Json, name: str, value: Json) -> None:
    assert apply_patch(state, [{"op": name, "path": "/a", "value": value}]) == {"a": value}

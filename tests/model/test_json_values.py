"""Equality as JSON has it, plain numbers, and the check at the door."""

from __future__ import annotations

import collections
import enum
import json
import math
import types
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.errors import InvalidValueError
from patches.model.json_values import (
    MAX_DOUBLE,
    checked_copy,
    json_equal,
    number_sum,
    plain_number,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (1, 1.0, True),
        (0, -0.0, True),
        (True, 1, False),
        (0, False, False),
        (None, False, False),
        (None, 0, False),
        ("1", 1, False),
        ("", None, False),
        ([], {}, False),
        ([], "", False),
        ([1, [True]], [1.0, [True]], True),
        ([1, [True]], [1, [1]], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": None}, {}, False),
        ({"a": None}, {"b": None}, False),
        ({"a": [0]}, {"a": [False]}, False),
        ([1], [1, 2], False),
        ("é", "é", True),
        (2**60, 2.0**60, True),
        (object(), object(), False),
    ],
)
def test_equality_is_that_of_json(a: Any, b: Any, equal: bool) -> None:
    assert json_equal(a, b) is equal
    assert json_equal(b, a) is equal


@settings(max_examples=100, deadline=None)
@given(value=values)
def test_a_value_equals_what_json_makes_of_it(value: Any) -> None:
    assert json_equal(value, json.loads(json.dumps(value)))
    assert not json_equal(value, [value])


@pytest.mark.parametrize(
    ("number", "plain", "kind"),
    [
        (2.0, 2, int),
        (-0.0, 0, int),
        (1.5, 1.5, float),
        (2**53 - 1, 2**53 - 1, int),
        (2**53, 2.0**53, float),
        (-(2.0**60), -(2.0**60), float),
        (True, 1, int),
    ],
)
def test_an_integral_number_within_the_safe_range_is_an_int(
    number: float, plain: float, kind: type
) -> None:
    assert plain_number(number) == plain
    assert isinstance(plain_number(number), kind)


@pytest.mark.parametrize(
    ("a", "b", "total"),
    [
        (2**53 - 2, 1, 2**53 - 1),
        (2**53 - 1, 5, 9007199254740996.0),
        (-(2**53 - 1), -5, -9007199254740996.0),
        (2**53 + 1, 1, 9007199254740992.0),
        (9007199254740996.0, -5, 2**53 - 1),
        (0.5, 1.5, 2),
        (1e308, 1e308, MAX_DOUBLE),
        (-1e308, -1e308, -MAX_DOUBLE),
        (MAX_DOUBLE, -MAX_DOUBLE, 0),
        (10**400, 1, MAX_DOUBLE),
        (-math.inf, math.inf, 0),
    ],
)
def test_a_sum_is_a_double_and_always_finite(a: float, b: float, total: float) -> None:
    assert number_sum(a, b) == total
    assert type(number_sum(a, b)) is type(total)


def test_what_is_no_number_has_no_sum() -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        number_sum(1, math.nan)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Fraction(float):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, (2,)), [1, [2]]),
        (Colour.RED, "red"),
        ({Colour.RED: Level.HIGH}, {"red": 3}),
        (Fraction(1.5), 1.5),
        (collections.OrderedDict(a=collections.deque([1])), {"a": [1]}),
        (types.MappingProxyType({"a": (1,)}), {"a": [1]}),
        (collections.UserList([1]), [1]),
        (range(3), [0, 1, 2]),
        ("\ud800", "\ud800"),
    ],
)
def test_other_classes_of_the_same_shape_become_plain(value: Any, plain: Any) -> None:
    copied = checked_copy(value)
    assert copied == plain
    assert repr(copied) == repr(plain), "of the plain classes"


@settings(max_examples=100, deadline=None)
@given(value=values)
def test_a_copy_is_equal_and_shares_no_container(value: Any) -> None:
    copied = checked_copy(value)
    assert repr(copied) == repr(value)
    seen = {id(part) for part in containers(value)}
    assert not any(id(part) in seen for part in containers(copied))


def containers(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [value, *(part for member in value.values() for part in containers(member))]
    if isinstance(value, list):
        return [value, *(part for item in value for part in containers(item))]
    return []


def a_cycle() -> dict[str, Any]:
    cycle: dict[str, Any] = {}
    cycle["me"] = [cycle]
    return cycle


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (math.nan, "/at", "not a JSON number"),
        ([-math.inf], "/at/0", "not a JSON number"),
        ({"a~b": {"c/d": {1, 2}}}, "/at/a~0b/c~1d", "set is not a JSON value"),
        ([b"x"], "/at/0", "bytes is not"),
        (bytearray(b"x"), "/at", "bytearray is not"),
        ({1: 2}, "/at", "the key 1 is int"),
        ({None: 2}, "/at", "the key None"),
        (2**53, "/at", "beyond"),
        ([1, -(2**53)], "/at/1", "beyond"),
        (a_cycle(), "/at/me/0", "contains itself"),
        (lambda: 1, "/at", "function is not"),
        ([[[[]]]], "/at/0/0/0", "nested too deeply"),
    ],
)
def test_what_is_not_json_is_refused_with_its_path_and_reason(
    value: Any, path: str, reason: str
) -> None:
    with pytest.raises(InvalidValueError, match=reason) as caught:
        checked_copy(value, path="/at", max_depth=3)
    assert caught.value.path == path


def test_the_depth_limit_is_inclusive() -> None:
    assert checked_copy([[[]]], max_depth=3) == [[[]]]


def test_a_value_that_stands_in_two_places_is_no_cycle() -> None:
    shared = [1]
    assert checked_copy([shared, (shared,)]) == [[1], [[1]]]

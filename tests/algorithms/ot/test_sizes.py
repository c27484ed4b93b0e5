"""Sizes are those of a browser's JSON."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patches.algorithms.ot.sizes import (
    change_byte_size,
    javascript_number,
    json_byte_size,
    list_byte_size,
)
from patches.model.change import Change


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (100.0, "100"),
        (123.456, "123.456"),
        (1e16, "10000000000000000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.2345e25, "1.2345e+25"),
        (0.00001, "0.00001"),
        (0.000001, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_numbers_are_written_as_javascript_does(value: float, text: str) -> None:
    assert javascript_number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_number_reads_as_itself(value: float) -> None:
    assert float(javascript_number(value)) == value


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"a": [1.0, 2.5]}, len('{"a":[1,2.5]}')),
        ("é😀", 2 + 2 + 4),
        ("\ud83d", 8),
        ({"price 1.0": "1.0", "n": 1e21}, len('{"price 1.0":"1.0","n":1e+21}')),
        (None, 4),
    ],
    ids=["floats", "utf-8", "half a pair", "numbers in text", "null"],
)
def test_a_size_is_the_bytes_of_compact_json(value: Any, size: int) -> None:
    assert json_byte_size(value) == size
    ops = [{"op": "replace", "path": "/x", "value": value}]
    change = Change(id="c", ops=ops, base_rev=1, rev=2, created_at=3)
    empty = change.replace(ops=[{**ops[0], "value": 0}])
    assert change_byte_size(change) - change_byte_size(empty) == size - 1


def test_a_list_has_brackets_and_commas() -> None:
    assert [list_byte_size([]), list_byte_size([3]), list_byte_size([3, 4])] == [2, 5, 10]

"""Sizes are those of a browser's JSON."""

from __future__ import annotations

from typing import Any

import pytest

from patches.algorithms.ot.sizes import change_byte_size, json_byte_size, list_byte_size
from patches.model.change import Change


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

"""A result that follows changes is the one that sorting all rows would give."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.collections.ordering import OrderBy
from patches.algorithms.collections.result import Result
from patches.model.json_values import Json
from patches.rows.row_ops import Row

ORDERS: list[OrderBy] = [
    (),
    (("votes", False),),
    (("votes", True),),
    (("title", True), ("votes", False)),
    (("title", False), ("done", True)),
]


def row(votes: Json, title: Json = "t", done: Json = False) -> Row:
    return {"votes": votes, "title": title, "done": done}


def test_rows_without_a_value_come_last_either_way() -> None:
    rows = {"a": row(None), "b": row(1), "c": row(2)}
    for is_descending, keys in ((False, ["b", "c", "a"]), (True, ["c", "b", "a"])):
        result = Result(lambda _row: True, (("votes", is_descending),))
        result.fill(rows)
        assert result.keys == keys


def test_equal_rows_are_ordered_by_key() -> None:
    result = Result(lambda _row: True, (("votes", True),))
    result.fill({key: row(1) for key in "cab"})
    assert result.keys == ["a", "b", "c"]


def test_strings_descend_by_code_point() -> None:
    result = Result(lambda _row: True, (("title", True),))
    result.fill({key: row(1, title) for key, title in zip("abc", ["Z", "a", "é"], strict=True)})
    assert result.keys == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("key", "after", "differs"),
    [
        pytest.param("e", row(5), False, id="below the window"),
        pytest.param("e", row(50), True, id="into the window"),
        pytest.param("a", row(0), True, id="out of the window"),
        pytest.param("a", row(40, "new"), True, id="another value in the window"),
        pytest.param("d", row(10, "new"), False, id="another value below the window"),
        pytest.param("d", None, False, id="gone from below"),
        pytest.param("b", None, True, id="gone from the window"),
        pytest.param("x", None, False, id="one that was never there"),
    ],
)
def test_only_what_is_shown_counts_as_a_difference(
    key: str, after: Row | None, differs: bool
) -> None:
    result = Result(lambda _row: True, (("votes", True),), 2)
    result.fill({key: row(votes) for key, votes in zip("abcd", [40, 30, 20, 10], strict=True)})
    assert result.update(key, after) is differs


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_following_changes_is_sorting_again(seed: int) -> None:
    source = random.Random(seed)
    order, limit = source.choice(ORDERS), source.choice([None, 1, 3])
    rows: dict[str, Row] = {}

    def matches(each: Row) -> bool:
        return bool(each["votes"] != 3)

    result = Result(matches, order, limit)
    for _ in range(40):
        key = source.choice("abcdefgh")
        before = [rows[each] for each in result.keys]
        if source.random() < 0.3:
            rows.pop(key, None)
        else:
            rows[key] = row(
                source.choice([None, 1, 2, 3]),
                source.choice([None, "a", "b"]),
                source.random() < 0.5,
            )
        differs = result.update(key, rows.get(key))
        again = Result(matches, order, limit)
        again.fill(rows)
        assert result.keys == again.keys
        assert len(result) == len(again)
        if not differs:
            assert result.rows(rows) == before

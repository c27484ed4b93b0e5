"""Orders, beside the recorded cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patches.errors import PatchError
from patches.fractional_index import fractional_index, heal_duplicate_orders, sort_by_order


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=40))
def test_a_key_goes_between_its_neighbours(inserts: list[tuple[int, int]]) -> None:
    keys: list[str] = []
    for place, count in inserts:
        at = min(place, len(keys))
        before, after = keys[at - 1] if at else None, keys[at] if at < len(keys) else None
        keys[at:at] = fractional_index(before, after, count)
    assert keys == sorted(set(keys))


@given(st.lists(st.sampled_from(["a0", "a1", "a0V", "Zz", "b00"]), max_size=12))
def test_healing_leaves_no_two_alike_and_keeps_the_order(orders: list[str]) -> None:
    items = {f"k{number:02}": order for number, order in enumerate(orders)}
    before = [key for key, _ in sort_by_order(items, field=False)]
    healed = heal_duplicate_orders(items, field=False)
    assert (healed is None) == (len(set(orders)) == len(orders))
    items |= healed or {}
    assert len(set(items.values())) == len(items)
    assert [key for key, _ in sort_by_order(items, field=False)] == before


def test_many_inserts_at_one_place_grow_slowly() -> None:
    low, high = "a0", "a1"
    for _ in range(200):
        high = fractional_index(low, high)
    assert len(high) < 60


@pytest.mark.parametrize("key", ["a", "a00", "?0", "1", "z" * 27, "é0", "aé"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(PatchError, match="Invalid order key"):
        fractional_index(key, None)


def test_the_ends_of_all_keys() -> None:
    smallest = "A" + "0" * 26
    with pytest.raises(PatchError, match="Invalid order key"):
        fractional_index(None, smallest)
    assert fractional_index(None, smallest + "1") == smallest + "0V"
    assert fractional_index("z" * 27 + "V", None) == "z" * 27 + "l"


def test_items_without_an_order_come_first_and_are_mended() -> None:
    items = {"b": {"order": "a1"}, "a": {"title": "new"}, "c": "odd"}
    assert [key for key, _ in sort_by_order(items)] == ["a", "c", "b"]
    assert heal_duplicate_orders(items) == {"c": "a0"}
    assert sort_by_order({}) == []
    assert heal_duplicate_orders({}) is None


def test_no_count_and_small_counts() -> None:
    assert fractional_index("", "") == "a0"
    assert fractional_index(None, None, 0) == []
    assert fractional_index("a1", "a0", 2) == ["a0l", "a0V"]

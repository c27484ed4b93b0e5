"""Ids: base 62 in ASCII order, as many characters as asked for, sortable by creation."""

from __future__ import annotations

import random

import pytest

from patches.model.ids import ALPHABET, SortableIds, base62, change_ids, random_id


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (9, "9"), (10, "A"), (61, "z"), (62, "10"), (62**4, "10000")]
)
def test_base_62(number: int, text: str) -> None:
    assert base62(number) == text
    assert sorted(ALPHABET) == list(ALPHABET)


def test_random_ids_use_the_whole_alphabet_and_repeat_with_their_source() -> None:
    ids = [random_id(random.Random(seed), 12) for seed in range(500)]
    assert all(len(one) == 12 for one in ids)
    assert set("".join(ids)) == set(ALPHABET)
    assert len(set(ids)) == 500
    assert random_id(random.Random(7), 12) == ids[7]
    assert random_id(random.Random(), 0) == ""


def test_change_ids_begin_with_their_revision() -> None:
    new_id = change_ids(random.Random(1))
    assert new_id(62)[:2] == "10"
    assert len(new_id(5)) == 5
    assert new_id(5) != new_id(5)


def test_version_ids_sort_by_creation_also_within_a_millisecond() -> None:
    class Last(random.Random):
        def randbytes(self, n: int) -> bytes:
            return bytes([61]) * (n - 1) + bytes([60])

    new_id = SortableIds(Last())
    ids = [new_id(now) for now in (5, 5, 6, 6, 1_800_000_000_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 5
    assert all(len(one) == 16 for one in ids)

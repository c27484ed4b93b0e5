"""Places in long strings with surrogate pairs, against the UTF-16 bytes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from patches.text import compose, utf16_length
from patches.text.pairs import LONG, keep_pairs, pair_starts, pairs_of, position_at, units_before
from patches.text.utf16 import utf16_offset


def units(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def from_units(raw: bytes) -> str:
    return raw.decode("utf-16-le", "surrogatepass")


def long_text(rng: random.Random) -> str:
    return "".join(rng.choices(["word ", "é", "😀", "漢", "\n"], k=LONG)) + "\n"


def test_the_pairs_of_a_string_are_where_its_units_say() -> None:
    text = "a😀b𝄞\n"
    assert pair_starts(text) == [1, 4]
    assert [units_before([1, 4], at) for at in range(6)] == [0, 1, 3, 4, 6, 7]
    assert [position_at([1, 4], unit) for unit in range(8)] == [0, 1, -1, 2, 3, -1, 4, 5]


def test_lengths_and_offsets_of_long_strings_count_units() -> None:
    text = long_text(random.Random(1))
    assert utf16_length(text) == len(units(text)) // 2
    for position in (0, 1, 700, len(text)):
        assert utf16_offset(text, position) == len(units(text[:position])) // 2


@pytest.mark.parametrize("seed", range(4))
def test_edits_of_a_long_string_are_those_of_its_units(seed: int) -> None:
    rng = random.Random(seed)
    text = long_text(rng)
    for _ in range(150):
        raw, at, result = units(text), 0, b""
        edits: list[dict[str, Any]] = []
        for _ in range(rng.randint(1, 3)):
            keep, drop = rng.randint(1, 900), rng.randint(0, 3)
            if at + keep + drop >= len(raw) // 2:
                break
            inserted = rng.choice(["", "x", "😀", "é😀漢"])
            edits += [{"retain": keep}]
            edits += [{"insert": inserted}] if inserted else []
            edits += [{"delete": drop}] if drop else []
            result += raw[2 * at : 2 * (at + keep)] + units(inserted)
            at += keep + drop
        expected = from_units(result + raw[2 * at :])
        composed = compose([{"insert": text}], edits)
        assert composed == [{"insert": expected}]
        text = composed[0]["insert"]
        known = pairs_of(text)
        assert known == pair_starts(text)


def test_a_pair_that_is_cut_and_joined_again_is_one_character() -> None:
    text = "x" * LONG + "😀\n"
    cut = compose([{"insert": text}], [{"retain": LONG + 1}, {"insert": "-"}])
    assert cut == [{"insert": "x" * LONG + "\ud83d-\ude00\n"}]
    assert compose(cut, [{"retain": LONG + 1}, {"delete": 1}]) == [{"insert": text}]


def test_only_a_few_strings_are_remembered_and_none_with_very_many_pairs() -> None:
    texts = [f"{number}😀" + "x" * LONG for number in range(100)]
    for text in texts:
        assert pairs_of(text) == pair_starts(text)
    many = "😀" * 30_000
    assert pairs_of(many) is None
    assert utf16_length(many) == 60_000
    keep_pairs("short😀", [5])
    assert pairs_of("short😀") == [5]

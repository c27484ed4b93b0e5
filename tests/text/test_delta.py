"""`Delta`: building, reading, and what the laws and the recorded cases leave out."""

from __future__ import annotations

from typing import Any

import pytest

from patches.errors import PatchError
from patches.text import Delta, apply_to_text, text_of, transform
from patches.text.diff import matching_blocks
from patches.text.utf16 import has_no_pairs


def test_calls_chain_and_neighbours_merge() -> None:
    delta = Delta().insert("a").insert("b").retain(1).retain(2).delete(1).insert("c").delete(2)
    assert delta.ops == [{"insert": "ab"}, {"retain": 3}, {"insert": "c"}, {"delete": 3}]


def test_what_has_no_length_is_left_out() -> None:
    assert Delta().insert("").retain(0).delete(0).retain(-1).insert("a", {}).ops == [
        {"insert": "a"}
    ]


@pytest.mark.parametrize("length", [True, 1.5, "1", None])
def test_a_length_is_a_whole_number(length: Any) -> None:
    with pytest.raises(PatchError, match="whole number"):
        Delta().retain(length)


@pytest.mark.parametrize("content", [None, 5, ["a"]])
def test_only_text_and_objects_can_be_inserted(content: Any) -> None:
    with pytest.raises(PatchError, match="insert takes"):
        Delta().insert(content)


@pytest.mark.parametrize("ops", [5, "text", [5], [{"retain": -1}], {"ops": 5}, None])
def test_what_is_no_delta_is_refused(ops: Any) -> None:
    with pytest.raises(PatchError, match="Invalid delta"):
        Delta(ops)


def test_all_shapes_are_read() -> None:
    ops = [{"insert": "a"}]
    assert Delta(ops) == Delta({"ops": ops}) == Delta(Delta(ops)) == Delta(tuple(ops))
    assert Delta(ops).to_json() == {"ops": ops}


def test_building_on_leaves_the_source_alone() -> None:
    ops = [{"insert": "a"}]
    Delta(ops).insert("b")
    assert ops == [{"insert": "a"}]


def test_halves_that_meet_become_one_character() -> None:
    assert Delta().insert("\ud83d").insert("\ude00").ops == [{"insert": "😀"}]
    assert Delta().insert("\ud83d\ude00").ops == [{"insert": "😀"}]
    assert text_of([{"insert": "\ud83d"}, {"insert": "\ude00", "attributes": {"b": 1}}]) == "😀"


def test_lengths_count_code_units() -> None:
    assert Delta().insert("😀é漢").insert({"image": "x"}).delete(3).length() == 8


def test_transform_takes_a_position_too() -> None:
    delta = Delta().insert("ab")
    assert delta.transform(0) == 2
    assert delta.transform(0, priority=True) == 0
    assert delta.transform(Delta().insert("x"), priority=True) == Delta().retain(2).insert("x")


def test_embeds_are_compared_by_what_they_hold() -> None:
    a = Delta().insert("a").insert({"image": "1"}).insert("b")
    b = Delta().insert("a").insert({"image": "2"}).insert("b")
    change = a.diff(b)
    assert change == Delta().retain(1).insert({"image": "2"}).delete(1)
    assert a.compose(change) == b
    assert Delta().insert("\0").diff(Delta().insert({"image": "1"})).length() == 2


def test_diff_of_formatting_says_only_what_differs() -> None:
    a = Delta().insert("bold", {"bold": True, "data": {"p": 1, "q": 2}}).insert(" plain")
    b = Delta().insert("bold pl", {"data": {"p": 1}}).insert("ain")
    change = a.diff(b)
    assert change == Delta().retain(4, {"bold": None, "data": {"q": None}}).retain(
        3, {"data": {"p": 1}}
    )
    assert a.compose(change) == b


def test_diff_takes_documents() -> None:
    with pytest.raises(PatchError, match="diff takes documents"):
        Delta().retain(1).diff("x")


def test_a_small_edit_of_a_long_text_is_a_small_change() -> None:
    text = "The quick brown 🦊 jumps.\n" * 4_000
    edited = text[:50_000] + "over " + text[50_003:]
    change = Delta().insert(text).diff(edited)
    assert sum(len(op.get("insert", "")) for op in change.ops) <= 5
    assert Delta().insert(text).compose(change).text() == edited


def test_long_texts_that_differ_everywhere_keep_their_common_lines() -> None:
    lines = [f"line {number} of the text\n" for number in range(3_000)]
    old = "".join(lines)
    new = "".join(line.replace("of", "in") for line in reversed(lines[:1_500])) + "".join(
        line.replace("the", "a") if number % 2 else line
        for number, line in enumerate(lines[1_500:])
    )
    change = Delta().insert(old).diff(new)
    assert Delta().insert(old).compose(change).text() == new
    kept = sum(block.length for block in matching_blocks(old, new))
    assert kept > len("".join(lines[1_500:])) * 0.9


def test_texts_without_anything_in_common_are_replaced() -> None:
    change = Delta().insert("a" * 50_000).diff("b" * 50_000)
    assert change == Delta().insert("b" * 50_000).delete(50_000)


@pytest.mark.parametrize("text", ["漢字" * 5_000, "é" * 5_000, "a😀" * 5_000, "\ud83d" * 5_000])
def test_edits_of_long_texts_of_every_width(text: str) -> None:
    base = Delta().insert(text)
    middle = base.length() // 2
    change = Delta().retain(middle).insert("x").delete(1)
    units = text.encode("utf-16-le", "surrogatepass")
    expected = (units[: 2 * middle] + "x".encode("utf-16-le") + units[2 * middle + 2 :]).decode(
        "utf-16-le", "surrogatepass"
    )
    assert base.compose(change).text() == expected


def test_texts_known_to_have_no_pairs_have_none() -> None:
    assert has_no_pairs("ascii")
    assert not has_no_pairs("a" * 1_000 + "😀")
    assert not has_no_pairs("😀")


def test_a_lone_half_survives_an_edit_beside_it() -> None:
    ops, _ = apply_to_text({"ops": [{"insert": "a\ud83db\n"}]}, [{"retain": 2}, {"insert": "é"}])
    assert ops == [{"insert": "a\ud83déb\n"}]


NOTHING = {"retain": 0}
A, B = {"insert": "A"}, {"insert": "B"}


@pytest.mark.parametrize(
    ("a", "b", "priority", "expected"),
    [
        ([NOTHING, A], [B], True, [B]),
        ([A], [NOTHING, B], False, [{"retain": 1}, B]),
        ([NOTHING, A], [NOTHING, B], True, [{"retain": 1}, B]),
        ([NOTHING, A], [NOTHING, B], False, [B]),
        ([{"delete": 0}, A], [B, {"delete": 1}], True, [B, {"retain": 1}, {"delete": 1}]),
        ([{"retain": 1}, NOTHING, A], [{"retain": 1}, B], True, [{"retain": 1}, B]),
    ],
    ids=["left", "right", "both, left first", "both, right first", "a delete", "further on"],
)  # fmt: skip
def test_an_insert_behind_a_part_of_length_0_comes_after_the_others(
    a: list[Any], b: list[Any], priority: bool, expected: list[Any]
) -> None:
    assert transform(a, b, priority=priority) == expected

"""The text of a draft: Python positions in, wire deltas out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.documents.draft import DraftText, record
from patches.errors import InvalidValueError, PatchError
from patches.json_patch import apply_patch
from patches.text import Delta

Edit = Callable[[DraftText], object]


def text_of(content: str) -> dict[str, Any]:
    return {"ops": [{"insert": content}]}


def edited(state: Any, edit: Edit) -> tuple[list[Any], Any]:
    """The deltas written to `/t`, and the value after them; the draft must have read the same."""
    seen: list[Any] = []

    def fn(draft: Any) -> None:
        text = draft.text("t")
        edit(text)
        seen.append((text.delta.ops, draft["t"] if "t" in draft else None))

    ops = record(state, fn)
    assert all(op["op"] == "@txt" and op["path"] == "/t" for op in ops)
    value = apply_patch(state, ops, strict=True).get("t")
    assert seen[0][1] == value
    assert value is None or seen[0][0] == value["ops"]
    return [op["value"] for op in ops], value


@pytest.mark.parametrize(
    ("before", "edit", "deltas", "after"),
    [
        ("b\n", lambda t: t.insert(0, "a"), [[{"insert": "a"}]], "ab\n"),
        ("😀b\n", lambda t: t.insert(1, "a"), [[{"retain": 2}, {"insert": "a"}]], "😀ab\n"),
        ("ab\n", lambda t: t.insert(-1, "c"), [[{"retain": 2}, {"insert": "c"}]], "abc\n"),
        ("ab\n", lambda t: t.append("c"), [[{"retain": 2}, {"insert": "c"}]], "abc\n"),
        ("a😀b\n", lambda t: t.delete(1), [[{"retain": 1}, {"delete": 2}]], "ab\n"),
        ("abcd\n", lambda t: t.delete(-4, 2), [[{"retain": 1}, {"delete": 2}]], "ad\n"),
        ("ab\n", lambda t: t.replace(0, 1, "X"), [[{"insert": "X"}, {"delete": 1}]], "Xb\n"),
        ("ab\n", lambda t: t.insert(0, ""), [], "ab\n"),
        ("ab\n", lambda t: t.set("ab"), [], "ab\n"),
        ("ab\n", lambda t: t.set("a-b"), [[{"retain": 1}, {"insert": "-"}]], "a-b\n"),
        ("ab\n", lambda t: t.delete(0, 3), [[{"delete": 3}]], "\n"),
        (
            "ab\n",
            lambda t: t.apply([{"retain": 1}, {"insert": "x"}]),
            [[{"retain": 1}, {"insert": "x"}]],
            "axb\n",
        ),
        ("ab\n", lambda t: t.apply(Delta().delete(1)), [[{"delete": 1}]], "b\n"),
    ],
)
def test_an_edit_writes_this_delta(before: str, edit: Edit, deltas: Any, after: str) -> None:
    assert edited({"t": text_of(before)}, edit) == (deltas, text_of(after))


def test_a_text_that_is_not_there_begins_as_a_newline_and_stands_there_once_edited() -> None:
    def edit(draft: Any) -> None:
        text = draft.text("t")
        assert (str(text), len(text)) == ("\n", 1)
        assert "t" not in draft
        text.append("hi")
        assert draft.text("t") is text
        assert str(text) == "hi\n"
        assert draft["t"] == text_of("hi\n")

    assert apply_patch({}, record({}, edit), strict=True) == {"t": text_of("hi\n")}
    assert record({}, lambda draft: str(draft.text("t"))) == []


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_a_text_may_take_the_place_of_nothing(value: Any) -> None:
    assert edited({"t": value}, lambda t: t.append("a"))[1] == text_of("a\n")


@pytest.mark.parametrize("value", ["plain", 1, [1], {"a": 1}, True])
def test_a_value_that_is_no_text_is_not_silently_lost(value: Any) -> None:
    with pytest.raises(PatchError, match="not a rich text"):
        record({"t": value}, lambda draft: draft.text("t"))


def test_formatting_is_written_and_stays_when_the_text_around_it_is_set() -> None:
    def edit(text: DraftText) -> None:
        text.format(0, 1, {"bold": True})
        text.set("ab!")
        text.format(1, 1, {"bold": None, "i": 1})

    assert edited({"t": text_of("ab\n")}, edit)[1]["ops"] == [
        {"insert": "a", "attributes": {"bold": True}},
        {"insert": "b", "attributes": {"i": 1}},
        {"insert": "!\n"},
    ]


def test_setting_a_delta_sets_the_formatting_too() -> None:
    whole = Delta().insert("a", {"bold": True}).insert("c")
    _, value = edited({"t": text_of("ab\n")}, lambda t: t.set(whole))
    assert value["ops"] == [{"insert": "a", "attributes": {"bold": True}}, {"insert": "c\n"}]


def test_an_embed_is_one_character() -> None:
    def edit(text: DraftText) -> None:
        text.insert(1, {"image": "x.png"})
        assert str(text) == "a\ufffcb\n"
        text.insert(2, "-")
        text.set("a\ufffc+b")

    _, value = edited({"t": text_of("ab\n")}, edit)
    assert value["ops"] == [{"insert": "a"}, {"insert": {"image": "x.png"}}, {"insert": "+b\n"}]


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (lambda t: t.insert(4, "x"), IndexError),
        (lambda t: t.insert(-4, "x"), IndexError),
        (lambda t: t.insert(True, "x"), IndexError),
        (lambda t: t.delete(2, 2), IndexError),
        (lambda t: t.delete(0, -1), IndexError),
        (lambda t: t.insert(0, 5), PatchError),
        (lambda t: t.insert(0, "x", {"a": {1}}), InvalidValueError),
        (lambda t: t.apply([{"insert": {"x": float("nan")}}]), InvalidValueError),
        (lambda t: t.apply("text"), PatchError),
        (lambda t: t.apply([{"hop": 1}]), PatchError),
        (lambda t: setattr(t, "x", 1), AttributeError),
    ],
)
def test_an_impossible_edit_raises_and_writes_nothing(edit: Edit, error: type[Exception]) -> None:
    def attempt(text: DraftText) -> None:
        with pytest.raises(error):
            edit(text)

    assert edited({"t": text_of("ab\n")}, attempt) == ([], text_of("ab\n"))


def test_a_text_in_a_list_follows_its_element() -> None:
    def edit(draft: Any) -> None:
        text = draft.l.text(0)
        draft.l.insert(0, "first")
        text.append("!")

    ops = record({"l": [text_of("a\n")]}, edit)
    assert ops[-1]["path"] == "/l/1"


def test_a_text_that_was_replaced_or_overtaken_takes_no_edit() -> None:
    def replaced(draft: Any) -> None:
        text = draft.text("t")
        draft.t = "other"
        text.append("x")

    with pytest.raises(PatchError, match="removed from the document"):
        record({"t": text_of("a\n")}, replaced)
    with pytest.raises(PatchError, match="has been set since"):
        record({}, replaced)


letters = st.text(st.sampled_from("ab😀\ud83dé\n"), max_size=6)


@settings(max_examples=150, deadline=None)
@given(start=letters, new=st.lists(letters, max_size=3), data=st.data())
def test_edits_by_python_positions_are_edits_of_python_text(
    start: str, new: list[str], data: st.DataObject
) -> None:
    model = start + "\n"

    def edit(text: DraftText) -> None:
        nonlocal model
        for piece in new:
            at = data.draw(st.integers(0, len(model) - 1))
            length = data.draw(st.integers(0, len(model) - 1 - at))
            text.replace(at, length, piece)
            model = Delta().insert(model[:at] + piece + model[at + length :]).text()
            assert str(text) == model

    whole = Delta().insert(model)
    model = whole.text()
    edited({"t": {"ops": whole.ops}}, edit)


@settings(max_examples=100, deadline=None)
@given(before=letters, after=letters)
def test_set_makes_exactly_that_text(before: str, after: str) -> None:
    before, after = Delta().insert(before).text(), Delta().insert(after).text()
    _, value = edited({"t": text_of(before + "\n")}, lambda t: t.set(after))
    assert Delta(value).text() == (after if after.endswith("\n") else after + "\n")

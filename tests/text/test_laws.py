"""Laws of rich text, over generated texts and changes, pairs cut in half included."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from patches.model.json_values import json_equal
from patches.text import (
    Delta,
    DeltaOp,
    compose,
    invert,
    op_length,
    text_of,
    transform,
    transform_position,
    utf16_length,
    utf16_slice,
)
from patches.text.algebra import splice
from patches.text.ops import push
from tests.support.strategies import changes, text_documents, texts

COMMON = settings(max_examples=80, deadline=None)


def length(ops: Sequence[DeltaOp]) -> int:
    return sum(map(op_length, ops))


def normal(ops: Sequence[DeltaOp]) -> list[DeltaOp]:
    """The same content, with all neighbours merged that can be."""
    merged: list[DeltaOp] = []
    for op in ops:
        push(merged, op)
    return merged


def equal(a: Sequence[DeltaOp], b: Sequence[DeltaOp]) -> bool:
    return json_equal(normal(a), normal(b))


def after(ops: Sequence[DeltaOp], change: Sequence[DeltaOp]) -> int:
    """The length of a text after a change."""
    return length(compose(ops, change))


@COMMON
@given(st.data())
def test_compose_is_associative(data: st.DataObject) -> None:
    base = data.draw(text_documents(halves=True))
    a = data.draw(changes(length(base), halves=True))
    b = data.draw(changes(after(base, a), halves=True))
    c = data.draw(changes(after(compose(base, a), b), halves=True))
    before = copy.deepcopy((base, a, b))

    assert equal(compose(compose(base, a), b), compose(base, compose(a, b)))
    assert equal(compose(compose(a, b), c), compose(a, compose(b, c)))
    assert json_equal([base, a, b], list(before))


@COMMON
@given(st.data())
def test_two_changes_converge(data: st.DataObject) -> None:
    base = data.draw(text_documents(halves=True))
    a = data.draw(changes(length(base), halves=True))
    b = data.draw(changes(length(base), halves=True))
    left = compose(compose(base, a), transform(a, b, priority=True))
    right = compose(compose(base, b), transform(b, a, priority=False))
    assert equal(left, right)


@COMMON
@given(st.data(), st.booleans())
def test_transform_over_two_changes_is_transform_over_both_as_one(
    data: st.DataObject, priority: bool
) -> None:
    base = data.draw(text_documents(plain=True))
    a = data.draw(changes(length(base), plain=True))
    b = data.draw(changes(after(base, a), plain=True))
    c = data.draw(changes(length(base), plain=True).filter(inserts_nothing))
    in_turn = transform(b, transform(a, c, priority=priority), priority=priority)
    assert equal(in_turn, transform(compose(a, b), c, priority=priority))


def inserts_nothing(change: Sequence[DeltaOp]) -> bool:
    """Where two insert at a place one of which is deleted again, order is lost in composing."""
    return all("insert" not in op for op in change)


@COMMON
@given(st.data())
def test_invert_undoes(data: st.DataObject) -> None:
    base = data.draw(text_documents(halves=True))
    change = data.draw(changes(length(base), halves=True))
    assert equal(compose(compose(base, change), invert(change, base)), base)


@COMMON
@given(st.data(), st.booleans())
def test_a_position_goes_where_an_insert_there_goes(data: st.DataObject, priority: bool) -> None:
    base = data.draw(text_documents(plain=True))
    change = data.draw(changes(length(base), plain=True))
    position = data.draw(st.integers(0, length(base)))
    insert = Delta().retain(position).insert({"here": 1}).ops
    moved = transform(change, insert, priority=not priority)
    before_it = sum(op_length(op) for op in moved if "retain" in op)
    assert transform_position(change, position, priority=priority) == before_it


@COMMON
@given(text_documents(halves=True), text_documents(halves=True))
def test_diff_leads_from_one_document_to_the_other(a: list[DeltaOp], b: list[DeltaOp]) -> None:
    change = Delta(a).diff(b)
    assert equal(compose(a, change.ops), b)
    assert Delta(a).diff(a) == Delta()


@COMMON
@given(texts(max_size=30), texts(max_size=30))
def test_diff_of_texts_never_cuts_a_pair(a: str, b: str) -> None:
    change = Delta().insert(a).diff(b)
    assert text_of(compose([{"insert": a}], change.ops) if a else change.ops) == b
    for op in change.ops:
        assert not any("\ud800" <= character <= "\udfff" for character in op.get("insert", ""))


@COMMON
@given(st.data())
def test_what_a_change_passes_over_stays_the_same_object(data: st.DataObject) -> None:
    base = data.draw(text_documents(halves=True))
    at = data.draw(st.integers(0, length(base)))
    ops = compose(base, [*([{"retain": at}] if at else []), {"insert": {"mark": 1}}])
    place = next(place for place, op in enumerate(ops) if op["insert"] == {"mark": 1})
    assert length(ops[:place]) == at
    assert all(a is b for a, b in zip(ops, base[: max(place - 1, 0)], strict=False))
    assert equal([*ops[:place], *ops[place + 1 :]], base)


@COMMON
@given(st.data())
def test_the_short_cut_for_plain_texts_does_what_the_long_way_does(data: st.DataObject) -> None:
    text = data.draw(texts(halves=True, max_size=20).filter(bool))
    base = Delta().insert(text).ops
    change = data.draw(changes(length(base), halves=True, plain=True, overrun=2))
    marked = [{**op, "attributes": {"m": 1}} for op in base]  # which takes the long way
    long_way = compose(marked, change)
    if splice(base[0]["insert"], change) is not None:
        assert text_of(compose(base, change)) == text_of(long_way)


@COMMON
@given(texts(halves=True, max_size=12), st.integers(0, 30), st.integers(0, 30))
@example("a\U0001f600b", 2, 4)
@example("\ud83d\U0001f600\ude00", 1, 2)
def test_slices_count_code_units(text: str, start: int, end: int) -> None:
    text = Delta().insert(text).text()
    units = text.encode("utf-16-le", "surrogatepass")
    assert utf16_length(text) == len(units) // 2
    expected = units[2 * start : 2 * end].decode("utf-16-le", "surrogatepass")
    assert utf16_slice(text, start, end) == expected
    assert utf16_slice(text, start) == units[2 * start :].decode("utf-16-le", "surrogatepass")


@COMMON
@given(st.data())
def test_slices_of_a_document_put_together_are_the_document(data: st.DataObject) -> None:
    base = data.draw(text_documents(halves=True))
    cut = data.draw(st.integers(0, length(base)))
    delta = Delta(base)
    head, tail = delta.slice(0, cut), delta.slice(cut)
    assert head.length() == cut
    assert equal([*head.ops, *tail.ops], base)

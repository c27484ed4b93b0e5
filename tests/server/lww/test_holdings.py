"""When a reader may have held something at a path."""

from __future__ import annotations

import pytest

from patches_server.lww.holdings import (
    Spans,
    after_removal,
    after_write,
    decode_spans,
    encode_spans,
    held_at,
)


@pytest.mark.parametrize(
    ("replaced", "expected"),
    [
        ([], ((7, None),)),
        ([((3, None),)], ((3, None),)),
        ([((3, None),), ((2, None),)], ((2, None),)),
        ([((1, 4),)], ((1, 4), (7, None))),
        ([((1, 4), (5, None)), ((2, None),)], ((1, 4), (2, None))),
    ],
    ids=["nothing", "a value", "values", "a removal", "a rewritten one and a child"],
)
def test_after_a_write(replaced: list[Spans], expected: Spans) -> None:
    assert after_write(replaced, 7) == expected


@pytest.mark.parametrize(
    ("replaced", "held_since", "expected"),
    [
        ([], [], ()),
        ([((3, None),)], [], ((3, 7),)),
        ([((1, 4),)], [], ((1, 4),)),
        ([((1, 4), (5, None))], [], ((1, 4), (5, 7))),
        ([((1, 4), (4, None))], [], ((1, 7),)),
        ([], [2, 5], ((2, 7),)),
    ],
    ids=["nothing", "a value", "a removal", "both", "without a pause", "a value above"],
)
def test_after_a_removal(replaced: list[Spans], held_since: list[int], expected: Spans) -> None:
    assert after_removal(replaced, 7, held_since=held_since) == expected


def test_a_reader_holds_what_was_there_and_has_gone_since() -> None:
    spans: Spans = ((2, 4), (6, None))
    assert [rev for rev in range(9) if held_at(spans, rev)] == [2, 3]


def test_many_spans_are_kept_few_and_none_is_lost() -> None:
    spans: Spans = ()
    for rev in range(1, 101, 2):
        spans = after_removal([after_write([spans], rev)], rev + 1)
    assert len(spans) <= 8
    assert all(held_at(spans, rev) for rev in range(1, 101, 2))
    assert not held_at(spans, 100)


def test_the_stored_form_comes_back() -> None:
    spans: Spans = ((2, 4), (6, None))
    assert decode_spans(encode_spans(spans)) == spans
    assert decode_spans(encode_spans(())) == ()

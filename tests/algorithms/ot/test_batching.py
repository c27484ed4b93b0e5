"""A plan for the next commit fits, holds everything, and is the same when it is made again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.ot import apply_changes, break_changes_into_batches
from patches.algorithms.ot.batching import leading_run, plan_batch
from patches.algorithms.ot.sizes import change_byte_size, list_byte_size
from patches.model.change import Change
from patches.model.ids import IdSource, change_ids
from patches.options import DocOptions


def ids_from(seed: int) -> IdSource:
    return change_ids(random.Random(seed))


def typed(name: str, text: str, *, base_rev: int = 3, batch_id: str | None = None) -> Change:
    ops = [{"op": "@txt", "path": "/t", "value": [{"insert": text}]}]
    return Change(id=name, ops=ops, base_rev=base_rev, rev=4, created_at=1, batch_id=batch_id)


@pytest.mark.parametrize(
    ("queue", "length"),
    [
        ([], 0),
        ([("a", 3, None), ("b", 3, None)], 2),
        ([("a", 2, None), ("b", 3, None)], 1),
        ([("a", 3, "a"), ("b", 3, "a"), ("c", 3, None)], 2),
    ],
    ids=["nothing", "one frame", "two frames", "an upload under way"],
)
def test_a_run_has_one_frame_and_one_batch(
    queue: list[tuple[str, int, str | None]], length: int
) -> None:
    changes = [typed(name, "x", base_rev=rev, batch_id=batch) for name, rev, batch in queue]
    assert leading_run(changes) == changes[:length]


LONG = "x" * 300
ENDS = {
    "a newline": [{"insert": LONG + "\n"}],
    "a formatted newline": [{"insert": LONG}, {"insert": "\n", "attributes": {"list": "bullet"}}],
    "formatted as a whole": [{"insert": LONG + "\n", "attributes": {"bold": True}}],
    "after an embed": [{"insert": {"img": 1}}, {"insert": LONG + "\n"}],
    "nothing else": [{"insert": "\n"}],
}


@pytest.mark.parametrize("ends", ENDS, ids=str)
def test_a_text_that_is_taken_out_of_its_object_stays_the_same_text(ends: str) -> None:
    value = {"a/b": {"ops": ENDS[ends]}, "other": {"ops": [{"insert": LONG + "\n"}]}}
    op = {"op": "replace", "path": "/doc", "value": value}
    change = Change(id="a", ops=[op], base_rev=3, rev=4, created_at=1)
    for options in (DocOptions(max_payload_bytes=250), DocOptions(max_storage_bytes=250)):
        plan = plan_batch([change], options, new_id=ids_from(1))
        assert len(plan.pieces) > 3
        assert apply_changes({}, plan.pieces) == {"doc": value}


def test_what_fits_is_sent_as_it_is() -> None:
    run = [typed("a", "x"), typed("b", "y")]
    plan = plan_batch(run, DocOptions(max_payload_bytes=1_000), new_id=ids_from(1))
    assert all(piece is change for piece, change in zip(plan.pieces, run, strict=True))
    assert plan.batch == run


def test_without_a_limit_everything_goes_out_at_once() -> None:
    run = [typed("a", "x" * 10_000)]
    assert plan_batch(run, DocOptions(), new_id=ids_from(1)).batch == run


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(min_size=1, max_size=400), min_size=1, max_size=6),
    limit=st.integers(330, 1_200),
)
def test_a_plan_keeps_everything_fits_and_is_stable(texts: list[str], limit: int) -> None:
    run = [typed(f"c{at}", text) for at, text in enumerate(texts)]
    options = DocOptions(max_payload_bytes=limit)
    plan = plan_batch(run, options, new_id=ids_from(1))
    assert apply_changes({}, plan.pieces) == apply_changes({}, run)
    assert list_byte_size(map(change_byte_size, plan.batch)) <= limit
    assert plan.pieces[: len(plan.batch)] == plan.batch
    assert plan.pieces[0].id == "c0"
    if len(plan.batch) < len(plan.pieces):
        assert {piece.batch_id for piece in plan.pieces} == {"c0"}
    again = plan_batch(leading_run(plan.pieces), options, new_id=ids_from(2))
    assert again == plan


def test_a_change_that_cannot_be_cut_goes_out_alone_under_its_id() -> None:
    blob = Change(
        id="blob",
        ops=[{"op": "replace", "path": "/b", "value": [1] * 500}],
        base_rev=3,
        rev=5,
        created_at=1,
    )
    run = [typed("a", "x"), blob, typed("b", "y")]
    options = DocOptions(max_payload_bytes=300)
    plan = plan_batch(run, options, new_id=ids_from(1))
    assert [piece.id for piece in plan.pieces] == ["a", "blob", "b"]
    assert [change.id for change in plan.batch] == ["a"]
    rest = plan_batch(plan.pieces[1:], options, new_id=ids_from(1))
    assert [change.id for change in rest.batch] == ["blob"]


def test_no_changes_are_one_empty_batch() -> None:
    assert break_changes_into_batches([], 100, new_id=ids_from(1)) == [[]]

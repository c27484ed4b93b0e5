"""Cutting a change keeps its effect, its size limit, its id and its fields."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.ot import OversizedOp, apply_changes, break_changes
from patches.algorithms.ot.sizes import change_byte_size
from patches.errors import UnsplittableChangeError
from patches.model.change import Change
from patches.model.ids import IdSource, change_ids
from patches.model.json_values import Op

STATE = {"t": {"ops": [{"insert": "a text that is 😀 there already, long enough\n"}]}, "o": {}}

parts = st.one_of(
    st.integers(1, 8).map(lambda count: {"retain": count}),
    st.integers(1, 4).map(lambda count: {"delete": count}),
    st.text("ab😀é\n", min_size=1, max_size=300).map(lambda text: {"insert": text}),
    st.text("xy", min_size=1, max_size=80).map(
        lambda text: {"insert": text, "attributes": {"b": True}}
    ),
    st.just({"insert": {"img": "u"}}),
)
texts = st.lists(parts, min_size=1, max_size=4).filter(lambda ops: "retain" not in ops[-1])
ops = st.one_of(
    texts.map(lambda value: {"op": "@txt", "path": "/t", "value": value}),
    st.text(max_size=60).map(lambda value: {"op": "replace", "path": "/s", "value": value}),
    st.text("ab/~", min_size=1, max_size=3).map(
        lambda key: {
            "op": "replace",
            "path": "/o",
            "value": {key: {"ops": [{"insert": "long " * 60 + "\n"}], "meta": 1}, "n": [1]},
        }
    ),
)


def new_id() -> IdSource:
    return change_ids(random.Random(3))


def change_of(*given: Op, **fields: Any) -> Change:
    return Change(
        id="orig",
        ops=list(given),
        base_rev=4,
        rev=5,
        created_at=7,
        metadata={"user": "ada"},
        **fields,
    )


@settings(max_examples=150, deadline=None)
@given(given_ops=st.lists(ops, min_size=1, max_size=4), limit=st.integers(260, 700))
def test_the_pieces_do_what_the_change_does(given_ops: list[Op], limit: int) -> None:
    change = change_of(*given_ops)
    reports: list[OversizedOp] = []
    pieces = break_changes([change], limit, new_id=new_id(), on_oversized=reports.append)
    assert plain(apply_changes(STATE, pieces)) == plain(apply_changes(STATE, [change]))
    assert [piece.rev for piece in pieces] == list(range(5, 5 + len(pieces)))
    assert pieces[0].id == "orig"
    assert len({piece.id for piece in pieces}) == len(pieces)
    assert all((p.base_rev, p.created_at, p.metadata) == (4, 7, {"user": "ada"}) for p in pieces)
    if not reports:
        # A path that is escaped is longer than the one that the sizes were taken with.
        assert all(change_byte_size(piece) <= limit + 8 for piece in pieces)


def plain(state: Any) -> Any:
    """Texts as their characters with attributes: where they are cut into parts does not count.

    Nor do newlines at the end: a text that is taken out of a value gets one more, as at the peers,
    because it is put into an empty text.
    """
    if isinstance(state, dict) and isinstance(state.get("ops"), list):
        units: list[Any] = []
        for part in state["ops"]:
            inserted, attributes = part["insert"], part.get("attributes")
            items = list(inserted) if isinstance(inserted, str) else [inserted]
            units.extend((item, attributes) for item in items)
        while units and units[-1] == ("\n", None):
            units.pop()
        rest = {key: value for key, value in state.items() if key not in ("ops", "meta")}
        return {"text": units, **rest}
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    return state


def test_what_fits_is_the_very_same_change() -> None:
    change = change_of({"op": "replace", "path": "/x", "value": 1})
    (piece,) = break_changes([change], 10_000, new_id=new_id())
    assert piece is change


def test_later_changes_move_up_by_the_pieces_before_them() -> None:
    long = change_of({"op": "@txt", "path": "/t", "value": [{"insert": "x" * 900}]})
    small = change_of({"op": "replace", "path": "/x", "value": 1}).replace(id="small", rev=6)
    pieces = break_changes([long, small], 400, new_id=new_id())
    assert pieces[-1].id == "small"
    assert pieces[-1].rev == 4 + len(pieces)


def test_a_surrogate_pair_is_never_cut() -> None:
    long = change_of({"op": "@txt", "path": "/t", "value": [{"insert": "😀" * 300}]})
    for limit in range(230, 240):
        for piece in break_changes([long], limit, new_id=new_id()):
            piece.encoded.decode("utf-8")
            assert b"\\u" not in piece.encoded


@pytest.mark.parametrize("ceiling", [None, 10_000], ids=["no ceiling", "below the ceiling"])
def test_what_cannot_be_cut_goes_out_whole_and_is_told(ceiling: int | None) -> None:
    reports: list[OversizedOp] = []
    change = change_of({"op": "replace", "path": "/x", "value": [1] * 300})
    (piece,) = break_changes(
        [change],
        200,
        new_id=new_id(),
        max_unsplittable_bytes=ceiling,
        doc_id="d",
        on_oversized=reports.append,
    )
    assert (piece.id, piece.ops) == ("orig", change.ops)
    (report,) = reports
    assert (report.op, report.path, report.reason) == ("replace", "/x", "value-not-object")
    assert (report.doc_id, report.change_id, report.emitted) == ("d", "orig", True)


def test_above_the_ceiling_it_is_refused_by_name() -> None:
    reports: list[OversizedOp] = []
    with pytest.raises(UnsplittableChangeError, match="cannot be split") as refused:
        break_changes(
            [change_of({"op": "replace", "path": "/x", "value": [1] * 300})],
            200,
            new_id=new_id(),
            max_unsplittable_bytes=300,
            on_oversized=reports.append,
        )
    assert (refused.value.change_id, refused.value.path) == ("orig", "/x")
    assert not reports[0].emitted


def test_a_size_calculator_measures_instead_of_json() -> None:
    change = change_of({"op": "@txt", "path": "/t", "value": [{"insert": "x" * 900}]})
    half = break_changes([change], 400, lambda piece: change_byte_size(piece) / 2, new_id=new_id())
    assert 1 < len(half) < len(break_changes([change], 400, new_id=new_id()))


def test_a_text_taken_out_of_a_value_is_marked_where_its_key_looks_like_an_index() -> None:
    text = {"ops": [{"insert": "x" * 200 + "\n"}]}
    marked = change_of(
        {"op": "replace", "path": "/y/5", "value": {"7": text, "t": text}, "obj": True}
    )
    pieces = break_changes([marked], 300, new_id=new_id())
    edits = [op for piece in pieces for op in piece.ops if op["op"] == "@txt"]
    assert {op["path"]: op.get("obj") for op in edits} == {"/y/5/7": True, "/y/5/t": None}
    (whole,) = [op for piece in pieces for op in piece.ops if op["op"] == "replace"]
    assert whole["obj"] is True
    bare = change_of({"op": "replace", "path": "/y/5", "value": text, "obj": True})
    assert all(
        op["obj"] is True for p in break_changes([bare], 150, new_id=new_id()) for op in p.ops
    )

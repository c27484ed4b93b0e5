"""Size and depth bounds hold for every state, and are exact where they are measured."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.ot import apply_changes
from patches.json_patch import apply_patch
from patches.limits import Limits
from patches.model import codec
from patches.model.change import Change
from patches.model.json_values import Json, Op
from patches_server.documents.measure import measure
from patches_server.ot import Bounds
from patches_server.ot.bounds import exceeded, grown, measured_after

LIMITS = Limits()
START: Json = {"a": {"b": [1, {"c": None}]}, "t": {"ops": [{"insert": "hello 😀 world\n"}]}}


def a_change(*ops: Op) -> Change:
    return Change(id="c", ops=list(ops), base_rev=0, rev=1, created_at=1)


def true_depth(value: Json) -> int:
    if isinstance(value, dict):
        return 1 + max(map(true_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(true_depth, value), default=0)
    return 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(value=json_values)
def test_a_measure_is_the_true_size_and_depth(value: Json) -> None:
    assert measure(value) == Bounds(len(codec.encode(value)), true_depth(value))


paths = st.sampled_from(["/a", "/a/b", "/a/b/0", "/a/b/1", "/x", "/a/y"])
texts = st.lists(
    st.builds(lambda n: {"retain": n}, st.integers(1, 4))
    | st.builds(lambda n: {"delete": n}, st.integers(1, 3))
    | st.builds(lambda t: {"insert": t}, st.text("ab😀", min_size=1, max_size=4))
    | st.builds(
        lambda n, k: {"retain": n, "attributes": {k: "formatted"}},
        st.integers(1, 9),
        st.sampled_from("bi"),
    ),
    max_size=5,
)
operations = st.one_of(
    st.builds(lambda p, v: {"op": "add", "path": p, "value": v}, paths, json_values),
    st.builds(lambda p, v: {"op": "replace", "path": p, "value": v}, paths, json_values),
    st.builds(lambda p: {"op": "remove", "path": p}, paths),
    st.builds(lambda f, p: {"op": "copy", "from": f, "path": p}, paths, paths),
    st.builds(lambda f, p: {"op": "move", "from": f, "path": p}, paths, paths),
    st.builds(lambda v: {"op": "@txt", "path": "/t", "value": v}, texts),
)


@settings(max_examples=200, deadline=None)
@given(ops=st.lists(operations, max_size=8))
def test_no_state_is_larger_or_deeper_than_its_bounds(ops: list[Op]) -> None:
    state, bounds = START, measure(START)
    exact = measured_after(START, [a_change(op) for op in ops], LIMITS).after
    for op in ops:
        change = a_change(op)
        bounds = grown(bounds, [change], LIMITS)
        try:
            state = apply_patch(state, [op], strict=True)
        except ValueError:
            continue
        true = measure(state)
        assert true.size <= bounds.size, op
        assert true.depth <= bounds.depth, op
    assert measure(state).size <= exact.size
    assert measure(state).depth <= exact.depth


def test_a_value_that_is_shared_counts_as_often_as_it_stands_there() -> None:
    shared: Json = {"x": "y" * 10}
    for _ in range(40):
        shared = [shared, shared]
    bounds = measure(shared)
    assert bounds.size > 2**40
    assert bounds.depth == 41


def test_a_bomb_is_measured_without_being_built() -> None:
    ops: list[Op] = [{"op": "copy", "from": "/a", "path": f"/a/k{n}"} for n in range(5_000)]
    measured = measured_after(START, [a_change(*ops)], LIMITS)
    assert measured.beyond == "c"
    assert measured.after.size > 64 * 1024 * 1024


def test_a_bound_that_is_too_high_is_lowered() -> None:
    big: Json = {"a": {}, "b": "x" * 600}
    limits = Limits(max_doc_bytes=1_000)
    copies = [a_change({"op": "copy", "from": "/a", "path": f"/c{n}"}) for n in range(9)]
    assert exceeded(grown(measure(big), copies, limits), limits)
    measured = measured_after(big, copies, limits)
    assert measured.beyond is None
    assert measure(apply_changes(big, copies)).size <= measured.after.size <= 1_000


def test_a_state_that_was_over_the_limit_may_shrink_but_not_grow() -> None:
    big: Json = {"a": "x" * 500, "b": "x" * 500}
    limits = Limits(max_doc_bytes=100)
    shrink: Op = {"op": "remove", "path": "/a"}
    measured = measured_after(big, [a_change(shrink)], limits)
    assert measured.before == measure(big)
    assert measured.after.size <= measured.before.size
    assert measured.beyond is None
    grow: Op = {"op": "copy", "from": "/b", "path": "/c"}
    for ops in ([grow], [shrink, grow, {**grow, "path": "/d"}]):
        measured = measured_after(big, [a_change(*ops)], limits)
        assert measured.after.size > measured.before.size
        assert measured.beyond == "c"


def test_the_change_that_grows_past_the_limit_is_named() -> None:
    limits = Limits(max_doc_bytes=1_000)
    add: Op = {"op": "add", "path": "/k", "value": "x" * 600}
    changes = [
        Change(id=f"c{n}", ops=[{**add, "path": f"/k{n}"}], base_rev=0, rev=n + 1, created_at=1)
        for n in range(3)
    ]
    assert measured_after({}, changes, limits).beyond == "c1"


def test_what_is_written_after_a_measurement_counts() -> None:
    full: Json = {"a": "x" * 990}
    remove: Op = {"op": "remove", "path": "/a"}
    add: Op = {"op": "add", "path": "/b", "value": "x" * 5_000}
    assert measured_after(full, [a_change(remove, add)], Limits(max_doc_bytes=1_000)).beyond == "c"


def test_a_change_that_does_not_apply_adds_and_removes_nothing() -> None:
    full: Json = {"a": "x" * 900}
    limits = Limits(max_doc_bytes=1_000)
    grows: Op = {"op": "add", "path": "/b", "value": "x" * 90}
    shrinks: Op = {"op": "remove", "path": "/a"}
    fails: Op = {"op": "move", "from": "/none", "path": "/" + "x" * 500}
    measured = measured_after(full, [a_change(shrinks, fails), a_change(grows)], limits)
    assert measured.beyond == "c"
    measured = measured_after(full, [a_change(fails)], limits)
    assert (measured.beyond, measured.after) == (None, measure(full))


def test_formatting_counts_for_each_part_of_a_text_edit() -> None:
    attributes = {"link": "x" * 100}
    parts = [
        {"retain": 1, "attributes": attributes},
        {"retain": 1},
        {"retain": 1, "attributes": attributes},
        {"retain": 1},
    ]
    one = grown(
        Bounds(100, 3), [a_change({"op": "@txt", "path": "/t", "value": parts[:2]})], LIMITS
    )
    both = grown(Bounds(100, 3), [a_change({"op": "@txt", "path": "/t", "value": parts})], LIMITS)
    # Once for the bytes of the edit itself, once for the run that the attributes go onto.
    assert both.size - one.size > 2 * codec.json_size(attributes)


@pytest.mark.parametrize(
    ("bounds", "limits", "over"),
    [
        (Bounds(11, 0), {"max_doc_bytes": 10}, True),
        (Bounds(10, 128), {"max_doc_bytes": 10}, False),
        (Bounds(10**12, 0), {"max_doc_bytes": None}, False),
        (Bounds(0, 129), {}, True),
    ],
)
def test_what_is_over_a_limit(bounds: Bounds, limits: dict[str, Any], over: bool) -> None:
    assert exceeded(bounds, Limits(**limits)) is over

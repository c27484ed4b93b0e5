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
from patches_server.ot import Bounds
from patches_server.ot.bounds import exceeded, grown, measure, measured_after

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
    _, exact = measured_after(START, [a_change(op) for op in ops], LIMITS)
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
    _, after = measured_after(START, [a_change(*ops)], LIMITS)
    assert exceeded(after, LIMITS)
    assert after.size > 64 * 1024 * 1024


def test_a_bound_that_is_too_high_is_lowered() -> None:
    big: Json = {"a": {}, "b": "x" * 600}
    limits = Limits(max_doc_bytes=1_000)
    copies = [a_change({"op": "copy", "from": "/a", "path": f"/c{n}"}) for n in range(9)]
    assert exceeded(grown(measure(big), copies, limits), limits)
    _, after = measured_after(big, copies, limits)
    assert not exceeded(after, limits)
    assert measure(apply_changes(big, copies)).size <= after.size


def test_a_state_that_was_over_the_limit_may_shrink_but_not_grow() -> None:
    big: Json = {"a": "x" * 500, "b": "x" * 500}
    limits = Limits(max_doc_bytes=100)
    shrink: Op = {"op": "remove", "path": "/a"}
    before, after = measured_after(big, [a_change(shrink)], limits)
    assert before == measure(big)
    assert after.size <= before.size
    grow: Op = {"op": "copy", "from": "/b", "path": "/c"}
    for ops in ([grow], [shrink, grow, {**grow, "path": "/d"}]):
        before, after = measured_after(big, [a_change(*ops)], limits)
        assert after.size > before.size


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

"""`ShownState`: a state that was handed out stays as it is; when a document is measured."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from patches.documents.shown import ShownState, depth_of
from patches.errors import OpsRefusedError, PatchError
from patches.json_patch import apply_patch
from patches.limits import Limits
from patches.model.codec import json_size
from patches.model.json_values import Json, Op


def shown(state: Json, limits: Limits | None = None) -> ShownState:
    return ShownState(state, 0, limits or Limits())


def edit(document: ShownState, *ops: Op) -> None:
    document.apply("d", ops, json_size(list(ops)))


def put(path: str, value: Json) -> Op:
    return {"op": "replace", "path": path, "value": value}


# ---- in place ------------------------------------------------------------------------------------


def test_an_edit_writes_in_place_until_the_state_is_handed_out() -> None:
    document = shown({"a": {"n": 0}, "b": {}})
    first = document.handed_out()
    edit(document, put("/a/n", 1))
    second = document.state
    edit(document, put("/a/n", 2))
    assert document.state is second
    assert document.handed_out() == {"a": {"n": 2}, "b": {}}
    edit(document, put("/a/n", 3))
    assert (first, second["a"], document.state["a"]) == (
        {"a": {"n": 0}, "b": {}},
        {"n": 2},
        {"n": 3},
    )
    assert document.state["b"] is first["b"]


def test_a_value_of_the_state_that_an_edit_puts_elsewhere_is_not_written_in_two_places() -> None:
    document = shown({"a": {"in": {"n": 0}}})
    edit(document, put("/a/in/n", 1))
    edit(document, put("/b", {"x": document.state["a"]["in"]}), put("/c", document.state["a"]))
    op = put("/d", [document.state["a"]])
    edit(document, op)
    edit(document, put("/a/in/n", 2))
    assert document.state["b"] == {"x": {"n": 1}}
    assert document.state["c"] == op["value"][0] == {"in": {"n": 1}}


def test_what_changes_nothing_counts_as_no_change() -> None:
    document = shown({"a": 1, "l": [1]})
    state = document.handed_out()
    for op in (put("/a", 1), put("/l/0", 1), {"op": "remove", "path": "/none"}):
        edit(document, op)
    assert (document.changes, document.state is state) == (0, True)
    edit(document, put("/a", True))
    assert document.changes == 1


def random_op(rng: random.Random, state: Json) -> Op:
    """Some operation, about half of which fail on a small state."""
    path = "".join(
        f"/{rng.choice(['a', 'b', 'c', '0', '1', '-'])}" for _ in range(rng.randrange(4))
    )
    name = rng.choice(["add", "replace", "remove", "move", "copy", "@inc", "test", "add"])
    if name in ("move", "copy"):
        source = "".join(f"/{rng.choice('abc01')}" for _ in range(rng.randrange(1, 3)))
        return {"op": name, "from": source, "path": path or "/a"}
    if name == "remove":
        return {"op": name, "path": path or "/a"}
    values: list[Json] = [1, {}, [], {"a": {"b": 1}}, [1, {"a": 2}], "x", None]
    if isinstance(state, dict) and state:
        values.append(rng.choice(list(state.values())))  # as `draft["b"] = draft["a"]` may write
    value = rng.choice(values)
    return {"op": name, "path": path or "/a", "value": 1 if name == "@inc" else value}


@pytest.mark.parametrize("seed", range(60))
def test_random_edits_give_what_pure_ones_give_and_touch_nothing_that_was_handed_out(
    seed: int,
) -> None:
    rng = random.Random(seed)
    document = shown({"a": {"b": [1, {"c": 1}]}, "b": [{}, [2]], "c": 3})
    pure: Json = copy.deepcopy(document.state)
    kept: list[tuple[Json, Json]] = []  # each with a copy of it
    for _ in range(120):
        ops = [random_op(rng, document.state) for _ in range(rng.choice([1, 1, 2, 4]))]
        values = [op["value"] for op in ops if isinstance(op.get("value"), (dict, list))]
        kept += [(value, copy.deepcopy(value)) for value in values]
        if depth_of(pure) > 8:
            ops = [put("/a", {}), put("/b", []), {"op": "remove", "path": "/c"}]
        before, order = document.changes, repr(document.state)
        try:
            expected = apply_patch(pure, copy.deepcopy(ops), strict=True)
        except PatchError:
            with pytest.raises(PatchError):
                edit(document, *ops)
            assert (document.changes, repr(document.state)) == (before, order)
        else:
            edit(document, *ops)
            pure = expected
        assert repr(document.state) == repr(pure)
        if rng.random() < 0.3:
            kept.append((document.handed_out(), copy.deepcopy(document.state)))
        for value, as_it_was in kept:
            assert value == as_it_was
        del kept[:-20]


# ---- sizes ---------------------------------------------------------------------------------------


def test_a_document_may_be_filled_to_the_limit_and_shrink_from_beyond_it() -> None:
    document = shown({}, Limits(max_doc_bytes=1_000))
    for key in range(8):
        edit(document, {"op": "add", "path": f"/{key}", "value": "x" * 110})
    with pytest.raises(OpsRefusedError, match="at most 1000") as refused:
        edit(document, {"op": "add", "path": "/more", "value": "x" * 110})
    assert refused.value.code == 413
    edit(document, {"op": "remove", "path": "/1"})
    large = shown({"a": "x" * 2_000, "b": "x" * 2_000}, Limits(max_doc_bytes=1_000))
    edit(large, {"op": "remove", "path": "/a"})


def test_copies_are_measured_at_once() -> None:
    document = shown({"a": "x" * 6_000}, Limits(max_doc_bytes=10_000))
    with pytest.raises(OpsRefusedError, match="12015 bytes"):
        edit(document, {"op": "copy", "from": "/a", "path": "/b"})


def test_moves_do_not_nest_a_document_too_deeply() -> None:
    document = shown({"a": {"b": {"c": {}}}, "d": {}}, Limits(max_doc_depth=4))
    edit(document, {"op": "move", "from": "/d", "path": "/a/b/e"})
    with pytest.raises(OpsRefusedError, match="5 levels deep"):
        edit(document, {"op": "move", "from": "/a", "path": "/d/f"})


@pytest.mark.parametrize(
    ("value", "depth"), [(1, 0), ("x", 0), ({}, 1), ([[]], 2), ({"a": 1, "b": [{"c": 1}]}, 3)]
)
def test_depth(value: Any, depth: int) -> None:
    assert depth_of(value) == depth

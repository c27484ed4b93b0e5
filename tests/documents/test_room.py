"""`DocRoom`: when a document is measured, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from patches.documents.room import DocRoom, depth_of
from patches.errors import OpsRefusedError
from patches.json_patch import apply_patch
from patches.limits import Limits
from patches.model.codec import json_size
from patches.model.json_values import Json, Op


def edit(room: DocRoom, state: Json, op: Op) -> Json:
    after = apply_patch(state, [op], strict=True)
    room.check("d", [op], json_size([op]), before=state, after=after)
    return after


def test_a_document_may_be_filled_to_the_limit_and_shrink_from_beyond_it() -> None:
    room = DocRoom(Limits(max_doc_bytes=1_000))
    state: Json = {}
    for key in range(8):
        state = edit(room, state, {"op": "add", "path": f"/{key}", "value": "x" * 110})
    with pytest.raises(OpsRefusedError, match="at most 1000") as refused:
        edit(room, state, {"op": "add", "path": "/more", "value": "x" * 110})
    assert refused.value.code == 413
    edit(room, state, {"op": "remove", "path": "/1"})
    large = {"a": "x" * 2_000, "b": "x" * 2_000}
    edit(DocRoom(Limits(max_doc_bytes=1_000)), large, {"op": "remove", "path": "/a"})


def test_copies_are_measured_at_once() -> None:
    room, state = DocRoom(Limits(max_doc_bytes=10_000)), {"a": "x" * 6_000}
    with pytest.raises(OpsRefusedError, match="12015 bytes"):
        edit(room, state, {"op": "copy", "from": "/a", "path": "/b"})


def test_moves_do_not_nest_a_document_too_deeply() -> None:
    room = DocRoom(Limits(max_doc_depth=4))
    state: Json = {"a": {"b": {"c": {}}}, "d": {}}
    edit(room, state, {"op": "move", "from": "/d", "path": "/a/b/e"})
    with pytest.raises(OpsRefusedError, match="5 levels deep"):
        edit(room, state, {"op": "move", "from": "/a", "path": "/d/f"})


@pytest.mark.parametrize(
    ("value", "depth"), [(1, 0), ("x", 0), ({}, 1), ([[]], 2), ({"a": 1, "b": [{"c": 1}]}, 3)]
)
def test_depth(value: Any, depth: int) -> None:
    assert depth_of(value) == depth

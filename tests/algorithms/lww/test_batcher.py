"""`LWWBatcher`: many writes, one change."""

from __future__ import annotations

import random
import re

import pytest

from patches.algorithms.lww import LWWBatcher
from patches.json_patch import JSONPatch
from patches.model.json_values import Op
from patches.runtime import Runtime


@pytest.fixture
def batcher() -> LWWBatcher:
    return LWWBatcher(runtime=Runtime(wall_ms=lambda: 500, random=random.Random(1)))


def put(path: str, value: object = 1, **fields: object) -> Op:
    return {"op": "replace", "path": path, "value": value, **fields}


def test_writes_of_a_path_become_one(batcher: LWWBatcher) -> None:
    batcher.add([put("/a", 1), {"op": "@inc", "path": "/n", "value": 2}])
    batcher.add([put("/a", 2), {"op": "@inc", "path": "/n", "value": 3}])
    assert batcher.size == 2
    change = batcher.flush({"source": "import"})
    assert change.ops == [put("/a", 2, ts=500), {"op": "@inc", "path": "/n", "value": 5, "ts": 500}]
    assert re.fullmatch("[0-9A-Za-z]{8}", change.id)
    assert (change.created_at, change.metadata) == (500, {"source": "import"})
    assert (change.base_rev, change.rev) == (None, None)


def test_flushing_leaves_it_empty(batcher: LWWBatcher) -> None:
    batcher.add([put("/a")])
    first = batcher.flush()
    assert batcher.is_empty()
    second = batcher.flush()
    assert second.ops == []
    assert second.id != first.id


def test_only_missing_times_are_filled_in(batcher: LWWBatcher) -> None:
    batcher.add([put("/a", ts=7), put("/b", ts=0), put("/c")], timestamp=9)
    batcher.add([put("/d")], timestamp=0)
    assert [op.get("ts") for op in batcher.flush().ops] == [7, 9, 9, None]


def test_an_older_write_loses_and_a_parent_drops_what_is_below(batcher: LWWBatcher) -> None:
    batcher.add([put("/a", "new", ts=9)])
    batcher.add([put("/a", "old", ts=3)])
    batcher.add([put("/p/x"), put("/p", {}), put("/p/y")])
    assert [op["path"] for op in batcher.flush().ops] == ["/a", "/p", "/p/y"]


def test_it_takes_a_patch_and_a_function(batcher: LWWBatcher) -> None:
    batcher.add(JSONPatch().replace("/a", 1))
    batcher.change(lambda patch, root: patch.increment(root.n, 2))
    batcher.add([])
    assert [op["path"] for op in batcher.flush().ops] == ["/a", "/n"]


def test_clearing_forgets_all(batcher: LWWBatcher) -> None:
    batcher.add([put("/a")])
    batcher.clear()
    assert (batcher.is_empty(), batcher.size) == (True, 0)

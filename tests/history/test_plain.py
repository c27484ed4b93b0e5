"""RFC 6902 and 6901 as their users have them: changes out, pointers and patches in."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import jsonpointer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches import Change, PatchError, Patches, PatchesSync
from patches.json_patch import apply_patch
from patches.model.json_values import Json, Op, json_equal
from patches.testing.local_server import LocalServer
from tests.support.strategies import documents, patches_for

PLAIN = {"add", "remove", "replace", "move", "copy", "test"}


def change_of(ops: list[Op]) -> Change:
    return Change(id="c", ops=ops, base_rev=0, rev=1, created_at=0)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_change_as_jsonpatch_does_what_the_change_does(data: st.DataObject) -> None:
    before = data.draw(documents())
    ops = data.draw(patches_for(before, max_size=4))
    after = apply_patch(before, ops, strict=True)
    untouched = copy.deepcopy(before)
    plain = change_of(ops).to_jsonpatch(before)
    assert isinstance(plain, jsonpatch.JsonPatch)
    assert {each["op"] for each in plain.patch} <= PLAIN
    assert all(each.keys() <= {"op", "path", "from", "value"} for each in plain.patch)
    assert json_equal(plain.apply(before), after)
    assert json_equal(before, untouched)


@pytest.mark.parametrize(
    ("before", "op", "after"),
    [
        ({"n": 1}, {"op": "@inc", "path": "/n", "value": 2}, {"n": 3}),
        ({}, {"op": "replace", "path": "/a", "value": 1, "soft": True}, {"a": 1}),
        ({"a": 0}, {"op": "add", "path": "/a", "value": 1, "soft": True}, {"a": 0}),
        ({}, {"op": "@txt", "path": "/t", "value": [{"insert": "Hi"}]},
         {"t": {"ops": [{"insert": "Hi\n"}]}}),
    ],
)  # fmt: skip
def test_what_rfc_6902_does_not_know_becomes_its_result(before: Json, op: Op, after: Json) -> None:
    plain = change_of([op]).to_jsonpatch(before)
    assert plain.apply(before) == apply_patch(before, [op]) == after


def test_a_change_that_does_not_apply_says_so() -> None:
    with pytest.raises(PatchError):
        change_of([{"op": "test", "path": "/a", "value": 1}]).to_jsonpatch({})


async def test_patch_since_leads_from_a_revision_to_what_is_shown() -> None:
    async with LocalServer() as server, Patches() as patches:
        async with PatchesSync(patches, server.connection()) as sync:
            doc = await patches.open_doc("d")
            doc.change(lambda draft: draft.update(title="Plan", n=1))
            await sync.settled()
            rev = doc.committed_rev
            doc.change(lambda draft: draft.increment("n", 4))
            doc.change(lambda draft: draft.text("body").insert(0, "Hello"))
            await sync.settled()
            sync.set_online(True)
            doc.change(lambda draft: draft.update(unsent=True))
            found = await doc.patch_since(rev)
            assert found.apply(await doc.at(rev)) == doc.raw
            assert {each["op"] for each in found.patch} <= PLAIN


async def test_a_pointer_of_jsonpointer_is_a_path() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("d")
        pointer: Any = jsonpointer.JsonPointer("/a~1b/0")
        doc.apply(jsonpatch.JsonPatch([{"op": "add", "path": "/a~1b", "value": ["x"]}]))
        assert doc.get(pointer) == doc.get("/a~1b/0") == "x"
        assert doc.get("/nothing/here", 7) == 7
        assert doc.get("/a~1b/5") is None
        assert doc.get("") == {"a/b": ["x"]}
        assert doc.anchor(pointer).path == "/a~1b/0"
        with pytest.raises(PatchError, match="a path is a JSON Pointer, not int"):
            doc.get(3)  # type: ignore[arg-type]  # no path
        with pytest.raises(PatchError):
            doc.get("title")

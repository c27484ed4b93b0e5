"""Anchors and spans as their users hold them (`docs/anchors.md`)."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from patches import Document, Patches, UndoManager
from patches.documents.anchors import Anchor
from patches.errors import (
    AnchorExpiredError,
    DocumentClosedError,
    NetworkError,
    PatchError,
    UnsupportedOperationError,
)
from patches.testing.fixtures import PatchesClient, ServerFixture


def typed(doc: Document, index: int, text: str) -> None:
    doc.change(lambda draft: draft.text("body").insert(index, text))


def text_of(doc: Document) -> str:
    return "".join(op["insert"] for op in doc.raw["body"]["ops"])


@pytest.fixture
async def doc() -> Any:
    async with Patches() as patches:
        doc = await patches.open_doc("d")
        typed(doc, 0, "one two three")
        yield doc


async def test_text_inserted_exactly_there_goes_to_the_side_that_stick_says(doc: Document) -> None:
    left, right = doc.anchor("/body", 4), doc.anchor("/body", 4, stick="right")
    typed(doc, 4, "\U0001f600")
    assert (left.index, left.utf16) == (4, 4)
    assert (right.index, right.utf16) == (5, 6)


async def test_an_own_deletion_is_remembered_for_its_undo(doc: Document) -> None:
    undo = UndoManager(doc, group_within=0)
    anchors = [
        doc.anchor("/body", at, stick=stick) for at in (3, 5, 7) for stick in ("left", "right")
    ]
    doc.change(lambda draft: draft.text("body").delete(3, 4))
    assert [anchor.index for anchor in anchors] == [3] * 6
    assert [anchor.is_collapsed for anchor in anchors] == [False, False, True, True, False, False]
    doc.change(lambda draft: draft.text("body").delete(0, 5))
    undo.undo()
    undo.undo()
    assert [anchor.index for anchor in anchors] == [3, 3, 5, 5, 7, 7]
    assert not any(anchor.is_collapsed for anchor in anchors)
    undo.redo()
    undo.undo()
    assert [anchor.index for anchor in anchors] == [3, 3, 5, 5, 7, 7]


async def test_the_undo_of_a_replacement_brings_the_place_back(doc: Document) -> None:
    undo = UndoManager(doc, group_within=0)
    anchor = doc.anchor("/body", 5)
    doc.change(lambda draft: draft.text("body").replace(4, 3, "2"))
    assert anchor.index == 5
    undo.undo()
    assert anchor.index == 5
    undo.redo()
    undo.undo()
    assert anchor.index == 5


async def test_a_span_is_what_stood_in_it(doc: Document) -> None:
    span = doc.span("/body", 4, 7)
    typed(doc, 7, "!")
    typed(doc, 4, "<")
    assert span.text == "two"
    typed(doc, 6, "W")
    assert span.text == "tWwo"
    doc.change(lambda draft: draft.text("body").delete(0, 12))
    assert span.text == ""
    doc.change(lambda draft: draft.pop("body"))
    assert span.text is None


async def test_a_text_that_is_gone_has_no_place(doc: Document) -> None:
    anchor = doc.anchor("/body", 3)
    doc.change(lambda draft: draft.pop("body"))
    assert (anchor.index, anchor.utf16, anchor.path, anchor.is_collapsed) == (None,) * 4
    with pytest.raises(PatchError, match="gone"):
        anchor.to_json()


async def test_a_string_is_followed_by_its_difference(doc: Document) -> None:
    doc.change(lambda draft: draft.update(title="Dear all"))
    anchor = doc.anchor("/title", 5)
    doc.change(lambda draft: draft.update(title="Oh dear, Dear all"))
    assert anchor.index == 14
    doc.change(lambda draft: draft.update(title=3))
    assert anchor.index is None


async def test_soft_writes_move_nothing(doc: Document) -> None:
    doc.change(lambda draft: draft.update(blocks=[{"id": "a"}]))
    element = doc.anchor("/blocks/0")
    doc.apply([{"op": "add", "path": "/blocks", "value": []}])
    doc.apply([{"op": "replace", "path": "/blocks", "value": [], "soft": True}])
    assert element.path == "/blocks/0"


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_s13_an_element_is_found_by_its_key_after_a_reordering(
    algorithm: str, patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    name = "lww/list" if algorithm == "lww" else "list"
    ann, bob = await patches_client("ann"), await patches_client("bob")
    mine = await ann.open_doc(name, algorithm=algorithm)
    other = await bob.open_doc(name, algorithm=algorithm)
    mine.change(lambda draft: draft.update(tasks=[{"id": each} for each in "abcd"]))
    await patches_server.settled()
    item = mine.anchor("/tasks/1", key="id")
    other.change(lambda draft: draft.tasks.reverse())
    await patches_server.settled()
    assert item.path == "/tasks/2"
    assert mine.raw["tasks"][2] == {"id": "b"}
    other.change(lambda draft: draft.tasks.pop(2))
    await patches_server.settled()
    assert item.path is None


async def test_s13_an_lww_list_element_without_a_key_is_refused() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("lww", algorithm="lww")
        doc.change(lambda draft: draft.update(tasks=[{"id": "a"}], title="x"))
        with pytest.raises(UnsupportedOperationError, match="key="):
            doc.anchor("/tasks/0")
        assert doc.anchor("/title").path == "/title"


async def test_a_text_of_an_lww_document_is_followed_by_its_difference(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    ann, bob = await patches_client("ann"), await patches_client("bob")
    mine = await ann.open_doc("lww/t", algorithm="lww")
    other = await bob.open_doc("lww/t", algorithm="lww")
    mine.change(lambda draft: draft.update(title="one two"))
    await patches_server.settled()
    anchor = mine.anchor("/title", 4)
    other.change(lambda draft: draft.update(title="zero one two"))
    await patches_server.settled()
    assert anchor.index == 9
    assert (await other.anchor_from(anchor.to_json())).index == 9


async def test_s14_a_shared_anchor_is_found_500_revisions_ahead(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    ann, bob = await patches_client("ann"), await patches_client("bob")
    mine, other = await ann.open_doc("d"), await bob.open_doc("d")
    mine.change(lambda draft: draft.update(blocks=[{"id": "a"}, {"id": "b"}]))
    mine.change(lambda draft: draft.blocks[1].text("text").append("aaaa\U0001f600|aaaa"))
    await patches_server.settled()
    mine.change(lambda draft: draft.blocks[1].text("text").insert(0, "not sent "))
    anchor = mine.anchor("/blocks/1/text", 9 + 5)
    inside = mine.anchor("/blocks/1/text", 4)
    await ann.sync.disconnect()
    wire, wire_inside = anchor.to_json(), inside.to_json()
    assert wire == {"path": "/blocks/1/text", "at": 6, "rev": mine.committed_rev, "stick": "left"}
    assert wire_inside["at"] == 0
    for step in range(500):
        with other.edit() as draft:
            draft.blocks[-1].text("text").insert(step % 3, "a")
        await bob.sync.settled(5)
    other.change(lambda draft: draft.blocks.insert(0, {"id": "new"}))
    await bob.sync.settled(5)
    assert other.committed_rev >= mine.committed_rev + 500
    found = await other.anchor_from(wire)
    assert found.path == "/blocks/2/text"
    text = "".join(op["insert"] for op in other.raw["blocks"][2]["text"]["ops"])
    assert found.index is not None
    assert text[found.index] == "|"
    assert len(text) == 511


async def test_a_shared_anchor_that_cannot_be_followed_is_refused(
    patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    ann = await patches_client("ann")
    doc = await ann.open_doc("d")
    typed(doc, 0, "text")
    with pytest.raises(PatchError, match="was not sent yet"):
        doc.anchor("/body", 2).to_json()
    await patches_server.settled()
    wire = doc.anchor("/body", 2).to_json()
    assert (await doc.anchor_from(wire)).index == 2
    with pytest.raises(AnchorExpiredError):
        await doc.anchor_from({**wire, "rev": 100})
    typed(doc, 0, "x")
    await patches_server.settled()
    for wrong in ({}, {**wire, "at": -1}, {**wire, "rev": "1"}, {**wire, "path": "body"}, [wire]):
        with pytest.raises(PatchError):
            await doc.anchor_from(wrong)  # type: ignore[arg-type]  # wrong
    await ann.sync.disconnect()
    with pytest.raises(NetworkError):
        await doc.anchor_from(wire)


async def test_misuse_is_refused(doc: Document) -> None:
    for index in (-1, 15):
        with pytest.raises(IndexError):
            doc.anchor("/body", index)
    with pytest.raises(PatchError, match="no text at '/title'"):
        doc.anchor("/title", 0)
    with pytest.raises(PatchError, match="nothing at '/tasks/0'"):
        doc.anchor("/tasks/0")
    with pytest.raises(PatchError, match="left"):
        doc.anchor("/body", 0, stick="middle")  # type: ignore[arg-type]  # wrong
    with pytest.raises(PatchError, match="JSON Pointer"):
        doc.anchor("body", 0)
    with pytest.raises(IndexError):
        doc.span("/body", 3, 2)
    anchor = doc.anchor("/body", 3)
    doc.mark_closed()
    assert anchor.index == 3
    with pytest.raises(DocumentClosedError):
        doc.anchor("/body", 3)


async def test_without_anchors_nothing_is_collected(doc: Document) -> None:
    anchors: list[Anchor] = [doc.anchor("/body", 3)]
    typed(doc, 0, "x")
    assert doc._watchers
    anchors.clear()
    gc.collect()
    typed(doc, 0, "x")
    assert len(doc._watchers) == 0
    anchors.append(doc.anchor("/body", 3))
    typed(doc, 0, "x")
    assert anchors[0].index == 4

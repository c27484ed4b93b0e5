"""Marks: places that last, as attributes of a rich text (`docs/anchors.md`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from patches import Document, Patches, UndoManager
from patches.errors import PatchError
from patches.testing.fixtures import PatchesClient, ServerFixture


def marked(doc: Document) -> dict[str, list[str | None]]:
    return {name: [span.text for span in spans] for name, spans in doc.marks("/body").items()}


async def test_s20_overlapping_marks_survive_edits_undo_and_a_restart(
    tmp_path: Path, patches_server: ServerFixture, patches_client: PatchesClient
) -> None:
    ann, bob = await patches_client("ann", store=tmp_path / "ann.db"), await patches_client("bob")
    mine, other = await ann.open_doc("d"), await bob.open_doc("d")
    mine.change(lambda draft: draft.text("body").append("one two three four"))
    await patches_server.settled()
    undo = UndoManager(mine, group_within=0)
    mine.change(lambda draft: draft.text("body").mark(4, 9, "c1"))
    other.change(lambda draft: draft.text("body").mark(8, 10, "c2", "open"))
    await patches_server.settled()
    assert marked(mine) == marked(other) == {"c1": ["two three"], "c2": ["three four"]}
    other.change(lambda draft: draft.text("body").insert(10, "__"))
    other.change(lambda draft: draft.text("body").insert(4, "<"))
    await patches_server.settled()
    assert marked(mine) == {"c1": ["two th__ree"], "c2": ["th__ree four"]}
    mine.change(lambda draft: draft.text("body").delete(5, 3))
    undo.undo()
    assert marked(mine) == {"c1": ["two th__ree"], "c2": ["th__ree four"]}
    mine.change(lambda draft: draft.text("body").delete(0, 17))
    assert marked(mine) == {"c2": ["four"]}
    undo.undo()
    await patches_server.settled()
    await ann.restart()
    again = await ann.open_doc("d")
    assert marked(again) == marked(other) == {"c1": ["two th__ree"], "c2": ["th__ree four"]}
    other.change(lambda draft: draft.text("body").unmark("c1"))
    await patches_server.settled()
    assert marked(again) == {"c2": ["th__ree four"]}


async def test_text_typed_inside_takes_the_mark_and_at_its_edges_not() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("d")
        doc.change(lambda draft: draft.text("body").append("a\U0001f600bc"))
        doc.change(lambda draft: draft.text("body").mark(1, 2, "m"))
        for index, text in ((3, ">"), (1, "<"), (3, "in"), (3, "!")):
            doc.change(lambda draft, index=index, text=text: draft.text("body").insert(index, text))  # type: ignore[misc]
        assert marked(doc) == {"m": ["\U0001f600!inb"]}
        doc.change(lambda draft: draft.text("body").replace(3, 3, "new", {"bold": True}))
        assert marked(doc) == {"m": ["\U0001f600newb"]}
        span = doc.marks("/body")["m"][0]
        doc.change(lambda draft: draft.text("body").insert(0, "Oh, "))
        assert span.text == "\U0001f600newb"
        async with doc.stream_text("/body", at=8) as out:
            await out.write("streamed")
        assert marked(doc) == {"m": ["\U0001f600nstreamedewb"]}


async def test_a_mark_that_is_none_is_refused() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("d")
        doc.change(lambda draft: draft.text("body").append("text"))
        for wrong in ("", "x" * 300, None, 3):
            with pytest.raises(PatchError, match="the id of a mark"):
                doc.change(lambda draft, wrong=wrong: draft.text("body").mark(0, 1, wrong))  # type: ignore[misc]
        with pytest.raises(PatchError, match="the value of a mark"):
            doc.change(lambda draft: draft.text("body").mark(0, 1, "m", 3))
        with pytest.raises(IndexError):
            doc.change(lambda draft: draft.text("body").mark(0, 0, "m"))
        with pytest.raises(PatchError, match="no text"):
            doc.marks("/title")
        assert doc.marks("/body") == {}
        doc.change(lambda draft: draft.text("body").unmark("unknown"))

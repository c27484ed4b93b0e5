"""Anchors follow every edit, own and foreign, by operations (`docs/anchors.md`)."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from patches import Document, Patches, PatchesSync, UndoManager
from patches.documents.anchors import Anchor
from patches.json_patch.pointer import parent, value_at
from patches.testing.local_server import LocalServer
from patches.testing.virtual_time import idle, virtual_time
from tests.documents.anchors.tagged import Model, block_ids, delete, insert, tags

EDITS = int(os.environ.get("ANCHOR_EDITS", "60"))


@pytest.mark.parametrize("seed", range(int(os.environ.get("ANCHOR_RUNS", "6"))))
def test_s12_an_anchor_is_where_a_model_of_tags_says(seed: int) -> None:
    dice = random.Random(seed)

    @virtual_time
    async def run() -> None:
        async with (
            LocalServer() as server,
            Patches() as anns,
            Patches() as bobs,
            PatchesSync(anns, server.connection()) as ann_sync,
            PatchesSync(bobs, server.connection()) as bob_sync,
        ):
            ann, bob = await anns.open_doc("d"), await bobs.open_doc("d")

            async def settled() -> None:
                await ann_sync.settled(60)
                await bob_sync.settled(60)
                await idle()

            for at in range(4):  # "aaaa"
                insert(ann, at, f"a{at}", random.Random(0))
                await settled()
            undo = UndoManager(ann, group_within=0)
            anchors = [
                (ann.anchor("/body", index, stick=stick), Model(ann, index, stick))
                for index in range(5)
                for stick in ("left", "right")
            ]
            compared: list[bool] = []
            for step in range(EDITS):
                is_own = dice.random() < 0.6
                if is_own and dice.random() < 0.3:
                    (undo.undo if dice.random() < 0.6 else undo.redo)()
                else:
                    edit(ann if is_own else bob, dice, f"{step}")
                await settled()
                read = dice.random() < 0.3
                for anchor, model in anchors:
                    model.step(is_own=is_own)
                    if not model.is_in_order:
                        model.start_again(anchor)
                    elif read:
                        where = f"step {step}, stick {model.stick}"
                        index = anchor.index
                        assert index is not None, where
                        assert anchor.utf16 == units(ann, index), where
                        compared.append(index == model.index)
                        if index != model.index:
                            # Others have deleted everything between the anchor and a deletion of
                            # ours beside it: its undo puts the text on either side.
                            between = slice(*sorted((index, model.index)))
                            assert set(model.before[between]) <= model.restored, where
                            model.start_again(anchor)
            assert compared.count(False) <= len(compared) * 0.05

    run()


def edit(doc: Document, dice: random.Random, tag: str) -> None:
    size = len(tags(doc))
    if size and dice.random() < 0.4:
        at = dice.randrange(size)
        delete(doc, at, min(dice.choice([1, 1, 3]), size - at))
    else:
        insert(doc, dice.randrange(size + 1), tag, dice)


def units(doc: Document, index: int) -> int:
    text = "".join(op["insert"] for op in doc.raw["body"]["ops"])
    return len(text[:index].encode("utf-16-le")) // 2


@pytest.mark.parametrize("seed", range(int(os.environ.get("ANCHOR_RUNS", "6"))))
def test_s12_an_anchor_moves_with_its_block(seed: int) -> None:
    """Both write at once, without waiting: what is checked is the block, and the side of a word."""
    dice = random.Random(seed)

    @virtual_time
    async def run() -> None:
        async with (
            LocalServer() as server,
            Patches() as anns,
            Patches() as bobs,
            PatchesSync(anns, server.connection()) as ann_sync,
            PatchesSync(bobs, server.connection()) as bob_sync,
        ):
            ann, bob = await anns.open_doc("d"), await bobs.open_doc("d")
            ann.change(lambda draft: draft.update(blocks=[{"id": f"b{at}"} for at in range(5)]))
            for at in range(5):
                ann.change(lambda draft, at=at: draft.blocks[at].text("text").append("one|two"))  # type: ignore[misc]
            await ann_sync.settled(60)
            await bob_sync.settled(60)
            undo = UndoManager(ann, group_within=0)
            anchors = {f"b{at}": ann.anchor(f"/blocks/{at}/text", 3) for at in range(5)}
            elements = {f"b{at}": ann.anchor(f"/blocks/{at}") for at in range(5)}
            for step in range(EDITS):
                who = dice.choice([ann, bob])
                if who is ann and dice.random() < 0.2:
                    undo.undo()
                elif len(block_ids(who.raw)) > 1:
                    change_blocks(who, dice, f"n{step}")
                if dice.random() < 0.3:
                    await ann_sync.settled(60)
                    await bob_sync.settled(60)
                    await idle()
                for name in anchors:
                    check(ann, name, anchors[name], elements[name])

    run()


def check(doc: Document, name: str, anchor: Anchor, element: Anchor) -> None:
    """A block that was taken out and came back is another one: its anchor stays gone."""
    for path in (anchor.path and parent(anchor.path), element.path):
        if path is not None:
            assert value_at(doc.raw, path)["id"] == name
    if anchor.path is None:
        return
    text = "".join(op["insert"] for op in value_at(doc.raw, anchor.path)["ops"])
    assert text[anchor.index :].startswith("|")  # nothing is deleted there


def change_blocks(doc: Document, dice: random.Random, name: str) -> None:
    count = len(block_ids(doc.raw))
    at, to = dice.randrange(count), dice.randrange(count)
    kinds = ["move", "move", "insert", "type", "type", "remove"]

    def edit(draft: Any) -> None:
        match dice.choice(kinds):
            case "move":
                draft.blocks.move(at, to)
            case "insert":
                draft.blocks.insert(at, {"id": name})
            case "type":
                draft.blocks[at].text("text").insert(0, "\U0001f600")
            case _:
                del draft.blocks[at]

    doc.change(edit)


@pytest.mark.parametrize("reads", [True, False], ids=["read each time", "read at the end"])
def test_reading_late_or_often_gives_the_same_place(reads: bool) -> None:
    @virtual_time
    async def run() -> None:
        async with Patches() as patches:
            doc = await patches.open_doc("d")
            doc.change(lambda draft: draft.text("body").append("abcd"))
            anchor = doc.anchor("/body", 2)
            for step in range(1_000):
                where = 0 if step % 2 else 2
                doc.change(lambda draft, where=where: draft.text("body").insert(where, "x"))  # type: ignore[misc]
                if reads:
                    assert anchor.index is not None
            assert anchor.index == 1_001

    run()

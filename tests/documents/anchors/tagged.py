"""Two writers of one text in which every character carries a tag, and a model of a position in it.

The model knows what stands left of the position and what right of it, by tags, so it cannot take
one "a" of "aaaa" for another. It sees nothing but the texts before and after.
"""

from __future__ import annotations

import random
from typing import Any

from patches import Document
from patches.documents.anchors import Anchor

LETTERS = ("a", "a", "a", "\U0001f600")


def tags(doc: Document) -> list[str]:
    """The tags of a text's characters, without the final newline."""
    ops = doc.raw.get("body", {"ops": []})["ops"]
    return [op["attributes"]["t"] for op in ops if "attributes" in op]


def insert(doc: Document, index: int, tag: str, dice: random.Random) -> None:
    """Insert one character."""
    letter = dice.choice(LETTERS)
    doc.change(lambda draft: draft.text("body").insert(index, letter, {"t": tag}))


def delete(doc: Document, index: int, length: int) -> None:
    """Delete some."""
    doc.change(lambda draft: draft.text("body").delete(index, length))


class Model:
    """Where an anchor has to be."""

    def __init__(self, doc: Document, index: int, stick: str) -> None:
        seen = tags(doc)
        self.doc, self.stick = doc, stick
        self.left, self.right = set(seen[:index]), set(seen[index:])
        self.before = seen
        self.restored: set[str] = set()  # what the last step has brought back

    def step(self, *, is_own: bool) -> None:
        """One insertion or deletion has happened."""
        after = tags(self.doc)
        there = set(after)
        if not is_own:  # what others deleted does not come back to where it was
            removed = set(self.before) - there
            self.left -= removed
            self.right -= removed
        known = self.left | self.right
        self.restored = (there - set(self.before)) & known
        last_left = max((at for at, tag in enumerate(after) if tag in self.left), default=-1)
        for at, tag in enumerate(after):
            if tag in known:
                continue
            first_right = next((i for i in range(at, len(after)) if after[i] in self.right), None)
            if at < last_left:
                self.left.add(tag)
            elif first_right is None and self.right & there:
                self.right.add(tag)
            else:
                (self.right if self.stick == "left" else self.left).add(tag)
        self.before = after

    @property
    def index(self) -> int:
        """The place, between what is left of it and what is right of it."""
        return sum(tag in self.left for tag in self.before)

    @property
    def is_in_order(self) -> bool:
        """Whether everything on the left stands left of everything on the right."""
        sides = [tag in self.left for tag in self.before]
        return sides == sorted(sides, reverse=True)

    def start_again(self, anchor: Anchor) -> None:
        """Take over where the anchor is."""
        seen, index = tags(self.doc), anchor.index
        assert index is not None
        gone_left, gone_right = self.left - set(seen), self.right - set(seen)
        self.left, self.right = gone_left | set(seen[:index]), gone_right | set(seen[index:])


def block_ids(state: Any) -> list[str]:
    """The ids of the blocks of a document."""
    return [block["id"] for block in state.get("blocks", [])]

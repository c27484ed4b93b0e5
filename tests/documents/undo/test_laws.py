"""What holds of undo for any edits, under both algorithms (`docs/undo.md`)."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patches import Document, Patches, PatchesSync, UndoManager
from patches.algorithms.lww.doc import LWWDoc
from patches.algorithms.ot.doc import OTDoc
from patches.errors import PatchesError
from patches.model.json_values import json_equal
from patches.testing.local_server import LocalServer
from tests.documents.undo.random_edits import edit_field, edit_list, edit_text, start, start_text

ALGORITHMS = ("ot", "lww")
SEEDS = st.integers(0, 2**32)


def new_doc(algorithm: str) -> Document:
    """An open document of its own, with its first content."""
    doc: Document = OTDoc("doc") if algorithm == "ot" else LWWDoc("doc")
    doc.change(start)
    if algorithm == "ot":
        doc.change(start_text)
    return doc


def random_edit(doc: Document, dice: random.Random) -> None:
    """One or two edits at once, of any kind that the algorithm has."""
    kinds: list[Any] = [edit_field, edit_field, edit_list]
    if doc.algorithm == "ot":
        kinds += [edit_text, edit_text]
    chosen = [dice.choice(kinds) for _ in range(dice.choice([1, 1, 2]))]

    def edit(draft: Any) -> None:
        for kind in chosen:
            kind(draft, dice)

    doc.change(edit)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(seed=SEEDS)
def test_undo_and_redo_walk_on_the_states_of_the_edits(algorithm: str, seed: int) -> None:
    dice, doc = random.Random(seed), new_doc(algorithm)
    undo = UndoManager(doc, group_within=0)
    states = [doc.state]
    for _ in range(dice.randrange(1, 12)):
        random_edit(doc, dice)
        if not json_equal(doc.state, states[-1]):  # a step that changes nothing is passed over
            states.append(doc.state)
    at = len(states) - 1
    for way in [*dice.choices(["undo", "redo"], k=20), *["undo"] * 20, *["redo"] * 20]:
        if way == "undo":
            assert undo.undo() is (at > 0)
            at = max(0, at - 1)
        else:
            assert undo.redo() is (at < len(states) - 1)
            at = min(len(states) - 1, at + 1)
        assert json_equal(doc.state, states[at]), (way, at, doc.state, states[at])


class Pair:
    """Two people at one document, in step with each other only when they sync."""

    def __init__(self, algorithm: str, seed: int) -> None:
        self.algorithm, self.dice = algorithm, random.Random(seed)

    async def __aenter__(self) -> Pair:
        self._stack = AsyncExitStack()
        server = await self._stack.enter_async_context(LocalServer())
        self.syncs: list[PatchesSync] = []
        self.docs: list[Document] = []
        doc_id = "doc" if self.algorithm == "ot" else "lww/doc"
        for _ in range(2):
            client = await self._stack.enter_async_context(Patches())
            sync = PatchesSync(client, server.connection())
            self.syncs.append(await self._stack.enter_async_context(sync))
            self.docs.append(await client.open_doc(doc_id, algorithm=self.algorithm))
        self.docs[0].change(start)
        if self.algorithm == "ot":
            self.docs[0].change(start_text)
        await self.sync()
        self.undos = [UndoManager(doc, group_within=0) for doc in self.docs]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def sync(self) -> None:
        """Until both have everything."""
        a, b = self.docs
        for _ in range(2_000):
            for sync in self.syncs:
                await sync.settled(10)
            if a.committed_rev == b.committed_rev and not (a.has_pending or b.has_pending):
                return
            await asyncio.sleep(0.001)  # a broadcast is on its way
        raise AssertionError("the two are not in step")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seed", range(12))
async def test_undo_leaves_what_others_did_elsewhere(algorithm: str, seed: int) -> None:
    async with Pair(algorithm, seed) as pair:
        mine, theirs = pair.docs
        for doc, name in ((mine, "m"), (theirs, "t")):
            with doc.edit() as draft:
                draft[name] = {}
            await pair.sync()
            with doc.edit() as draft:
                start(draft[name])
                if algorithm == "ot":
                    start_text(draft[name])
            await pair.sync()
        undo, first = UndoManager(mine, group_within=0), mine.state["m"]

        def edit_of(name: str) -> Any:
            kind = pair.dice.choice(
                [edit_field, edit_list, *([edit_text] if algorithm == "ot" else [])]
            )
            return lambda draft: kind(draft[name], pair.dice)

        for _ in range(25):
            doc, name = pair.dice.choice([(mine, "m"), (theirs, "t")])
            doc.change(edit_of(name))
            if pair.dice.random() < 0.3:
                await pair.sync()
        await pair.sync()
        last, others = mine.state["m"], theirs.state["t"]
        while undo.undo():
            pass
        await pair.sync()
        assert json_equal(mine.state["m"], first)
        assert json_equal(mine.state["t"], others)
        while undo.redo():
            pass
        await pair.sync()
        assert json_equal(mine.state["m"], last)
        assert json_equal(mine.state, theirs.state)


@pytest.mark.parametrize("seed", range(20))
async def test_undo_removes_no_text_of_others_and_brings_none_of_theirs_back(seed: int) -> None:
    async with Pair("ot", seed) as pair:
        dice, next_letter = pair.dice, iter(map(chr, range(0x4E00, 0x9FFF)))
        mine, theirs = pair.docs
        typed: list[set[str]] = [set(), set()]
        deleted: list[set[str]] = [set(), set()]
        undo = pair.undos[0]

        def body() -> str:
            return "".join(op["insert"] for op in mine.state["body"]["ops"])

        def edit(who: int) -> None:
            def of(draft: Any) -> None:
                text = draft.text("body")
                if dice.random() < 0.6 or len(text) < 4:
                    letters = next(next_letter) + next(next_letter)
                    typed[who].update(letters)
                    text.insert(dice.randrange(len(text)), letters)
                else:
                    at = dice.randrange(len(text) - 3)
                    deleted[who].update(str(text)[at : at + 2])
                    text.delete(at, 2)

            pair.docs[who].change(of)

        for _ in range(40):
            choice = dice.random()
            if choice < 0.7:
                edit(dice.randrange(2))
                await pair.sync()  # so that nobody deletes what is deleted already
            else:
                before = set(body()) & typed[1]
                (undo.undo if dice.random() < 0.6 else undo.redo)()
                after = set(body())
                # a redo may delete again what an edit of mine had deleted
                assert not before - after - deleted[0], "others' text was removed"
                assert not (after & deleted[1]), "text that others deleted came back"
                await pair.sync()
        assert json_equal(mine.state, theirs.state)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seed", range(15))
async def test_copies_converge_with_undo_and_redo_among_the_edits(
    algorithm: str, seed: int
) -> None:
    async with Pair(algorithm, seed) as pair:
        for _ in range(60):
            who = pair.dice.randrange(2)
            choice = pair.dice.random()
            if choice < 0.5:
                try:
                    random_edit(pair.docs[who], pair.dice)
                except (KeyError, TypeError, PatchesError):  # what it wanted to edit is gone
                    pass
            elif choice < 0.75:
                pair.undos[who].undo()
            elif choice < 0.9:
                pair.undos[who].redo()
            else:
                await pair.sync()
        await pair.sync()
        assert json_equal(pair.docs[0].state, pair.docs[1].state)

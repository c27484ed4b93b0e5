"""Declarations: what they refuse, and what a later version adds to rows that are here already."""

from __future__ import annotations

import pytest

from patches.algorithms.collections import Collections, CollectionsAlgorithm
from patches.algorithms.collections.stores.memory import CollectionsMemoryStore
from patches.errors import PatchesError, SchemaError
from patches.model.change import Snapshot
from patches.rows.condition_syntax import F


class Task:
    id: str
    title: str


class LaterTask:
    id: str
    title: str
    votes: int = 3
    note: str | None = None


def declared(task: type, version: int) -> Collections:
    board = Collections("board", version=version)
    board.table("tasks")(task)
    return board


async def test_rows_that_are_here_take_the_columns_of_a_later_version() -> None:
    store = CollectionsMemoryStore()
    old = CollectionsAlgorithm(declared(Task, 1), store)
    await old.track_docs(["d"])
    rows = {"a": {"id": "a", "title": "t"}, "b": {"id": "b", "title": "t", "votes": 9}}
    await old.install_snapshot("d", Snapshot(state={"tasks": rows}, rev=4), None)
    new = CollectionsAlgorithm(declared(LaterTask, 2), store)
    doc = new.create_doc("d", await new.load_doc("d"))
    assert doc.state["tasks"] == {
        "a": {"id": "a", "title": "t", "votes": 3, "note": None},
        "b": {"id": "b", "title": "t", "votes": 9, "note": None},
    }
    assert doc.committed_rev == 4


def test_each_document_has_the_declaration_of_its_pattern() -> None:
    board, home = declared(Task, 1), Collections("home")
    algorithm = CollectionsAlgorithm({"board/*": board, "user/*": home})
    assert algorithm.declaration_of("board/1") is board
    assert algorithm.declaration_of("user/1") is home
    with pytest.raises(PatchesError, match="other/1"):
        algorithm.declaration_of("other/1")


class NoKey:
    title: str


class IntegerKey:
    id: int


@pytest.mark.parametrize("declared", [NoKey, IntegerKey])
def test_a_table_needs_a_text_key(declared: type) -> None:
    with pytest.raises(SchemaError, match="tasks"):
        Collections("board").table("tasks")(declared)


def test_what_is_wrong_with_a_declaration_is_said_at_once() -> None:
    board = Collections("board")
    board.table("tasks")(Task)
    for attempt in (
        lambda: board.table("tasks")(LaterTask),
        lambda: board.table("more", sync="sometimes")(Task),  # type: ignore[arg-type]  # wrong
        lambda: board.store("mine", kind="plural")(Task),  # type: ignore[arg-type]  # wrong
        lambda: board.table_of("nothing"),
        lambda: board.table_of(LaterTask),
        lambda: board.action_name(len),
    ):
        with pytest.raises(SchemaError):
            attempt()
    with pytest.raises(ValueError, match="colour"):
        board.table("others", visible=F.colour == "red")(LaterTask)

"""Misuse of typed documents, for the type checkers: each line marked `# wrong` has to be reported.

Nobody runs this. `tests/typing/test_checkers.py` compares what mypy and pyright report with the
marks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypedDict

from patches import Document, Patches


class Item(TypedDict):
    id: str
    done: bool


class Plan(TypedDict):
    title: str
    size: Literal["small", "large"]
    items: list[Item]


@dataclass
class Task:
    id: str
    done: bool = False


@dataclass
class Board:
    title: str = ""
    tasks: list[Task] = field(default_factory=list)


async def dicts(patches: Patches) -> None:
    doc = await patches.open_doc("plan", type=Plan)
    with doc.edit() as draft:
        draft["titel"] = "x"  # wrong
        draft["title"] = 3  # wrong
        draft["size"] = "medium"  # wrong
        draft["items"].append({"id": "a"})  # wrong
        draft["items"].append("a")  # wrong
        draft["items"][0]["done"] = "yes"  # wrong
    doc.set({"title": "x", "size": "small"})  # wrong
    print(doc.state["itms"])  # wrong
    other: Document[Board] = doc  # wrong
    print(other)


async def classes(patches: Patches) -> None:
    doc = await patches.open_doc("board", type=Board)
    with doc.edit() as draft:
        draft.titel = "x"  # wrong
        draft.title = 3  # wrong
        draft.tasks.append({"id": "a"})  # wrong
        draft.tasks.append(Task())  # wrong
        draft.tasks[0].done = "yes"  # wrong
    doc.set("a board")  # wrong
    print(doc.state.tsks)  # wrong
    doc.subscribe(lambda board: print(board.tsks))  # wrong
    async for state in doc:
        print(state.titel)  # wrong
    async with patches.open_doc("board", type=Board) as again:
        print(again.state.titel)  # wrong


def untyped(doc: Document) -> None:
    with doc.edit() as draft:
        draft.anything.goes["here"] = 3
    print(doc.state["title"])

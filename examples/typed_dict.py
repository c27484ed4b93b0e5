"""A document as a TypedDict: plain JSON, with keys that the type checker knows.

python examples/typed_dict.py
"""

from __future__ import annotations

import asyncio
from typing import Literal, NotRequired, TypedDict

from patches import Document, Patches
from patches.draft import increment


class Item(TypedDict):
    """One line of a plan."""

    id: str
    done: bool
    size: NotRequired[Literal["small", "large"]]


class Plan(TypedDict):
    """A plan."""

    title: str
    items: list[Item]
    views: int


EMPTY: Plan = {"title": "", "items": [], "views": 0}


def left_to_do(doc: Document[Plan]) -> list[str]:
    """The ids of the open items."""
    return [item["id"] for item in doc.state["items"] if not item["done"]]


async def main() -> None:
    async with Patches() as patches, patches.open_doc("plan", type=Plan, default=EMPTY) as doc:
        with doc.edit() as draft:
            draft["title"] = "Moving"
            draft["items"].append({"id": "boxes", "done": False})
            draft["items"].append({"id": "van", "done": False, "size": "large"})
        doc.change(lambda draft: increment(draft, "views", 3))
        with doc.edit() as draft:
            draft["items"][0]["done"] = True
        print(doc.state["title"], left_to_do(doc), doc.state["views"])


asyncio.run(main())

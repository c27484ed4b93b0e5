"""A document as a `msgspec.Struct`. Needs the extra `typed`.

python examples/typed_struct.py
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec

from patches import Patches
from patches.errors import StateTypeError


class Item(msgspec.Struct):
    """One line of a plan."""

    id: str
    priority: Annotated[int, msgspec.Meta(ge=1, le=5)] = 3


class Plan(msgspec.Struct):
    """A plan."""

    title: str = ""
    items: list[Item] = msgspec.field(default_factory=list)


async def main() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan", type=Plan)
        with doc.edit() as draft:
            draft.title = "Moving"
            draft.items.append(Item("boxes"))
        try:
            with doc.edit() as draft:
                draft.items[0].priority = 9
        except StateTypeError as error:
            print("refused:", error.path)
        print(doc.state)


asyncio.run(main())

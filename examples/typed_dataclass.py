"""A document as dataclasses: attributes, methods, dates and a counter.

python examples/typed_dataclass.py
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import date

from patches import Patches
from patches.typed import Counter, RichText


@dataclass
class Item:
    """One line of a plan."""

    id: str
    done: bool = False
    due: date | None = None

    def finish(self) -> None:
        """Runs on a draft as on an instance."""
        self.done = True


@dataclass
class Plan:
    """A plan."""

    title: str = ""
    items: list[Item] = field(default_factory=list)
    views: Counter = 0
    notes: RichText = field(default_factory=RichText)

    @property
    def left(self) -> int:
        """How many items are open."""
        return sum(not item.done for item in self.items)


async def main() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("plan", type=Plan)
        with doc.edit() as draft:
            draft.title = "Moving"
            draft.items.append(Item("boxes"))
            draft.items.append(Item("van", due=date(2027, 1, 31)))
            draft.notes.append("Ask Ann for her van.")
        with doc.edit() as draft:
            draft.items[0].finish()
            draft.views += 3
        plan = doc.state
        print(plan.title, plan.left, plan.items[1].due, plan.views, str(plan.notes).strip())
        print(doc.raw["items"][1])


asyncio.run(main())

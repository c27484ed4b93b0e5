"""A document as a pydantic model, with a rule across fields. Needs the extra `typed`.

python examples/typed_model.py
"""

from __future__ import annotations

import asyncio
from datetime import date

from pydantic import BaseModel, Field

from patches import Patches
from patches.errors import StateTypeError


class Trip(BaseModel):
    """A trip, which ends after it has begun."""

    place: str = ""
    begins: date = date(2027, 1, 1)
    ends: date = date(2027, 1, 1)
    seats: int = Field(default=4, ge=1)

    def model_post_init(self, context: object, /) -> None:
        """Refuse a trip that ends before it begins."""
        if self.ends < self.begins:
            raise ValueError("a trip ends after it begins")


async def main() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("trip", type=Trip, check="whole")
        with doc.edit() as draft:
            draft.place = "Rome"
            draft.ends = date(2027, 1, 8)
        try:
            with doc.edit() as draft:
                draft.ends = date(2026, 12, 24)
        except StateTypeError as error:
            print("refused:", "ends after it begins" in str(error))
        print(doc.state.place, doc.state.ends, doc.raw)


asyncio.run(main())

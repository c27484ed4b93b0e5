"""`Updates`: what `async for state in doc` iterates over."""

from __future__ import annotations

from typing import Protocol

from patches.model.json_values import Json


class _Watched(Protocol):
    """What is needed of a document."""

    @property
    def state(self) -> Json:
        """The state now."""

    @property
    def is_closed(self) -> bool:
        """Whether no other will follow."""

    async def next_update(self) -> None:
        """Wait for the next update, or the close."""


class Updates:
    """Iterates over the states of a document. Holds nothing while its reader works."""

    def __init__(self, doc: _Watched) -> None:
        self._doc = doc
        self._seen: object = self  # no state is this object

    def __aiter__(self) -> Updates:
        return self

    async def __anext__(self) -> Json:
        while self._doc.state is self._seen:
            if self._doc.is_closed:
                raise StopAsyncIteration
            await self._doc.next_update()
        self._seen = self._doc.state
        return self._seen

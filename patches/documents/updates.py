"""`Updates`: what `async for state in doc` iterates over."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

_State = TypeVar("_State", covariant=True)


class _Watched(Protocol[_State]):
    """What is needed of a document."""

    @property
    def state(self) -> _State:
        """The state now."""

    @property
    def is_closed(self) -> bool:
        """Whether no other will follow."""

    async def next_update(self) -> None:
        """Wait for the next update, or the close."""


class Updates(Generic[_State]):
    """Iterates over the states of a document. Holds nothing while its reader works."""

    def __init__(self, doc: _Watched[_State]) -> None:
        self._doc = doc
        self._seen: Any = self  # no state is this object

    def __aiter__(self) -> Updates[_State]:
        return self

    async def __anext__(self) -> _State:
        while (state := self._doc.state) is self._seen:
            if self._doc.is_closed:
                raise StopAsyncIteration
            await self._doc.next_update()
        self._seen = state
        return state

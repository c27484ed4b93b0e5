"""`Backend`: the place where a client keeps its documents.

A backend knows its place and no algorithm: an algorithm brings its stores itself, in a
`StoreFactory` that says how one is made in each place. A place of your own is a class with
`open_store` and `close`; see `docs/internals/stores.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from patches.errors import InvalidRequestError
from patches.runtime import Runtime

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreFactory(Generic[T]):
    """The stores of one algorithm, `name`.

    `makers`: by the name of a place (`"memory"`, `"sqlite"`), what makes a store there. It is given
    what the place offers (a `SqliteDatabase`; nothing for memory) and the runtime.
    """

    name: str
    makers: Mapping[str, Callable[[Any, Runtime], T]]

    def make(self, place: str, offer: Any, runtime: Runtime) -> T:
        """A store in a place. Raises `InvalidRequestError` if the algorithm has none for it."""
        maker = self.makers.get(place)
        if maker is None:
            raise InvalidRequestError(
                f"the algorithm {self.name!r} has no store for {place!r}, only for "
                f"{', '.join(self.makers) or 'none'}"
            )
        return maker(offer, runtime)


class Backend(Protocol):
    """Where a client keeps its documents. `Patches` closes the one that it opened itself."""

    def open_store(self, factory: StoreFactory[T]) -> T:
        """An algorithm's store here; the same one each time. Nothing is opened on disk yet."""

    async def close(self) -> None:
        """Finish pending writes and release the place."""

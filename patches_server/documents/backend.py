"""`Backend`: where a server keeps everything, as whatever serves documents needs it.

A backend gives each algorithm its store. The two that are here have stores of OT and LWW; an
algorithm of your own brings its own, a factory for each kind of backend. A third backend, over
another database, is a class with these methods: nothing else has to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from patches.errors import InvalidRequestError
from patches_server.documents.records import Tombstone

#: What makes an algorithm's store, by the kind of backend that it is made in.
StoreFactories: TypeAlias = Mapping[str, Callable[[Any], Any]]


class Backend(Protocol):
    """Documents of all algorithms, and what they share."""

    async def epoch(self) -> str:
        """The id of this storage, made with it. Raises `StorageError` if it cannot be used."""

    async def algorithm_of(self, doc_id: str) -> str | None:
        """The algorithm that a document was first committed with, `None` if it does not exist."""

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in a document's place."""

    def store_of(self, algorithm: str, factories: StoreFactories | None = None) -> Any:
        """An algorithm's store, the same each time; made by one of `factories` if it has none.

        Raises `InvalidRequestError` when there is no way to make it.
        """

    async def close(self) -> None:
        """Finish what is being written, and close."""


def store_in(backend: Any, algorithm: str, factories: StoreFactories | None = None) -> Any:
    """The store of an algorithm in a backend; anything that is no backend is the store itself."""
    own = getattr(backend, algorithm, None)
    if own is not None:
        return own
    store_of = getattr(backend, "store_of", None)
    return backend if store_of is None else store_of(algorithm, factories)


class Stores:
    """The stores of a backend of one kind, by algorithm. Owned by the backend."""

    def __init__(self, kind: str, stores: Mapping[str, Any]) -> None:
        self._kind = kind
        self._stores = dict(stores)

    def get(self, backend: Any, algorithm: str, factories: StoreFactories | None) -> Any:
        """As `Backend.store_of`."""
        if algorithm not in self._stores:
            factory = (factories or {}).get(self._kind)
            if factory is None:
                raise InvalidRequestError(
                    f"the algorithm {algorithm!r} has no store for a backend of kind "
                    f"{self._kind!r}; it brings one for {sorted(factories or {})}"
                )
            self._stores[algorithm] = factory(backend)
        return self._stores[algorithm]

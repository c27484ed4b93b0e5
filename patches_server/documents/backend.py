"""`Backend`: where a server keeps everything, as whatever serves documents needs it.

A backend knows its place and no algorithm: an algorithm brings its stores in a `StoreFactory`, as
on the client. A maker is given the backend. A third backend, over another database, is a class
with these methods: nothing else has to know of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from patches.stores.backend import StoreFactory
from patches_server.documents.records import Tombstone

T = TypeVar("T")
Kept_co = TypeVar("Kept_co", covariant=True)


class Backend(Protocol):
    """Documents of all algorithms, and what they share."""

    async def epoch(self) -> str:
        """The id of this storage, made with it. Raises `StorageError` if it cannot be used."""

    async def algorithm_of(self, doc_id: str) -> str | None:
        """The algorithm that a document was first committed with, `None` if it does not exist."""

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in a document's place."""

    def open_store(self, factory: StoreFactory[T]) -> T:
        """An algorithm's store here; the same one each time. Nothing is opened on disk yet.

        Raises `InvalidRequestError` if the algorithm has no store for this kind of backend.
        """

    async def close(self) -> None:
        """Finish what is being written, and close."""


@dataclass(frozen=True, slots=True)
class DocAt:
    """Where a document stands: its history's token (`None`: it does not exist) and its head."""

    token: str | None = None
    rev: int = 0
    is_deleted: bool = False


class StoreExclusively(Protocol[Kept_co]):
    """A store that other processes write to as well, and that lets one wait for its turn."""

    def exclusively(self, doc_id: str) -> AbstractAsyncContextManager[Kept_co]:
        """The store, for what is decided while nobody else can write the document.

        What is saved takes effect when the context ends. Others wait: hold it for milliseconds.
        """


class SharedBackend(Backend, Protocol):
    """A backend that several processes use at once, and that says what the others did."""

    async def moved(self, known: Mapping[str, DocAt]) -> Mapping[str, DocAt]:
        """Those documents that stand elsewhere than is known, and where."""

    async def add_revocation(self, principal: str | int | None, doc_id: str | None) -> None:
        """Let every process know, with its next poll, that rights have changed."""

    async def revocations(
        self, within_s: float
    ) -> Sequence[tuple[int, str | int | None, str | None]]:
        """Those of the last seconds: `(id, principal, doc_id)`."""

    async def clean_up(self, now: int) -> int:
        """Remove some of what is kept for nothing any more; how many rows. One process at a time
        does it, in short transactions."""


def store_in(place: Any, factory: StoreFactory[T]) -> T:
    """An algorithm's store in a backend; anything that is no backend is the store itself."""
    open_store = getattr(place, "open_store", None)
    store: T = place if open_store is None else open_store(factory)
    return store


def exclusively(store: T, doc_id: str) -> AbstractAsyncContextManager[T]:
    """The store for a decision that must not lose a race, where it offers that; else the store.

    Its own class has to say so, by `is_exclusive = True`.
    """
    if type(store).__dict__.get("is_exclusive") is not True:
        return nullcontext(store)
    return cast("StoreExclusively[T]", store).exclusively(doc_id)

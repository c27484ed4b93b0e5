"""`TablesStore`: a client's store that keeps each document in tables of its own.

For algorithms whose transactions are functions over one document's tables, which they declare.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from patches.model.change import QuarantinedChange, TrackedDoc

T = TypeVar("T")
Tables = TypeVar("Tables", covariant=True)


class TablesStore(Protocol[Tables]):
    """Documents by id.

    A function that raises leaves nothing of what it did; it raises before its first write, so a
    store that cannot undo is enough. It may run in another thread.
    """

    async def read(self, doc_id: str, fn: Callable[[Tables], T]) -> T:
        """Run a function that writes nothing over one consistent view."""

    async def change(self, doc_id: str, fn: Callable[[Tables], T]) -> T:
        """Run a function in a transaction and return its result when that is durable."""

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        """All documents, with `include_deleted` also those marked as deleted."""

    async def list_quarantined(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """The quarantine of one document, or of all, oldest first."""

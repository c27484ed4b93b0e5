"""What all documents of a server have, whatever their algorithm: a record of it, and tombstones.

A document's algorithm is recorded in the transaction of its first commit and forgotten when it is
deleted. While a tombstone stands, nothing is written under the document's id. `MemoryDocuments`
keeps this in memory, `documents_sqlite.py` in a file.

The last server time is kept here too, so that a server's clock never runs backwards over a restart.
"""

from __future__ import annotations

from typing import Protocol

from patches.errors import AlgorithmMismatchError, DocDeletedError
from patches.runtime import Millis
from patches_server.documents.history import token_of
from patches_server.documents.listing import ListedDoc
from patches_server.documents.records import Tombstone


class MemoryDocuments:
    """Algorithms, tombstones and the last server time, shared by the memory stores of a backend."""

    def __init__(self, epoch: str = "memory") -> None:
        self._epoch = epoch
        self._algorithms: dict[str, str] = {}
        self._lives: dict[str, int] = {}
        self._last_life = 0
        self._tombstones: dict[str, Tombstone] = {}
        self.last_server_time: Millis = 0

    def algorithm_of(self, doc_id: str) -> str | None:
        """The algorithm of a document that has been committed to."""
        return self._algorithms.get(doc_id)

    def token_of(self, doc_id: str) -> str | None:
        """The token of a document's history, `None` if it does not exist."""
        life = self._lives.get(doc_id)
        return None if life is None else token_of(self._epoch, life)

    def check_not_deleted(self, doc_id: str) -> None:
        """Raise `DocDeletedError` while a tombstone stands."""
        tombstone = self._tombstones.get(doc_id)
        if tombstone is not None:
            raise deleted(tombstone)

    def require_writable(self, doc_id: str, algorithm: str, *, now: Millis) -> None:
        """Before a write: no tombstone, and the document is of this algorithm (for good, if new).

        `now` is the server time of the write. Raises `DocDeletedError`, `AlgorithmMismatchError`.
        """
        self.check_writable(doc_id, algorithm)
        self.written(doc_id, algorithm, now=now)

    def check_writable(self, doc_id: str, algorithm: str) -> None:
        """`require_writable` without recording anything."""
        tombstone = self._tombstones.get(doc_id)
        if tombstone is not None:
            raise deleted(tombstone)
        recorded = self._algorithms.get(doc_id)
        if recorded is not None and recorded != algorithm:
            raise AlgorithmMismatchError(doc_id, expected=recorded, got=algorithm)

    def written(self, doc_id: str, algorithm: str, *, now: Millis) -> None:
        """A document that may be written is."""
        if doc_id not in self._algorithms:
            self._algorithms[doc_id] = algorithm
            self._last_life = self._lives[doc_id] = next_life(now, self._last_life)
        if now > self.last_server_time:
            self.last_server_time = now

    def forget_document(self, doc_id: str) -> None:
        """The document is gone: another may start under its id, with any algorithm."""
        self._algorithms.pop(doc_id, None)
        self._lives.pop(doc_id, None)

    def list_docs(
        self, prefix: str, *, after: str | None, limit: int, deleted: bool
    ) -> list[ListedDoc]:
        """See `ListsDocuments`."""
        names = self._tombstones if deleted else self._algorithms
        found = sorted(
            doc_id
            for doc_id in names
            if doc_id.startswith(prefix) and (after is None or doc_id > after)
        )
        return [
            ListedDoc(
                doc_id=doc_id,
                algorithm=self._algorithms.get(doc_id),
                created_at=self._lives.get(doc_id),
                deleted_at=self._tombstones[doc_id].deleted_at if deleted else None,
            )
            for doc_id in found[:limit]
        ]

    def count_docs(self, prefix: str) -> int:
        """How many documents have ids with this prefix."""
        return sum(doc_id.startswith(prefix) for doc_id in self._algorithms)

    def put_tombstone(self, tombstone: Tombstone) -> None:
        """Set or replace a document's tombstone."""
        self._tombstones[tombstone.doc_id] = tombstone

    def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in a document's place."""
        return self._tombstones.get(doc_id)

    def remove_tombstone(self, doc_id: str) -> bool:
        """Remove it; whether one stood."""
        return self._tombstones.pop(doc_id, None) is not None


def require_algorithm(doc_id: str, recorded: str | None, algorithm: str) -> None:
    """Raise `AlgorithmMismatchError` for a document that is recorded with another algorithm."""
    if recorded is not None and recorded != algorithm:
        raise AlgorithmMismatchError(doc_id, expected=recorded, got=algorithm)


def next_life(now: Millis, last_life: int) -> int:
    """The number of a document that is made now, above all others of the storage.

    The time is in it so that an older copy of a storage does not give the same numbers again.
    """
    return max(now, last_life + 1)


def deleted(tombstone: Tombstone) -> DocDeletedError:
    """The error that a tombstone stands for."""
    return DocDeletedError(
        tombstone.doc_id, deleted_at=tombstone.deleted_at, last_rev=tombstone.last_rev
    )


class _Deletable(Protocol):
    """What a store is checked for before a document of it is deleted."""

    async def get_tombstone(self, doc_id: str) -> Tombstone | None: ...

    async def get_current_rev(self, doc_id: str) -> int: ...


async def new_tombstone(
    store: _Deletable, doc_id: str, *, client_id: str | None, now: Millis
) -> Tombstone | None:
    """The tombstone to leave at the document's head; `None` if one stands already."""
    if await store.get_tombstone(doc_id) is not None:
        return None
    return Tombstone(
        doc_id=doc_id,
        deleted_at=now,
        last_rev=await store.get_current_rev(doc_id),
        deleted_by_client_id=client_id,
    )

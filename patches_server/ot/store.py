"""`OTServerStore`: what an OT server needs of the place where it keeps documents.

A store saves and loads, atomically, and takes no decision: each method is one transaction.
`patches.testing.contracts.ot_server` holds the tests that every implementation passes.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from patches.model.change import Change
from patches.runtime import Millis
from patches_server.documents.branch_store import BranchStore
from patches_server.documents.measure import Bounds
from patches_server.documents.records import Tombstone, Version
from patches_server.documents.version_store import VersionStore

_NOTHING: Final = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class DocHead:
    """Where a document's log ends."""

    rev: int = 0
    change_id: str | None = None  # of the newest change; with `rev` it identifies the log
    created_at: Millis = 0  # of the newest change
    bounds: Bounds = _NOTHING
    #: Of the document's history; `None` if it does not exist, or the token is not at hand.
    token: str | None = field(default=None, compare=False)


#: The head of a document that does not exist.
NO_DOC: Final = DocHead()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSnapshot:
    """The newest main version at or below a revision, its state, and the changes after it."""

    version: Version | None
    state: bytes | None  # `None` or empty although there is a version: it is missing
    changes: list[Change]


class SaveAtOnce(Protocol):
    """`OTServerStore.save_changes`, without waiting. Returns the rows as they are kept."""

    def __call__(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> list[Change]: ...


class SavesAtOnce(Protocol):
    """A store that saves without waiting. Its own class says so by `saves_at_once = True`."""

    saves_at_once: bool
    save_changes_at_once: SaveAtOnce


class BeginSave(Protocol):
    """`save_changes` without waiting: the future is done once the changes are stored.

    Saves take effect in the order in which they were begun.
    """

    def __call__(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> Future[None]: ...


class SavesInOrder(Protocol):
    """A store that saves several commits in one go. Its own class says so by
    `saves_in_order = True`."""

    saves_in_order: bool
    begin_save: BeginSave


class OTServerStore(Protocol):
    """Keeps the change logs of OT documents, and beside them their versions and branch records.

    Every method on a document's live data raises `DocDeletedError` while a tombstone stands. Rows
    are kept as bytes: a `Change` that is loaded is decoded when somebody asks for its operations.
    """

    @property
    def versions(self) -> VersionStore:
        """The versions of the documents."""

    @property
    def branches(self) -> BranchStore:
        """The branch records."""

    async def get_head(self, doc_id: str) -> DocHead:
        """The end of the log; `NO_DOC` for a document that does not exist."""

    async def save_changes(
        self,
        doc_id: str,
        changes: Sequence[Change],
        *,
        expected: DocHead,
        now: Millis,
        bounds: Bounds | None = None,
    ) -> None:
        """Append changes, all or none. `now` is the server time of the write.

        In this order: `DocDeletedError` under a tombstone, `AlgorithmMismatchError` for a document
        of another algorithm (the first write records it as `ot`), `RevConflictError` unless
        `expected` is still the head (`rev`, `change_id` and, where both have one, `token` count),
        `DuplicateChangeIdsError` naming those ids that were ever committed to the document, pruned
        ones included. `bounds` replaces those of the head.
        """

    async def list_changes(
        self,
        doc_id: str,
        *,
        start_after: int | None = None,
        end_before: int | None = None,
        limit: int | None = None,
        max_bytes: int | None = None,
    ) -> list[Change]:
        """Changes between two revisions, both exclusive, ascending.

        `max_bytes` ends the list before the change that would exceed it, but not before the first.
        Empty for an unknown document.
        """

    async def load_snapshot(self, doc_id: str, *, rev: int | None = None) -> StoredSnapshot:
        """What shows the document at `rev` (at the head, if `None` or beyond), read at once.

        A version that ends beyond the head does not count.
        """

    async def prune_changes(self, doc_id: str, *, through_rev: int) -> None:
        """Remove changes up to a revision. Their ids stay known."""

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        """Remove changes, ids, versions and the record of the algorithm, and set the tombstone.

        The tombstone's `last_rev` becomes the head that was removed. Where there was nothing and a
        tombstone stands already, that one is kept. Raises `AlgorithmMismatchError` for a document
        of another algorithm.
        """

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in a document's place."""

    async def remove_tombstone(self, doc_id: str) -> bool:
        """Remove it; whether there was one."""

    async def last_server_time(self) -> Millis:
        """The latest `now` of a write, 0 if there was none."""

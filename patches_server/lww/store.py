"""What the LWW document server needs of a store (`docs/internals/lww.md` 8)."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from patches.runtime import Millis
from patches_server.documents.branch_store import BranchStore
from patches_server.documents.records import Tombstone
from patches_server.documents.version_store import VersionStore
from patches_server.lww.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedSnapshot:
    """A state at a revision, as JSON text; rows are applied on top of it."""

    rev: int
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRows:
    """Rows of a document, read at one moment, in the order in which they were stored.

    `rev` is the head, 0 for a document that does not exist. `floor`: removals up to this revision
    may have been dropped, so that a reader behind it cannot catch up by rows alone. `seen`: the
    change ids asked for that are committed and not expired. `head_id` is the id of the change that
    made the head, where it is known; `token` that of the document's history, `None` if there is no
    document.
    """

    rev: int = 0
    rows: Sequence[Row] = ()
    floor: int = 0
    snapshot: SavedSnapshot | None = None
    seen: frozenset[str] = field(default_factory=frozenset)
    head_id: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """What a commit writes: see `LWWServerStore.save_rows`."""

    rows: Sequence[Row]
    hide: Sequence[str]
    change_ids: Sequence[str]
    expires_at: Millis
    head_id: str


#: `(rev, change_id)`: see `LWWServerStore.made_by`.
MadeBy: TypeAlias = Callable[[int, str], bool | None]
#: What to write, from what was read; `None`: nothing. It may be called in another thread.
Decide: TypeAlias = Callable[[LoadedRows, MadeBy], Revision | None]


class DecidesAtOnce(Protocol):
    """A store that reads and writes without waiting. Its own class says so by
    `decides_at_once = True`."""

    decides_at_once: bool

    def commit_at_once(
        self,
        doc_id: str,
        decide: Decide,
        *,
        now: Millis,
        paths: Sequence[str],
        since_rev: int | None,
        change_ids: Sequence[str],
    ) -> bool:
        """Read as `load_rows` does, and write what `decide` says; whether there was anything.

        Raises what `load_rows` and `save_rows` raise.
        """


class DecidesInOrder(Protocol):
    """A store that decides commits inside its transactions, several in one. Its own class says so
    by `decides_in_order = True`."""

    decides_in_order: bool

    def begin_commit(
        self,
        doc_id: str,
        decide: Decide,
        *,
        now: Millis,
        paths: Sequence[str],
        since_rev: int | None,
        change_ids: Sequence[str],
    ) -> Future[bool]:
        """`DecidesAtOnce.commit_at_once`, without waiting: the future is done once that is stored.

        Commits take effect in the order in which they were begun.
        """


class LWWServerStore(Protocol):
    """Rows, at most one per path, and the ids of the changes that wrote them.

    Each method is one transaction. Reads and writes of a deleted document raise `DocDeletedError`.
    """

    keeps_change_ids: bool  # without, a retried delta counts twice

    @property
    def versions(self) -> VersionStore | None:
        """The versions of the documents; `None`: none are kept."""

    @property
    def branches(self) -> BranchStore | None:
        """The branch records; `None`: none are kept."""

    async def load_rows(
        self,
        doc_id: str,
        *,
        now: Millis,
        paths: Sequence[str] | None = None,
        since_rev: int | None = None,
        change_ids: Sequence[str] = (),
    ) -> LoadedRows:
        """With `paths`: rows at, above and below them. With `since_rev`: those written after it.

        With both, all of them; with neither, all rows. Hidden rows are among them. The root is
        above every path.
        """

    async def save_rows(
        self,
        doc_id: str,
        rows: Sequence[Row],
        *,
        expected_rev: int,
        now: Millis,
        hide: Sequence[str] = (),
        change_ids: Sequence[str] = (),
        expires_at: Millis = 0,
        head_id: str | None = None,
        token: str | None = None,
    ) -> None:
        """Write a revision: hide rows, then let each row replace those at and below its path.

        `rows` carry `expected_rev + 1`. Records the ids until `expires_at`, and prunes some that
        have expired. `head_id` names the new head. Raises `RevConflictError` when the head is not
        `expected_rev`, or the document's token, if it has one, not the `token` given;
        `DocDeletedError`, `AlgorithmMismatchError`; then nothing was written.
        """

    async def made_by(self, doc_id: str, rev: int, change_id: str) -> bool | None:
        """Whether this change made the revision; `None` when that is not known any more."""

    async def get_current_rev(self, doc_id: str) -> int:
        """The head, 0 if unknown or deleted."""

    async def seed(self, doc_id: str, state: bytes, rows: Sequence[Row], *, now: Millis) -> None:
        """Start a document as a copy: a snapshot at revision 0, the rows, if any, at revision 1.

        Raises `RevConflictError` when it has a revision already.
        """

    async def save_snapshot(self, doc_id: str, state: bytes, rev: int, *, now: Millis) -> None:
        """Replace the snapshot and drop the rows up to `rev`. Only for what has no history yet:
        the rows' timestamps and delta bases are lost."""

    async def drop_removals(self, doc_id: str, *, stored_before: Millis, limit: int) -> int:
        """Drop up to `limit` removals, hidden ones too but no pinned ones, stored before a time,
        and raise the floor to them. Returns how many."""

    async def delete_doc(self, doc_id: str, tombstone: Tombstone | None, *, now: Millis) -> None:
        """Remove rows, snapshot and change ids; set the tombstone. Versions and branches stay.

        Raises `AlgorithmMismatchError` for a document of another algorithm.
        """

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone, unless it has expired."""

    async def remove_tombstone(self, doc_id: str) -> bool:
        """Remove it; whether one stood."""

    async def last_server_time(self) -> Millis:
        """The server time of the latest write to any document, 0 if there was none."""

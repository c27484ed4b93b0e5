"""`Engine`: where the tables of collections documents are, and how functions reach them.

An engine keeps one ordered log for each document: for every key the revision that touched it last.
It decides nothing: who may write, and who is sent what, is the server's. Another database is one
more engine; `patches.testing.contracts.collections_engine` holds what each of them does.

A function that is given to `begin` runs in another thread, in one transaction. Functions of one
document run one after the other, in the order of `begin`, and their futures are done in that order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

from patches.algorithms.collections.declaration import Collections, DeclaredTable
from patches.model.json_values import Json
from patches.rows.conditions import Condition
from patches.rows.row_ops import Row
from patches.runtime import Millis

T = TypeVar("T")

#: Rows by table and key, as they are now; `None` is a row that is not there.
Rows: TypeAlias = dict[str, dict[str, Row | None]]
#: Columns to order by, and whether descending; rows without a value come last, then the key counts.
Order: TypeAlias = Sequence[tuple[str, bool]]


@dataclass(slots=True)
class Touched:
    """Rows that were touched in some revisions, as they are now."""

    rows: Rows = field(default_factory=dict)
    #: Those that were made in these revisions.
    born: set[tuple[str, str]] = field(default_factory=set)
    #: The revision that touched each row last.
    revs: dict[tuple[str, str], int] = field(default_factory=dict)
    #: Tables that are empty now, and had several rows.
    emptied: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return sum(map(len, self.rows.values()))


@dataclass(frozen=True, slots=True)
class Commit:
    """A change that was carried out: at which revision, and whose it was."""

    change_id: str
    rev: int
    author: str | None


@dataclass(frozen=True, slots=True)
class Where:
    """Which rows of a table: all conditions hold, with claims filled in."""

    table: DeclaredTable
    conditions: tuple[Condition, ...] = ()
    claims: Mapping[str, Json] = field(default_factory=dict)

    def matches(self, row: Row) -> bool:
        """Whether a row is one of them."""
        return all(condition.matches(row, self.claims) for condition in self.conditions)


class Transaction(Protocol):
    """A document's database inside of one transaction.

    Valid while the function that got it runs, in the thread of that function.
    """

    #: The newest revision.
    rev: int
    #: Deletions up to this revision may be forgotten.
    floor: int
    #: Names this history of the document.
    epoch: str

    def sql(self, query: str, *params: Any) -> list[dict[str, Any]]:
        """One statement of the database's own SQL; the rows it gives."""

    def time_limit(self, seconds: float | None) -> None:
        """Break off a statement that runs past so many seconds from now; `None`: none does."""

    def attempt(self, work: Callable[[], T]) -> T:
        """Run a part of the transaction. If it raises, that part is undone, with its revisions."""

    def is_broken(self) -> bool:
        """Whether the database has given up the whole transaction, after a statement failed."""

    def get(self, table: DeclaredTable, key: str) -> Row | None:
        """One row."""

    def insert(self, table: DeclaredTable, row: Row) -> None:
        """Add a row."""

    def update(self, table: DeclaredTable, key: str, columns: Mapping[str, Json]) -> None:
        """Write columns of a row."""

    def delete(self, table: DeclaredTable, key: str) -> None:
        """Remove a row, if it is there."""

    def select(
        self, where: Where, *, order: Order = (), limit: int | None = None, after: int = 0
    ) -> list[Row]:
        """Rows, by key unless there is an order; `limit` of them, without the first `after`."""

    def number(self, now: Millis) -> Touched:
        """Give what was written and has no revision the next one; what that is, nothing if none.

        Afterwards `rev` is that revision.
        """

    def next_rev(self) -> int:
        """Take a revision for a change that has written nothing."""

    def changed(self, after: int, upto: int, *, limit: int) -> Touched | None:
        """What was touched last in the revisions `after < rev <= upto`; `None` if it is more than
        `limit` rows."""

    def touch(self, table: DeclaredTable) -> None:
        """Enter every row of a table into the log, as if each had been written."""

    def commits(self, change_ids: Collection[str]) -> dict[str, Commit]:
        """Those of the changes that were carried out already."""

    def commits_after(self, rev: int) -> dict[int, Commit]:
        """The changes that were carried out after a revision, by theirs."""

    def put_commit(self, commit: Commit, now: Millis) -> None:
        """Remember a change."""

    def consumers(self) -> dict[str, int]:
        """The cursors of durable handlers."""

    def put_consumer(self, name: str, rev: int) -> None:
        """Set a cursor."""

    def sweep(self, *, deleted_before: Millis, committed_before: Millis) -> int:
        """Forget deletions and changes that are older; how many deletions. Raises the floor."""

    def new_epoch(self, epoch: str) -> None:
        """Another history begins: every copy of the document is to be fetched anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A document that was deleted."""

    deleted_at: Millis
    last_rev: int
    client_id: str | None = None


class Engine(Protocol):
    """The databases of all documents of a server."""

    def declare(self, collections: Collections) -> None:
        """The tables that each document has. Called once, before anything else."""

    def begin(self, doc_id: str, work: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """Run a function in a transaction that writes; the future is done when it is durable.

        All of it happens, or none. Raises what `work` raises, or `StorageError`; `SchemaError` for
        tables that the declaration does not fit.
        """

    async def read(self, doc_id: str, work: Callable[[Transaction], T]) -> T:
        """Run a function that writes nothing on one view of the document, beside the others."""

    async def has_unnumbered(self, doc_ids: Iterable[str]) -> list[str]:
        """Those of the documents that something else has written to."""

    async def list_docs(self) -> list[str]:
        """All documents."""

    async def deleted(self, doc_id: str) -> Deleted | None:
        """The record of a document's deletion."""

    async def delete(self, doc_id: str, tombstone: Deleted | None) -> None:
        """Remove everything of a document. What has begun is finished first."""

    async def undelete(self, doc_id: str) -> bool:
        """Remove the record of its deletion; whether there was one."""

    async def close(self) -> None:
        """Finish what was begun, and close."""

"""`SqliteTablesStore`: a `TablesStore` in a SQLite file that processes may share.

Every call of `change` is one transaction, taken as a writer from its start: what it reads is what
it writes over, whatever other processes do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from patches.model.change import QuarantinedChange, TrackedDoc
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.document_records import DocumentRecords, Listed
from patches.stores.sqlite.keys import to_key

T = TypeVar("T")


class SqliteTables(Protocol):
    """One document's tables in the transaction of a connection."""

    def finish(self) -> None:
        """Write what is written once, at the end of the transaction."""


Tables = TypeVar("Tables", bound=SqliteTables)


class SqliteTablesStore(Generic[Tables]):
    """Documents that survive a restart.

    `open_tables` gives a document's tables in a transaction. `columns` and `checked`: see
    `DocumentRecords.list_docs`.
    """

    def __init__(
        self,
        database: SqliteDatabase,
        records: DocumentRecords,
        open_tables: Callable[[sqlite3.Connection, str], Tables],
        *,
        columns: str,
        checked: Callable[[bytes, Sequence[Any]], Listed],
    ) -> None:
        self._database, self._records, self._open_tables = database, records, open_tables
        self._columns, self._checked = columns, checked

    async def read(self, doc_id: str, fn: Callable[[Tables], T]) -> T:
        """Run a function that writes nothing over one view of the file."""
        return await self._database.read(lambda db: fn(self._open_tables(db, doc_id)))

    async def change(self, doc_id: str, fn: Callable[[Tables], T]) -> T:
        """Run a function in a transaction and return its result when that is on disk."""

        def write(db: sqlite3.Connection) -> T:
            tables = self._open_tables(db, doc_id)
            result = fn(tables)
            tables.finish()
            return result

        return await self._database.write(write)

    async def list_docs(self, include_deleted: bool = False) -> list[TrackedDoc]:
        """All documents, with `include_deleted` also those marked as deleted.

        One whose record is damaged counts as a document at revision 0; opening it raises.
        """
        return await self._database.read(
            lambda db: self._records.list_docs(
                db, self._columns, self._checked, include_deleted=include_deleted
            )
        )

    async def list_quarantined(self, doc_id: str | None = None) -> list[QuarantinedChange]:
        """The quarantine of one document, or of all, oldest first."""
        key = None if doc_id is None else to_key(doc_id)
        return await self._database.read(lambda db: self._records.list_quarantined(db, key))

"""`SqliteBackend`: everything a server keeps, in one SQLite file."""

from __future__ import annotations

import logging
import os
import sqlite3
from typing import Any, TypeVar

from patches.errors import CorruptDataError
from patches.runtime import Runtime
from patches.stores.backend import StoreFactory
from patches.stores.sqlite.database import Durability, SqliteDatabase
from patches_server.documents.listing import ListedDoc
from patches_server.documents.records import Tombstone
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.branches import SqliteBranches
from patches_server.stores.sqlite.checksums import SUMS_SCHEMA
from patches_server.stores.sqlite.versions import SqliteVersions

T = TypeVar("T")

_log = logging.getLogger("patches_server.stores")


class SqliteBackend:
    """The stores of all algorithms, and what they share. Opened on first use, closed by `close`.

    `durability="relaxed"` may lose the newest commits when the machine loses power.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        runtime: Runtime | None = None,
    ) -> None:
        self._runtime = runtime or Runtime()
        self.database: SqliteDatabase = SqliteDatabase(
            path, durability=durability, runtime=self._runtime, kind=documents.SERVER_FILE
        )
        self.database.add_schema(SUMS_SCHEMA)
        self.database.add_schema(documents.DOCUMENTS_SCHEMA)
        self.versions: SqliteVersions = SqliteVersions(self.database, runtime=self._runtime)
        self.branches: SqliteBranches = SqliteBranches(self.database)
        #: The stores that were opened, by the name of their algorithm.
        self.stores: dict[str, Any] = {}

    def open_store(self, factory: StoreFactory[T]) -> T:
        """An algorithm's store. A maker is given this object."""
        if factory.name not in self.stores:
            self.stores[factory.name] = factory.make("sqlite", self, self._runtime)
        store: T = self.stores[factory.name]
        return store

    async def epoch(self) -> str:
        """The id of this file, made with it. Copies by `patches-server backup` have others.

        Raises `WrongFileError` for a file of another kind or of a newer version, `StorageError`
        when it cannot be used.
        """

        def read(conn: sqlite3.Connection) -> str:
            try:
                documents.require_tombstones(conn)
            except CorruptDataError as exc:  # which documents they are of, nobody can say
                _log.error("%s: %s; run patches-server doctor", self.database.path, exc)
            return documents.epoch_of(conn)

        return await self.database.read(read)

    async def algorithm_of(self, doc_id: str) -> str | None:
        """The algorithm that a document was first committed with, `None` if it does not exist."""
        return await self.database.read(lambda conn: documents.algorithm_of(conn, doc_id))

    async def get_tombstone(self, doc_id: str) -> Tombstone | None:
        """The tombstone that stands in a document's place."""
        return await self.database.read(lambda conn: documents.get_tombstone(conn, doc_id))

    async def list_docs(
        self, prefix: str, *, after: str | None, limit: int, deleted: bool
    ) -> list[ListedDoc]:
        """See `ListsDocuments`."""
        return await self.database.read(
            lambda conn: documents.list_docs(
                conn, prefix, after=after, limit=limit, deleted=deleted
            )
        )

    async def count_docs(self, prefix: str) -> int:
        """How many documents have ids with this prefix."""
        return await self.database.read(lambda conn: documents.count_docs(conn, prefix))

    async def close(self) -> None:
        """Finish what is being written and close the file."""
        await self.database.close()

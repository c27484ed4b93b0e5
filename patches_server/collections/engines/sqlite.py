"""`SQLiteEngine`: a database file for each document, in one folder.

The name of a file is the document's id, with everything but lower-case letters, digits and `-` as
`%xx`. `_documents.sqlite` beside them holds the records of deletions.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

from patches.algorithms.collections.declaration import Collections, DeclaredTable
from patches.model.ids import random_id
from patches.runtime import Runtime
from patches.stores.sqlite.database import Durability, SqliteDatabase
from patches_server.collections.engines.engine import Deleted, Transaction
from patches_server.collections.engines.sqlite_tables import LOG_SCHEMA, set_up
from patches_server.collections.engines.sqlite_transaction import SqliteTransaction, TableSql

T = TypeVar("T")

SUFFIX: Final = ".sqlite"
RECORDS_FILE: Final = f"_documents{SUFFIX}"
_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-")
#: Longer names are kept as a hash, with the id inside of the file.
_MAX_NAME: Final = 200
_RECORDS_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS deleted_documents (
    doc_id TEXT PRIMARY KEY, deleted_at INTEGER NOT NULL, last_rev INTEGER NOT NULL, client_id TEXT
) WITHOUT ROWID;
"""


@dataclass(slots=True, eq=False)
class _Document:
    database: SqliteDatabase
    #: The name of its history, if it is new.
    epoch: str
    #: Its tables and triggers are there.
    is_set_up: bool = False
    in_use: int = 0


class SQLiteEngine:
    """See `Engine`. `folder`: where the files are, made when needed; `None` keeps all in memory.

    One process at a time may serve a folder; other programs may read and write the files meanwhile.
    `durability="relaxed"` may lose the newest commits when the machine loses power. At most
    `max_open` files are open while nobody uses them.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        durability: Durability = "full",
        max_open: int = 100,
        runtime: Runtime | None = None,
    ) -> None:
        self.folder: Final = None if folder is None else Path(folder)
        self._durability: Durability = durability
        self._max_open = max_open
        self._runtime = runtime or Runtime()
        self._tables: dict[str, DeclaredTable] = {}
        self._statements: dict[str, TableSql] = {}
        self._open: OrderedDict[str, _Document] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()
        self._records: SqliteDatabase | None = None

    def declare(self, collections: Collections) -> None:
        """The tables of each document."""
        self._tables = dict(collections.tables)
        self._statements = {name: TableSql(table) for name, table in self._tables.items()}

    def begin(self, doc_id: str, work: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """Run a function in a transaction that writes."""
        document = self._document(doc_id)
        document.in_use += 1
        future = document.database.begin_write(partial(self._run, document, doc_id, work))
        future.add_done_callback(partial(self._wrote, document))
        return future

    async def read(self, doc_id: str, work: Callable[[Transaction], T]) -> T:
        """Run a function that writes nothing."""
        document = self._document(doc_id)
        if not document.is_set_up:
            return await self.begin(doc_id, work)
        document.in_use += 1
        try:
            return await document.database.read(lambda conn: work(self._transaction(conn)))
        finally:
            self._used(document)

    async def has_unnumbered(self, doc_ids: Iterable[str]) -> list[str]:
        """Documents that something else has written to."""
        return [doc_id for doc_id in doc_ids if await self.read(doc_id, _has_unnumbered)]

    async def list_docs(self) -> list[str]:
        """All documents."""
        if self.folder is None:
            return sorted(self._open)
        return await self._runtime.run_blocking(partial(_documents_in, self.folder))

    async def deleted(self, doc_id: str) -> Deleted | None:
        """The record of a deletion."""

        def find(conn: sqlite3.Connection) -> Deleted | None:
            row = conn.execute(
                "SELECT deleted_at, last_rev, client_id FROM deleted_documents WHERE doc_id = ?",
                (doc_id,),
            ).fetchone()
            if row is None:
                return None
            return Deleted(deleted_at=row[0], last_rev=row[1], client_id=row[2])

        return await self._deletions().read(find)

    async def delete(self, doc_id: str, tombstone: Deleted | None) -> None:
        """Remove a document's file."""
        if tombstone is not None:
            values = (doc_id, tombstone.deleted_at, tombstone.last_rev, tombstone.client_id)
            await self._deletions().write(
                lambda conn: conn.execute(
                    "INSERT OR IGNORE INTO deleted_documents VALUES (?, ?, ?, ?)", values
                )
            )
        document = self._open.pop(doc_id, None)
        if document is not None:
            await document.database.close()
        if self.folder is not None:
            await self._runtime.run_blocking(partial(_remove, self.folder / file_name(doc_id)))

    async def undelete(self, doc_id: str) -> bool:
        """Remove the record of a deletion."""

        def remove(conn: sqlite3.Connection) -> bool:
            query = "DELETE FROM deleted_documents WHERE doc_id = ?"
            return conn.execute(query, (doc_id,)).rowcount > 0

        return await self._deletions().write(remove)

    async def close(self) -> None:
        """Close all files."""
        documents, self._open = list(self._open.values()), OrderedDict()
        for document in documents:
            await document.database.close()
        if self._closing:
            await asyncio.wait(self._closing)
        if self._records is not None:
            await self._records.close()
            self._records = None

    def _document(self, doc_id: str) -> _Document:
        document = self._open.get(doc_id)
        if document is None:
            document = self._open[doc_id] = _Document(
                self._database(file_name(doc_id)), random_id(self._runtime.random, 16)
            )
            document.database.add_schema(LOG_SCHEMA)
        self._open.move_to_end(doc_id)
        return document

    def _database(self, name: str) -> SqliteDatabase:
        path = ":memory:"
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = os.fspath(self.folder / name)
        return SqliteDatabase(path, durability=self._durability, runtime=self._runtime)

    def _deletions(self) -> SqliteDatabase:
        if self._records is None:
            self._records = self._database(RECORDS_FILE)
            self._records.add_schema(_RECORDS_SCHEMA)
        return self._records

    def _run(
        self,
        document: _Document,
        doc_id: str,
        work: Callable[[Transaction], T],
        conn: sqlite3.Connection,
    ) -> T:
        if not document.is_set_up:
            set_up(conn, self._tables.values())
            conn.execute("UPDATE _patches_meta SET epoch = ? WHERE epoch = ''", (document.epoch,))
            conn.execute("UPDATE _patches_meta SET doc_id = ? WHERE doc_id IS NOT ?", (doc_id,) * 2)
        return work(self._transaction(conn))

    def _transaction(self, conn: sqlite3.Connection) -> SqliteTransaction:
        return SqliteTransaction(conn, self._tables, self._statements, self._runtime.wall_ms)

    def _wrote(self, document: _Document, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            document.is_set_up = True
        self._used(document)

    def _used(self, document: _Document) -> None:
        document.in_use -= 1
        if self.folder is None or len(self._open) <= self._max_open:
            return
        for doc_id, each in self._open.items():
            if not each.in_use:
                del self._open[doc_id]
                task = asyncio.get_running_loop().create_task(each.database.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
                return


def file_name(doc_id: str) -> str:
    """The name of a document's file."""
    parts = [chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in doc_id.encode()]
    name = "".join(parts)
    if len(name) > _MAX_NAME:
        name = "%23" + hashlib.sha256(doc_id.encode()).hexdigest()
    return name + SUFFIX


def _documents_in(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else ():
        if path.name == RECORDS_FILE:
            continue
        name = path.name.removesuffix(SUFFIX)
        if name.startswith("%23") and len(name) == 67:
            conn = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            try:
                (doc_id,) = conn.execute("SELECT doc_id FROM _patches_meta").fetchone()
            finally:
                conn.close()
            found.append(str(doc_id))
        else:
            found.append(unquote_to_bytes(name).decode())
    return found


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _has_unnumbered(tx: Transaction) -> bool:
    return bool(tx.sql("SELECT 1 FROM _patches_log WHERE rev IS NULL LIMIT 1"))

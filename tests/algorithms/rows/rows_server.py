"""The server's side of `RowsAlgorithm`, with its stores, its checkup and its registration.

It is all in this folder: nothing else knows of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from patches.errors import CorruptDataError, RevConflictError
from patches.limits import Limits
from patches.model.change import Change
from patches.runtime import Millis, Runtime
from patches.stores.backend import StoreFactory
from patches.stores.sqlite.database import SqliteDatabase
from patches_server.documents.backend import Backend, store_in
from patches_server.documents.checkup import Problem
from patches_server.documents.clock import ServerClock
from patches_server.documents.services import ServedAlgorithm, Services
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.memory.store import MemoryStore
from patches_server.stores.sqlite import documents
from patches_server.stores.sqlite.backend import SqliteBackend
from patches_server.stores.sqlite.checksums import row_crc
from patches_server.stores.sqlite.documents import SqliteDocuments
from tests.support.small_server import SmallServer

SCHEMA = """
CREATE TABLE IF NOT EXISTS rows_heads (doc_id TEXT PRIMARY KEY, rev INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS rows_log (
    doc_id TEXT, rev INTEGER, change BLOB NOT NULL, crc INTEGER NOT NULL, PRIMARY KEY (doc_id, rev)
);
"""


class RowsStore(Protocol):
    """Keeps the changes of documents."""

    async def load(self, doc_id: str) -> list[Change]: ...
    async def append(self, doc_id: str, new: Sequence[Change], now: Millis) -> None: ...
    async def remove(self, doc_id: str) -> None: ...
    async def last_server_time(self) -> Millis: ...


class RowsInMemory(MemoryStore):
    """A `RowsStore` beside the other stores of a memory backend."""

    def __init__(self, backend: MemoryBackend, _runtime: Runtime) -> None:
        super().__init__(backend.documents, backend.versions, backend.branches)
        self._logs: dict[str, list[Change]] = {}

    async def load(self, doc_id: str) -> list[Change]:
        self._documents.check_not_deleted(doc_id)
        return list(self._logs.get(doc_id, []))

    async def append(self, doc_id: str, new: Sequence[Change], now: Millis) -> None:
        log = self._logs.get(doc_id, [])
        if new[0].rev != len(log) + 1:
            raise RevConflictError
        self._documents.require_writable(doc_id, "rows", now=now)
        self._logs[doc_id] = [*log, *new]

    async def remove(self, doc_id: str) -> None:
        self._logs.pop(doc_id, None)
        self._documents.forget_document(doc_id)


class RowsInSqlite(SqliteDocuments):
    """A `RowsStore` in the file of a SQLite backend."""

    def __init__(self, backend: SqliteBackend, runtime: Runtime) -> None:
        super().__init__(backend.database, runtime)
        self._rows: SqliteDatabase = backend.database
        self._rows.add_schema(SCHEMA)

    async def load(self, doc_id: str) -> list[Change]:
        def read(conn: sqlite3.Connection) -> list[Change]:
            documents.check_not_deleted(conn, doc_id)
            found = []
            for rev, data, crc in _log(conn, doc_id):
                if crc != row_crc(doc_id, rev, data):
                    raise CorruptDataError(f"document {doc_id!r}: revision {rev} is damaged")
                found.append(Change.from_encoded(data))
            return found

        return await self._rows.read(read)

    async def append(self, doc_id: str, new: Sequence[Change], now: Millis) -> None:
        rows = [(doc_id, each.rev, each.encoded) for each in new]

        def write(conn: sqlite3.Connection) -> None:
            documents.require_writable(conn, doc_id, "rows", now=now)
            if new[0].rev != _head(conn, doc_id) + 1:
                raise RevConflictError
            conn.executemany(
                "INSERT INTO rows_log VALUES (?, ?, ?, ?)", [(*row, row_crc(*row)) for row in rows]
            )
            conn.execute("INSERT OR REPLACE INTO rows_heads VALUES (?, ?)", (doc_id, new[-1].rev))

        await self._rows.write(write)

    async def remove(self, doc_id: str) -> None:
        def write(conn: sqlite3.Connection) -> None:
            conn.execute("DELETE FROM rows_heads WHERE doc_id = ?", (doc_id,))
            conn.execute("DELETE FROM rows_log WHERE doc_id = ?", (doc_id,))
            documents.forget_document(conn, doc_id)

        await self._rows.write(write)


def _log(conn: sqlite3.Connection, doc_id: str) -> Iterator[tuple[int, bytes, int]]:
    yield from conn.execute(
        "SELECT rev, change, crc FROM rows_log WHERE doc_id = ? ORDER BY rev", (doc_id,)
    )


def _head(conn: sqlite3.Connection, doc_id: str) -> int:
    row = conn.execute("SELECT rev FROM rows_heads WHERE doc_id = ?", (doc_id,)).fetchone()
    return row[0] if row else 0


ROWS_STORES: StoreFactory[RowsStore] = StoreFactory(
    "rows", {"memory": RowsInMemory, "sqlite": RowsInSqlite}
)


class RowsServer(SmallServer):
    """The small server, with a store of its own. `place` is a backend or a `RowsStore`."""

    name = "rows"
    default_routes = ("rows/*",)

    def __init__(self, place: Any, *, runtime: Runtime | None = None) -> None:
        super().__init__()
        self.store = store_in(place, ROWS_STORES)
        self._clock = ServerClock(self.store, runtime or Runtime())

    async def load(self, doc_id: str) -> list[Change]:
        return await self.store.load(doc_id)

    async def append(self, doc_id: str, new: Sequence[Change]) -> None:
        await self.store.append(doc_id, new, await self._clock.now())

    async def remove(self, doc_id: str) -> None:
        await self.store.remove(doc_id)


class RowsCheckup:
    """What is wrong with the rows in a server's file."""

    algorithm = "rows"
    tables: tuple[str, ...] = ("rows_heads", "rows_log")

    def problems(self, conn: sqlite3.Connection) -> Iterator[Problem]:
        for doc_id, rev in conn.execute("SELECT doc_id, rev FROM rows_heads").fetchall():
            rows = list(_log(conn, doc_id))
            for at, data, crc in rows:
                if crc != row_crc(doc_id, at, data):
                    yield Problem("checksum", doc_id, f"revision {at} is damaged", at)
            if [at for at, *_ in rows] != list(range(1, rev + 1)):
                yield Problem("hole", doc_id, f"its log does not lead to revision {rev}")

    def replayed(self, conn: sqlite3.Connection) -> Iterator[Problem]:
        yield from ()

    def mended(
        self, conn: sqlite3.Connection, doc_id: str, problems: Iterable[Problem]
    ) -> Iterator[str]:
        whole = 0
        for rev, data, crc in _log(conn, doc_id):
            if rev != whole + 1 or crc != row_crc(doc_id, rev, data):
                break
            whole = rev
        conn.execute("DELETE FROM rows_log WHERE doc_id = ? AND rev > ?", (doc_id, whole))
        conn.execute("UPDATE rows_heads SET rev = ? WHERE doc_id = ?", (whole, doc_id))
        yield f"document {doc_id!r}: ends at revision {whole}"

    def without_orphans(self, conn: sqlite3.Connection) -> Iterator[str]:
        orphans = "DELETE FROM rows_log WHERE doc_id NOT IN (SELECT doc_id FROM rows_heads)"
        removed = conn.execute(orphans).rowcount
        if removed:
            yield f"removed {removed} rows of no document"


def _serve(backend: Backend, _limits: Limits | None, runtime: Runtime | None) -> Services:
    return Services(RowsServer(backend, runtime=runtime))


ROWS_SERVED = ServedAlgorithm("rows", _serve, RowsCheckup())

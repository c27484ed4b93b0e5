"""`PostgresEngine`: the rows of all documents in shared tables of one PostgreSQL database.

Any number of processes may serve the documents, and other programs write to the tables. See
`postgres_tables` for how revisions are given.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg

from patches.algorithms.collections.declaration import Collections, DeclaredTable
from patches.errors import DocDeletedError, StorageError
from patches.model.ids import random_id
from patches.runtime import Runtime
from patches.stores.sqlite.database import Durability
from patches_server.collections.engines.engine import Deleted, Transaction
from patches_server.collections.engines.postgres_removal import remove_rows
from patches_server.collections.engines.postgres_tables import (
    SETTING,
    BaseTable,
    check_identity,
    set_up,
    view_of,
)
from patches_server.collections.engines.postgres_transaction import PostgresTransaction, TableText
from patches_server.collections.engines.postgres_worker import DRIVER_ERRORS, Worker, WorkerPool
from patches_server.stores.postgres.errors import as_storage_error, ends_connections

T = TypeVar("T")

_SETTINGS: Final = {
    "application_name": "patches-server collections",
    "jit": "off",
    # Longer than code of the application may hold the lock on a document.
    "lock_timeout": "8000",
    "idle_in_transaction_session_timeout": "30000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "10",
}
#: Also sets the document of the transaction, and counts the views of this connection: a migration
#: may have dropped them.
_HEAD: Final = f"""
SELECT d.rev, d.floor, d.epoch, d.deleted_at, d.last_rev, s.said,
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'v')
        AS views
FROM (SELECT set_config('{SETTING}', $1, true) AS said) s
LEFT JOIN patches_rows.docs d ON d.doc_id = s.said"""  # noqa: S608 -- fixed text
_LOCK: Final = "SELECT FROM patches_rows.docs WHERE doc_id = $1 FOR UPDATE"
_CREATE: Final = (
    "INSERT INTO patches_rows.docs (doc_id, epoch) VALUES ($1, $2) ON CONFLICT DO NOTHING"
)
_MOVED: Final = """
SELECT w.doc_id FROM unnest($1::text[], $2::text[], $3::bigint[]) AS w(doc_id, epoch, rev)
LEFT JOIN patches_rows.docs d ON d.doc_id = w.doc_id
WHERE d.rev IS DISTINCT FROM w.rev OR d.epoch IS DISTINCT FROM w.epoch OR d.deleted_at IS NOT NULL
    OR EXISTS (
        SELECT FROM patches_rows.captured c WHERE c.doc_id = w.doc_id AND c.tbl = ANY ($4)
    )"""
_LIST: Final = """
SELECT doc_id FROM patches_rows.docs WHERE deleted_at IS NULL
UNION SELECT c.doc_id FROM patches_rows.captured c WHERE NOT EXISTS (
    SELECT FROM patches_rows.docs d WHERE d.doc_id = c.doc_id AND d.deleted_at IS NOT NULL
) ORDER BY doc_id"""


@dataclass(slots=True, eq=False)
class _Queue:
    """What waits for a document, in order. The first has begun."""

    waiting: deque[tuple[Callable[[Worker], Any], asyncio.Future[Any]]] = field(
        default_factory=deque
    )


class PostgresEngine:
    """See `Engine`. Needs the extra `postgres`.

    Args:
        dsn: `postgresql://user:password@host:port/database`.
        scope: the column of each table that holds the id of the row's document. A managed table
            gets it; a table of the application's own has it.
        schema: the schema of the tables.
        connections: how many of each process.
        durability: `"relaxed"` may lose the newest commits when the database crashes.
        timeout_s: how long a call waits for a database that is away.

    In `sql` the name of a declared table stands for the rows of the document at hand.
    """

    def __init__(
        self,
        dsn: str,
        *,
        scope: str = "doc_id",
        schema: str = "public",
        connections: int = 8,
        durability: Durability = "full",
        timeout_s: float = 10.0,
        runtime: Runtime | None = None,
    ) -> None:
        self._dsn, self._scope, self._schema = dsn, scope, schema
        self._timeout_s = timeout_s
        self._random = (runtime or Runtime()).random
        self._settings = {**_SETTINGS, "search_path": f'pg_temp, "{schema}"'}
        if durability == "relaxed":
            self._settings["synchronous_commit"] = "off"
        self._declared: dict[str, DeclaredTable] = {}
        #: Made by the first connection; `_setting_up` is held meanwhile.
        self._tables: dict[str, TableText] | None = None
        self._setting_up = threading.Lock()
        self._pool: Final = WorkerPool(self._worker, connections)
        self._queues: dict[str, _Queue] = {}
        #: Where the documents stood that this process has written to: `(epoch, rev)`.
        self._known: dict[str, tuple[str, int]] = {}

    def declare(self, collections: Collections) -> None:
        """The tables of each document."""
        self._declared = dict(collections.tables)

    def begin(self, doc_id: str, work: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """Run a function in a transaction that writes."""
        epoch = random_id(self._random, 16)
        return self._enqueue(doc_id, partial(self._write, doc_id, epoch, work))

    async def read(self, doc_id: str, work: Callable[[Transaction], T]) -> T:
        """Run a function that writes nothing."""
        is_there, result = await self._pool.run(partial(self._read, doc_id, work))
        if is_there:
            assert result, "it was run"
            return result[0]
        return await self.begin(doc_id, work)

    async def has_unnumbered(self, doc_ids: Iterable[str]) -> list[str]:
        """Documents that another program or process has written to, or deleted."""
        asked = [(doc_id, *self._known.get(doc_id, (None, None))) for doc_id in doc_ids]
        self._known = {doc_id: self._known[doc_id] for doc_id, _, rev in asked if rev is not None}
        columns = [list(column) for column in zip(*asked, strict=True)]
        if not columns:
            return []
        rows = await self._pool.run(partial(self._fetch, _MOVED, *columns, list(self._declared)))
        return [row["doc_id"] for row in rows]

    async def list_docs(self) -> list[str]:
        """All documents, also those that other programs have written rows of."""
        rows = await self._pool.run(partial(self._fetch, _LIST))
        return [row["doc_id"] for row in rows]

    async def deleted(self, doc_id: str) -> Deleted | None:
        """The record of a deletion."""
        query = (
            "SELECT deleted_at, last_rev, client_id FROM patches_rows.docs "
            "WHERE doc_id = $1 AND deleted_at IS NOT NULL"
        )
        rows = await self._pool.run(partial(self._fetch, query, doc_id))
        if not rows:
            return None
        deleted_at, last_rev, client_id = rows[0]
        return Deleted(
            deleted_at=deleted_at,
            last_rev=last_rev,
            client_id=None if client_id is None else client_id.decode("utf-8", "surrogatepass"),
        )

    async def delete(self, doc_id: str, tombstone: Deleted | None) -> None:
        """Remove a document's rows and records."""
        await self._enqueue(doc_id, partial(self._delete, doc_id, tombstone))
        self._known.pop(doc_id, None)

    async def undelete(self, doc_id: str) -> bool:
        """Remove the record of a deletion."""
        query = (
            "DELETE FROM patches_rows.docs WHERE doc_id = $1 AND deleted_at IS NOT NULL RETURNING 1"
        )
        return bool(await self._enqueue(doc_id, partial(self._fetch, query, doc_id)))

    async def close(self) -> None:
        """Finish what was begun, and close all connections."""
        while self._queues:
            futures = [each for queue in self._queues.values() for _, each in queue.waiting]
            await asyncio.wait(futures)
            await asyncio.sleep(0)
        await self._pool.close()

    # ---- one after the other ---------------------------------------------------------------------

    def _enqueue(self, doc_id: str, work: Callable[[Worker], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(doc_id, _Queue())
        queue.waiting.append((work, future))
        if len(queue.waiting) == 1:
            self._start(doc_id, queue)
        return future

    def _start(self, doc_id: str, queue: _Queue) -> None:
        work, _ = queue.waiting[0]
        self._pool.run(work).add_done_callback(partial(self._ended, doc_id, queue))

    def _ended(self, doc_id: str, queue: _Queue, done: asyncio.Future[Any]) -> None:
        _, future = queue.waiting.popleft()
        error = done.exception()
        if not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(done.result())
        if queue.waiting:
            self._start(doc_id, queue)
        else:
            self._queues.pop(doc_id, None)

    # ---- in the thread of a worker ---------------------------------------------------------------

    def _worker(self) -> Worker:
        return Worker(self._dsn, self._settings, self._prepare, self._timeout_s)

    async def _prepare(self, conn: asyncpg.Connection) -> None:
        """See that the tables are there, and make the views of a new connection."""
        with self._setting_up:  # the others need what it makes, and each has a thread
            if self._tables is None:
                found = await set_up(
                    conn, self._declared.values(), schema=self._schema, scope=self._scope
                )
                self._tables = {name: TableText(base) for name, base in found.items()}
        await check_identity(conn)
        await self._make_views(conn)

    async def _make_views(self, conn: asyncpg.Connection) -> None:
        for base in self._bases():
            await conn.execute(view_of(base))

    def _bases(self) -> list[BaseTable]:
        return [text.base for text in (self._tables or {}).values()]

    def _write(
        self, doc_id: str, epoch: str, work: Callable[[Transaction], T], worker: Worker
    ) -> T:
        with self._transaction(worker) as conn:
            tx = self._locked(worker, conn, doc_id, epoch)
            result = work(tx)
            if tx.is_broken():
                raise StorageError("a statement failed, and PostgreSQL undoes the transaction")
        self._known[doc_id] = (tx.epoch, tx.rev)
        return result

    def _read(
        self, doc_id: str, work: Callable[[Transaction], T], worker: Worker
    ) -> tuple[bool, list[T]]:
        with self._transaction(worker, "ISOLATION LEVEL REPEATABLE READ READ ONLY") as conn:
            with self._statements(worker):
                head = worker.wait_for(conn.fetchrow(_HEAD, doc_id))
            if head["rev"] is None:
                return False, []
            if head["views"] < len(self._declared):
                return False, []  # a transaction that writes can make them
            return True, [work(self._opened(worker, conn, doc_id, head))]

    def _delete(self, doc_id: str, tombstone: Deleted | None, worker: Worker) -> None:
        with self._transaction(worker) as conn, self._statements(worker):
            worker.wait_for(remove_rows(conn, doc_id, self._bases(), tombstone))

    def _fetch(self, query: str, *params: Any) -> list[Any]:
        *params_only, worker = params
        with self._statements(worker) as conn:
            rows: list[Any] = worker.wait_for(conn.fetch(query, *params_only))
            return rows

    def _locked(
        self, worker: Worker, conn: asyncpg.Connection, doc_id: str, epoch: str
    ) -> PostgresTransaction:
        """The document, with its row locked until the end: whoever comes later waits."""
        with self._statements(worker):
            if not worker.wait_for(conn.fetch(_LOCK, doc_id)):
                worker.wait_for(conn.execute(_CREATE, doc_id, epoch))
                worker.wait_for(conn.fetch(_LOCK, doc_id))
            # A statement of its own: it sees what those have committed that were waited for.
            head = worker.wait_for(conn.fetchrow(_HEAD, doc_id))
            if head["views"] < len(self._declared):
                worker.wait_for(self._make_views(conn))
        return self._opened(worker, conn, doc_id, head)

    def _opened(
        self, worker: Worker, conn: asyncpg.Connection, doc_id: str, head: Any
    ) -> PostgresTransaction:
        if head["deleted_at"] is not None:
            raise DocDeletedError(doc_id, deleted_at=head["deleted_at"], last_rev=head["last_rev"])
        if head["rev"] is None:
            raise StorageError(f"document {doc_id!r} was deleted just now")
        assert self._tables is not None, "the connection is prepared"
        return PostgresTransaction(
            worker, conn, doc_id, self._tables, (head["rev"], head["floor"], head["epoch"])
        )

    @contextmanager
    def _transaction(self, worker: Worker, kind: str = "") -> Iterator[asyncpg.Connection]:
        """A transaction: committed at the end, undone by an error. Raises `StorageError`.

        Nobody knows whether it took effect if the connection is lost at its end: then it is an
        error, and the change, sent again under its id, is found.
        """
        conn = self._begun(worker, f"BEGIN {kind}")
        try:
            yield conn
        except BaseException:
            if conn.is_closed():
                worker.drop()
            else:
                with self._statements(worker):
                    worker.wait_for(conn.execute("ROLLBACK"))
            raise
        with self._statements(worker):
            worker.wait_for(conn.execute("COMMIT"))

    def _begun(self, worker: Worker, statement: str) -> asyncpg.Connection:
        """Begin on a connection that works: the server may have closed an idle one."""
        for is_last in (False, True):
            conn = worker.connection()
            try:
                worker.wait_for(conn.execute(statement))
            except DRIVER_ERRORS as exc:
                worker.drop()
                if is_last:
                    raise as_storage_error(exc) from exc
            else:
                return conn
        raise AssertionError("one of the two has returned or raised")

    @contextmanager
    def _statements(self, worker: Worker) -> Iterator[asyncpg.Connection]:
        """Errors of the driver become `StorageError`; a connection that was lost is not kept."""
        try:
            yield worker.connection()
        except DRIVER_ERRORS as exc:
            if ends_connections(exc):
                worker.drop()
            raise as_storage_error(exc) from exc

"""`SqliteDatabase`: one SQLite file, one writer at a time, what waits is one transaction.

Each write is a function of the connection, run inside a savepoint of the group's transaction: all
of it happens or none of it, and the writes that wait while a group commits make up the next group.
A write has returned only after its group is on disk (`docs/internals/reliability.md` 1.2). Reads
have connections of their own, which see what was committed and never wait for the writer. Nothing
is opened before the first use. A file that is not of the expected kind is refused unchanged.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import groupby
from typing import Any, Final, Literal, TypeAlias, TypeVar

from patches.errors import CorruptDataError, PatchesError, StorageError, StorageFullError
from patches.model.settings import check_one_of
from patches.runtime import Runtime
from patches.stores.sqlite.file_kind import (
    FileKind,
    Schema,
    build,
    check_head,
    claim,
    make_private,
)
from patches.stores.sqlite.writes import A, Together, Write, kind_of, resolve

T = TypeVar("T")

Durability: TypeAlias = Literal["full", "relaxed"]

_SYNCHRONOUS: Final[dict[Durability, str]] = {"full": "FULL", "relaxed": "NORMAL"}
_MAX_GROUP: Final = 128
#: Readers that are kept open; more are opened when more read at once.
_MAX_IDLE_READERS: Final = 4
#: While somebody else opens a new file; as long as SQLite waits for a lock.
_OPEN_ATTEMPTS: Final = 100
_OPEN_PAUSE_S: Final = 0.05


class SqliteDatabase:
    """One file, shared by the stores that live in it. They add their tables with `add_schema`.

    `durability="relaxed"` survives a crash of the process and may lose the newest commits when the
    machine loses power. A `:memory:` path keeps all in memory. Functions given to `read` and
    `write` run in another thread: they may touch nothing but the connection and their own values.
    `kind` says what the file has to be: the first use raises `WrongFileError` for another one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        runtime: Runtime | None = None,
        kind: FileKind | None = None,
    ) -> None:
        self.path: str = os.fspath(path)
        self._kind = kind
        check_one_of("durability", durability, _SYNCHRONOUS)
        self._durability: Durability = durability
        self._runtime = runtime or Runtime()
        self._schemas: list[str | Schema] = []
        self._built = 0  # how many of them are in the file
        self._writer: sqlite3.Connection | None = None
        self._writing = threading.Lock()  # the writer is used by one thread at a time
        self._rollbacks = 0
        self._idle_readers: list[sqlite3.Connection] = []
        self._readers = threading.Condition()  # guards the idle ones, and how many are in use
        self._reading = 0
        self._waiting: list[Write] = []
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    def add_schema(self, schema: str | Schema) -> None:
        """Add the tables of a part, or `CREATE TABLE IF NOT EXISTS ...` statements.

        They are made before the next use. The same ones again change nothing.
        """
        if schema not in self._schemas:
            self._schemas.append(schema)

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query function and return its result; it cannot write. Raises `StorageError`.

        All its queries see the file as it was at the first, also while another process writes.
        """
        return await self._runtime.run_blocking(lambda: self._read(fn))

    async def write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in a transaction; when it raises, nothing it did remains.

        Returns its result once the transaction is on disk. Raises what `fn` raises, or
        `StorageError`.
        """
        # A caller that is cancelled does not take its write back: it may be in the group on its way
        # to disk.
        return await asyncio.shield(self.begin_write(fn))

    def begin_write(self, fn: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """`write` without waiting: the future is done once the transaction is on disk.

        Writes take effect in the order in which they were begun.
        """
        return self._enqueue(Write(fn, asyncio.get_running_loop().create_future()))

    def begin_together(self, fn: Together[A, T], item: A) -> asyncio.Future[T]:
        """`begin_write` of one item. Items that wait side by side are given to `fn` in one call.

        `fn` has to be equal from call to call, as a method of one object is. When it raises, none
        of its items are written.
        """
        loop = asyncio.get_running_loop()
        return self._enqueue(Write(fn, loop.create_future(), item, is_together=True))

    def foreign_changes(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """A mark for what a writer remembers of the file from one write to the next.

        Another one means that it may be wrong: another connection has written, or a write of this
        one was rolled back. Call it within a write.
        """
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        return version, self._rollbacks

    def _enqueue(self, write: Write) -> asyncio.Future[Any]:
        if self._closed:
            raise StorageError(f"{self.path} is closed")
        self._waiting.append(write)
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(
                self._write_groups(), name=f"writer of {self.path}"
            )
        return write.done

    async def close(self) -> None:
        """Finish the writes that wait, then close the file."""
        self._closed = True
        if self._pump is not None:
            await asyncio.wait([self._pump])
        await self._runtime.run_blocking(self._close_connections)

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the database as it is now to another file, while it is read and written.

        An existing database there is replaced. Raises `StorageError`.
        """
        await self._runtime.run_blocking(partial(self._backup, os.fspath(path)))

    async def _write_groups(self) -> None:
        """Write group after group until nothing waits; `write` starts it and `close` awaits it."""
        try:
            while self._waiting:
                group = self._waiting[:_MAX_GROUP]
                del self._waiting[: len(group)]
                try:
                    await self._runtime.run_blocking(partial(self._commit, group))
                finally:
                    for write in group:
                        resolve(write, self.path)
        finally:
            self._pump = None
            for write in self._waiting:  # only when this task itself was cancelled
                resolve(write, self.path)
            self._waiting.clear()

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with self._reader() as connection, _one_view(connection):
                return fn(connection)
        except sqlite3.Error as exc:
            raise _storage_error(self.path, exc) from exc
        except UnicodeDecodeError as exc:  # bytes that no version of us has written
            raise CorruptDataError(f"{self.path}: {exc}") from exc

    def _backup(self, path: str) -> None:
        make_private(path)
        try:
            with self._reader() as connection, closing(sqlite3.connect(path)) as copy:
                connection.backup(copy)
        except sqlite3.Error as exc:
            raise _storage_error(path, exc) from exc

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection for one read."""
        if self.path == ":memory:":  # such a database is its one connection's
            with self._writing:
                yield self._opened()
            return
        with self._readers:
            self._check_open()
            self._reading += 1
            connection = self._idle_readers.pop() if self._idle_readers else None
        try:
            if self._writer is None or self._built < len(self._schemas):
                with self._writing:
                    self._opened()  # makes the file and its tables
            if connection is None:
                connection = self._open_reader()
            yield connection
        except BaseException:
            # Whoever keeps the error keeps a query that has not ended, and with it this connection
            # at the moment of the file that the query saw.
            if connection is not None:
                connection.close()
                connection = None
            raise
        finally:
            self._done_reading(connection)

    def _open_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only=ON")
        return connection

    def _done_reading(self, connection: sqlite3.Connection | None) -> None:
        with self._readers:
            self._reading -= 1
            self._readers.notify_all()
            if connection is None:  # it could not be opened
                return
            room = len(self._idle_readers) < _MAX_IDLE_READERS
            if room and not self._closed and not connection.in_transaction:
                self._idle_readers.append(connection)
            else:
                connection.close()

    def _close_connections(self) -> None:
        with self._readers:
            self._readers.wait_for(lambda: not self._reading)
            idle, self._idle_readers = self._idle_readers, []
        for connection in idle:
            connection.close()
        with self._writing:
            if self._writer is not None:  # the last: it empties the log into the file
                self._writer.close()
                self._writer = None

    def _commit(self, group: list[Write]) -> None:
        with self._writing:
            try:
                connection = self._opened()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    for _, writes in groupby(group, key=kind_of):
                        self._run_in_savepoint(connection, list(writes))
                    connection.execute("COMMIT")
                    for write in group:
                        write.ran = True
                except BaseException:
                    self._rollbacks += 1
                    if connection.in_transaction:  # a full disk has rolled back by itself
                        connection.execute("ROLLBACK")
                    raise
            except Exception as exc:  # whatever it was, the group is not on disk
                error = _storage_error(self.path, exc) if isinstance(exc, sqlite3.Error) else exc
                for write in group:
                    write.error = write.error or error

    def _run_in_savepoint(self, connection: sqlite3.Connection, writes: list[Write]) -> None:
        first = writes[0]
        connection.execute("SAVEPOINT one_write")
        try:
            if first.is_together:
                for write, result in zip(
                    writes, first.fn(connection, [each.item for each in writes]), strict=True
                ):
                    if isinstance(result, Exception):
                        write.error = result
                    else:
                        write.result = result
            else:
                first.result = first.fn(connection)
        except Exception as exc:  # these alone fail, unless SQLite has given up the transaction
            if not connection.in_transaction:
                raise
            self._rollbacks += 1
            connection.execute("ROLLBACK TO one_write")
            error = _storage_error(self.path, exc) if isinstance(exc, sqlite3.Error) else exc
            for write in writes:
                write.error = error
        connection.execute("RELEASE one_write")

    def _opened(self) -> sqlite3.Connection:
        if self._writer is None:
            self._check_open()
            if self.path != ":memory:":
                if self._kind is not None:
                    check_head(self.path, self._kind)
                make_private(self.path)
            connection = self._connect()
            try:
                if self._kind is not None:
                    claim(connection, self.path, self._kind)
                _log_ahead(connection)
                self._build(connection)
            except BaseException:
                connection.close()
                raise
            self._writer = connection
        elif self._built < len(self._schemas):
            self._build(self._writer)
        return self._writer

    def _build(self, connection: sqlite3.Connection) -> None:
        schemas = list(self._schemas)
        for script in schemas:
            if isinstance(script, str):
                connection.executescript(script)
        build(connection, self.path, [s for s in schemas if isinstance(s, Schema)])
        self._built = len(schemas)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        settings = {
            "busy_timeout": "5000",
            "synchronous": _SYNCHRONOUS[self._durability],
            "foreign_keys": "ON",
            "wal_autocheckpoint": "1000",
        }
        if sys.platform == "darwin":  # there, fsync alone leaves data in the drive
            settings |= {"fullfsync": "ON", "checkpoint_fullfsync": "ON"}
        try:
            for name, value in settings.items():
                connection.execute(f"PRAGMA {name}={value}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"{self.path} is closed")


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Set the journal mode. While somebody else does so with a new file, SQLite says that it is
    locked at once: its own waiting does not cover this.
    """
    pause = threading.Event()
    for attempt in range(1, _OPEN_ATTEMPTS + 1):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or attempt == _OPEN_ATTEMPTS:
                raise
        pause.wait(_OPEN_PAUSE_S)


@contextmanager
def _one_view(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # else SQLite has given it up
            connection.execute("ROLLBACK")


def _storage_error(path: str, exc: sqlite3.Error) -> PatchesError:
    code = getattr(exc, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFullError(f"{path}: {exc}")
    if code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptDataError(f"{path}: {exc}")
    return StorageError(f"{path}: {exc}")

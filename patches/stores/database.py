"""`SqliteDatabase`: one SQLite file, one writer at a time, what waits is one transaction.

Each write is a function of the connection, run inside a savepoint of the group's transaction: all
of it happens or none of it, and the writes that wait while a group commits make up the next group.
A write has returned only after its group is on disk (`spec/reliability.md` 1.2). Nothing is opened
before the first use.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar

from patches.errors import CorruptDataError, PatchesError, StorageError, StorageFullError
from patches.runtime import Runtime

T = TypeVar("T")

Durability: TypeAlias = Literal["full", "relaxed"]

_SYNCHRONOUS: Final[dict[Durability, str]] = {"full": "FULL", "relaxed": "NORMAL"}
_MAX_GROUP: Final = 64


@dataclass(slots=True)
class _Write:
    fn: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    ran: bool = False  # its group's transaction is on disk


class SqliteDatabase:
    """One file, shared by the stores that live in it. They add their tables with `add_schema`.

    `durability="relaxed"` survives a crash of the process and may lose the newest commits when the
    machine loses power. A `:memory:` path keeps all in memory. Functions given to `read` and
    `write` run in another thread: they may touch nothing but the connection and their own values.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "full",
        runtime: Runtime | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self._durability: Durability = durability
        self._runtime = runtime or Runtime()
        self._schemas: list[str] = []
        self._connection: sqlite3.Connection | None = None
        self._in_use = threading.Lock()  # the one connection is used by one thread at a time
        self._waiting: list[_Write] = []
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    def add_schema(self, script: str) -> None:
        """Add `CREATE TABLE IF NOT EXISTS ...` statements, run when the file is opened."""
        self._schemas.append(script)

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query function and return its result. Raises `StorageError`."""
        return await self._runtime.run_blocking(lambda: self._read(fn))

    async def write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function in a transaction; when it raises, nothing it did remains.

        Returns its result once the transaction is on disk. Raises what `fn` raises, or
        `StorageError`.
        """
        if self._closed:
            raise StorageError(f"{self.path} is closed")
        write = _Write(fn, asyncio.get_running_loop().create_future())
        self._waiting.append(write)
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(
                self._write_groups(), name=f"writer of {self.path}"
            )
        # A caller that is cancelled does not take its write back: it may be in the group on its way
        # to disk.
        result: T = await asyncio.shield(write.done)
        return result

    async def close(self) -> None:
        """Finish the writes that wait, then close the file."""
        self._closed = True
        if self._pump is not None:
            await asyncio.wait([self._pump])
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._runtime.run_blocking(connection.close)

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
                        _settle(write, self.path)
        finally:
            self._pump = None
            for write in self._waiting:  # only when this task itself was cancelled
                _settle(write, self.path)
            self._waiting.clear()

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        with self._in_use:
            try:
                return fn(self._opened())
            except sqlite3.Error as exc:
                raise _storage_error(self.path, exc) from exc

    def _commit(self, group: list[_Write]) -> None:
        with self._in_use:
            try:
                connection = self._opened()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    for write in group:
                        _run_in_savepoint(self.path, connection, write)
                    connection.execute("COMMIT")
                    for write in group:
                        write.ran = True
                except BaseException:
                    if connection.in_transaction:  # a full disk has rolled back by itself
                        connection.execute("ROLLBACK")
                    raise
            except Exception as exc:  # whatever it was, the group is not on disk
                error = _storage_error(self.path, exc) if isinstance(exc, sqlite3.Error) else exc
                for write in group:
                    write.error = write.error or error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise StorageError(f"{self.path} is closed")
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA busy_timeout=5000")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA synchronous={_SYNCHRONOUS[self._durability]}")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA wal_autocheckpoint=1000")
            if sys.platform == "darwin":
                connection.execute("PRAGMA fullfsync=ON")
                connection.execute("PRAGMA checkpoint_fullfsync=ON")
            for script in self._schemas:
                connection.executescript(script)
        except BaseException:
            connection.close()
            raise
        return connection


def _run_in_savepoint(path: str, connection: sqlite3.Connection, write: _Write) -> None:
    connection.execute("SAVEPOINT one_write")
    try:
        write.result = write.fn(connection)
    except Exception as exc:  # this write alone fails, unless SQLite has given up the transaction
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO one_write")
        write.error = _storage_error(path, exc) if isinstance(exc, sqlite3.Error) else exc
    connection.execute("RELEASE one_write")


def _settle(write: _Write, path: str) -> None:
    if write.done.done():
        return
    if write.error is None and not write.ran:
        write.error = StorageError(f"{path}: the write was not carried out")
    if write.error is not None:
        write.done.set_exception(write.error)
        write.done.exception()  # a caller that was cancelled will not fetch it
    else:
        write.done.set_result(write.result)


def _storage_error(path: str, exc: sqlite3.Error) -> PatchesError:
    code = getattr(exc, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        return StorageFullError(f"{path}: {exc}")
    if code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptDataError(f"{path}: {exc}")
    return StorageError(f"{path}: {exc}")

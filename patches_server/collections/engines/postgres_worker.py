"""`Worker`: one connection to PostgreSQL in a thread of its own, used by functions that wait.

The functions of an application are plain functions. So each connection lives on an event loop of
its thread, and a statement runs that loop until it is answered.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import asyncpg

from patches.errors import PatchesError, StorageError
from patches.model import codec
from patches_server.stores.postgres.errors import as_storage_error, refuses_for_good

T = TypeVar("T")

#: What the driver raises. Its own slips count as a broken connection: a killed server causes them.
DRIVER_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_CONNECT_S: Final = 5.0
_LAST_DELAY_S: Final = 1.0
_log = logging.getLogger("patches_server.collections.postgres")


class Worker:
    """Owned by a `WorkerPool`. All but the constructor and `executor` belongs to its thread."""

    def __init__(
        self,
        dsn: str,
        settings: dict[str, str],
        prepare: Callable[[asyncpg.Connection], Awaitable[None]],
        timeout_s: float,
    ) -> None:
        self._dsn, self._settings, self._prepare = dsn, settings, prepare
        self._timeout_s = timeout_s
        self.executor: ThreadPoolExecutor = ThreadPoolExecutor(1, "patches-postgres")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._conn: asyncpg.Connection | None = None

    def wait_for(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a call of the driver to its end."""
        return self._own_loop().run_until_complete(call)

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return self._own_loop().time()

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop

    def connection(self) -> asyncpg.Connection:
        """The connection; a new one if there is none. Raises `StorageError`."""
        if self._conn is not None and not self._conn.is_closed():
            return self._conn
        self._conn = None
        deadline, delay_s = self.now() + self._timeout_s, 0.1
        while True:
            try:
                self._conn = self.wait_for(self._connect())
                return self._conn
            except PatchesError:
                raise
            except DRIVER_ERRORS as exc:
                if refuses_for_good(exc) or self.now() + delay_s > deadline:
                    raise as_storage_error(exc) from exc
            self.wait_for(asyncio.sleep(delay_s))
            delay_s = min(_LAST_DELAY_S, delay_s * 1.5)

    def drop(self) -> None:
        """Use the connection no more."""
        conn, self._conn = self._conn, None
        if conn is not None and not conn.is_closed():
            conn.terminate()
            self.wait_for(asyncio.sleep(0))  # so that its transport is closed

    def close(self) -> None:
        """Close the connection and the loop."""
        conn, self._conn = self._conn, None
        if conn is not None and not conn.is_closed():
            try:
                self.wait_for(conn.close(timeout=2.0))
            except DRIVER_ERRORS as exc:
                _log.debug("closing a connection failed: %r", exc)
        if self._loop is not None:
            self.wait_for(asyncio.sleep(0))
            self._loop.close()
            self._loop = None

    async def _connect(self) -> asyncpg.Connection:
        conn = await asyncpg.connect(self._dsn, server_settings=self._settings, timeout=_CONNECT_S)
        try:
            for name in ("json", "jsonb"):
                await conn.set_type_codec(
                    name, schema="pg_catalog", encoder=codec.encode_text, decoder=codec.decode
                )
            await conn.set_type_codec("uuid", schema="pg_catalog", encoder=str, decoder=str)
            await self._prepare(conn)
        except BaseException:
            conn.terminate()
            raise
        return conn


class WorkerPool:
    """The connections of one process. Functions wait until one of them is free, in order."""

    def __init__(self, make: Callable[[], Worker], size: int) -> None:
        self._make, self._size = make, size
        self._all: list[Worker] = []
        self._free: list[Worker] = []
        self._waiting: deque[Callable[[Worker], None]] = deque()
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = False

    def run(self, work: Callable[[Worker], T]) -> asyncio.Future[T]:
        """Run a function with one of the connections."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self._closed:
            future.set_exception(StorageError("the connections to PostgreSQL are closed"))
            return future

        def start(worker: Worker) -> None:
            running = loop.run_in_executor(worker.executor, work, worker)
            self._running.add(running)
            running.add_done_callback(lambda done: self._done(worker, done, future))

        if self._free:
            start(self._free.pop())
        elif len(self._all) < self._size:
            worker = self._make()
            self._all.append(worker)
            start(worker)
        else:
            self._waiting.append(start)
        return future

    def _done(self, worker: Worker, running: asyncio.Future[T], future: asyncio.Future[T]) -> None:
        self._running.discard(running)
        if self._waiting:
            self._waiting.popleft()(worker)
        else:
            self._free.append(worker)
        error = running.exception()
        if future.done():
            return  # nobody waits for it any more
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(running.result())

    async def close(self) -> None:
        """Finish what was begun, and close all connections."""
        self._closed = True
        while self._running:
            await asyncio.wait(self._running)
        loop = asyncio.get_running_loop()
        for worker in self._all:
            await loop.run_in_executor(worker.executor, worker.close)
            worker.executor.shutdown(wait=False)
        self._all, self._free = [], []

"""`PostgresDatabase`: the connections of one server process, and what is done when one fails.

Reads are repeated until they succeed or time is up. A write whose connection was cut may have taken
effect: `write` raises `StorageError` then, and whoever can run it again without doing it
twice does (`PostgresDatabase.save`). Nothing of unknown outcome is acknowledged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import asyncpg

from patches.errors import PatchesError, StorageError
from patches.runtime import Runtime
from patches.stores.sqlite.database import Durability
from patches_server.stores.postgres.errors import (
    Outcome,
    as_storage_error,
    ends_connections,
    outcome_of,
    refuses_for_good,
)
from patches_server.stores.postgres.identity import settle_epoch
from patches_server.stores.postgres.migrations import is_empty, migrate_on, require_usable

T = TypeVar("T")

#: A row: its columns by name or by place.
Record: TypeAlias = Any

#: How long a caller waits for a database that is away.
STORE_TIMEOUT_S: Final = 10.0
_RETRIES: Final = 3
_FIRST_DELAY_S: Final = 0.1
_LAST_DELAY_S: Final = 1.0
_SETTINGS: Final = {
    "application_name": "patches-server",
    "search_path": "patches",
    "jit": "off",
    # Planning each call would cost as much as running it.
    "plan_cache_mode": "force_generic_plan",
    "lock_timeout": "3000",
    "idle_in_transaction_session_timeout": "10000",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "10",
}

#: The driver's own slips count as a broken connection: a server that is killed causes them.
_DRIVER_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

_log = logging.getLogger("patches_server.stores.postgres")


class Connection(Protocol):
    """What is used of a connection of asyncpg."""

    async def fetch(self, query: str, *args: object) -> list[Record]: ...
    async def fetchrow(self, query: str, *args: object) -> Record | None: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
    async def execute(self, query: str, *args: object) -> str: ...
    def transaction(self) -> AbstractAsyncContextManager[object]: ...


Do: TypeAlias = Callable[[Connection], Awaitable[T]]


class PostgresDatabase:
    """The pools of one process: `writers` connections that save, `readers` for all else.

    Opened on first use. A database without tables gets them then; one that a newer version is
    needed for, or that has to be migrated, is an error that says so.
    """

    def __init__(
        self,
        dsn: str,
        *,
        writers: int = 4,
        readers: int = 8,
        durability: Durability = "full",
        timeout_s: float = STORE_TIMEOUT_S,
        may_migrate: bool = False,
        runtime: Runtime | None = None,
    ) -> None:
        self.dsn = dsn
        self.writers = writers
        self.timeout_s = timeout_s
        self.unknown_outcomes = 0
        self._readers = readers
        self._settings = dict(_SETTINGS)
        if durability == "relaxed":
            self._settings["synchronous_commit"] = "off"
        self._may_migrate = may_migrate
        self._random = (runtime or Runtime()).random
        self._opening = asyncio.Lock()
        self._pools: tuple[asyncpg.Pool, asyncpg.Pool] | None = None
        self._closed = False

    async def read(self, do: Do[T]) -> T:
        """Run statements that change nothing. They may run more than once."""
        return await self._run(do, is_writer=False, is_repeated=True)

    async def write(self, do: Do[T]) -> T:
        """Run one transaction on a reader's connection: the writers are for commits.

        Raises `StorageError` also if nobody knows whether it took effect.
        """

        async def transaction(conn: Connection) -> T:
            async with conn.transaction():
                return await do(conn)

        return await self._run(transaction, is_writer=False, is_repeated=False)

    async def save(self, do: Callable[[Connection, bool], Awaitable[T]]) -> T:
        """Run a conditional statement until its outcome is known.

        `do(conn, may_have_run)`: whether it may have taken effect already. Of two runs of such a
        statement, one takes effect.
        """
        may_have_run = False

        async def run(conn: Connection) -> T:
            nonlocal may_have_run
            try:
                return await do(conn, may_have_run)
            except Exception as exc:
                if not isinstance(exc, PatchesError) and outcome_of(exc) is Outcome.UNKNOWN:
                    may_have_run = True
                    self.unknown_outcomes += 1
                raise

        return await self._run(run, is_writer=True, is_repeated=True)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[BoundDatabase]:
        """One transaction for whatever is done with what it gives.

        Raises `StorageError`, also if nobody knows whether it took effect.
        """
        try:
            _, readers = await self._opened()
            async with readers.acquire(timeout=self.timeout_s) as conn, conn.transaction():
                yield BoundDatabase(conn)
        except _DRIVER_ERRORS as exc:
            raise as_storage_error(exc) from exc

    async def connect(self) -> asyncpg.Connection:
        """A connection of its own, beside the pools. Whoever asked for it closes it."""
        return await asyncpg.connect(self.dsn, server_settings=self._settings, timeout=5.0)

    async def close(self) -> None:
        """Close all connections; none is opened any more."""
        self._closed = True
        pools, self._pools = self._pools, None
        for pool in pools or ():
            try:
                await asyncio.wait_for(pool.close(), 5.0)
            except TimeoutError:
                pool.terminate()

    async def _run(self, do: Do[T], *, is_writer: bool, is_repeated: bool) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout_s
        delay_s, conflicts = _FIRST_DELAY_S, 0
        while True:
            is_running = False
            try:
                writers, readers = await self._opened()
                pool = writers if is_writer else readers
                async with pool.acquire(timeout=max(0.1, deadline - loop.time())) as conn:
                    is_running = True
                    try:
                        return await do(conn)
                    except _DRIVER_ERRORS as exc:
                        if ends_connections(exc):
                            conn.terminate()  # nobody knows what state it is in
                        raise
            except PatchesError:
                raise
            except _DRIVER_ERRORS as exc:
                outcome = outcome_of(exc) if is_running else _outcome_of_connecting(exc)
                if outcome in (Outcome.DISCONNECTED, Outcome.UNKNOWN) and ends_connections(exc):
                    await self._expire(exc)
                if outcome is Outcome.NOTHING_YET:
                    conflicts += 1
                    if conflicts > _RETRIES:
                        raise as_storage_error(exc) from exc
                    await asyncio.sleep(self._random.uniform(0.01, 0.05))
                    continue
                is_over = loop.time() + delay_s > deadline or self._closed
                if outcome is Outcome.UNKNOWN and (is_over or not is_repeated):
                    raise _unknown(exc) from exc
                if is_over or outcome in (Outcome.NOTHING, Outcome.TAKEN):
                    raise as_storage_error(exc) from exc
            await asyncio.sleep(delay_s * self._random.uniform(0.5, 1.0))
            delay_s = min(_LAST_DELAY_S, delay_s * 1.5)

    async def _opened(self) -> tuple[asyncpg.Pool, asyncpg.Pool]:
        if self._pools is None:
            async with self._opening:
                if self._closed:
                    raise StorageError("the connections to PostgreSQL are closed")
                if self._pools is None:
                    conn = await self.connect()
                    try:
                        await self._prepare(conn)
                    finally:
                        await conn.close(timeout=2.0)
                    self._pools = (await self._pool(self.writers), await self._pool(self._readers))
        return self._pools

    async def _prepare(self, conn: asyncpg.Connection) -> None:
        """See that the schema is there and can be used, and that the history is the one it was."""
        if self._may_migrate or await is_empty(conn):
            await migrate_on(conn)
        await require_usable(conn)
        await settle_epoch(conn)

    async def _pool(self, size: int) -> asyncpg.Pool:
        return await asyncpg.create_pool(
            self.dsn,
            min_size=0,
            max_size=size,
            max_inactive_connection_lifetime=300.0,
            timeout=5.0,
            server_settings=self._settings,
            # Nothing is left on a connection, and a reset would be another round trip.
            reset=_nothing_to_reset,
            init=settle_epoch,  # it may be another server than the connection before
        )

    async def _expire(self, exc: BaseException) -> None:
        """The server ends, or has become a standby: use none of the connections again."""
        _log.warning("a connection to PostgreSQL was lost: %s", type(exc).__name__)
        for pool in self._pools or ():
            await pool.expire_connections()


class BoundDatabase:
    """A database as it is inside one transaction: all goes over its connection, once."""

    writers = 1

    def __init__(self, conn: Connection) -> None:
        self.conn = conn

    async def read(self, do: Do[T]) -> T:
        return await do(self.conn)

    async def write(self, do: Do[T]) -> T:
        return await do(self.conn)

    async def save(self, do: Callable[[Connection, bool], Awaitable[T]]) -> T:
        return await do(self.conn, False)


async def _nothing_to_reset(_conn: asyncpg.Connection) -> None:
    return None


def _outcome_of_connecting(exc: BaseException) -> Outcome:
    """Of an error before a statement was sent: nothing was done."""
    return Outcome.NOTHING if refuses_for_good(exc) else Outcome.DISCONNECTED


def _unknown(exc: BaseException) -> StorageError:
    return StorageError(f"PostgreSQL did not say what became of a write ({exc!r:.200})")

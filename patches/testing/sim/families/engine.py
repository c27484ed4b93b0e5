"""`SimEngine`: the databases of one server process, with a disk that is slow, fails and stops.

The files are real SQLite files in a folder that outlives the processes; all of it runs in the
loop's own thread. `BoardLog` notes what each transaction made of a document, and has it when
SQLite has committed, whatever becomes of the process in that moment.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from patches.algorithms.collections.declaration import Collections
from patches.runtime import Millis, Runtime
from patches.testing.sim.disk import SimDisk
from patches.testing.sim.families.board import Tables, read_tables
from patches.testing.sim.loop import Life
from patches_server.collections import SQLiteEngine
from patches_server.collections.engines.engine import Commit, Deleted, Touched, Transaction
from patches_server.collections.engines.sqlite import file_name

T = TypeVar("T")

_BEFORE: Final = "server: before_commit"
_AFTER: Final = "server: after_commit_before_ack"


@dataclass(slots=True)
class BoardLog:
    """What is on the server's disk of one document: tables by revision, and the changes."""

    states: dict[int, Tables] = field(default_factory=dict)
    #: The changes that were carried out, and how often.
    commits: dict[str, int] = field(default_factory=dict)
    rev: int = 0


class SimEngine:
    """See `Engine`. `logs`: what is on the disk, by document."""

    def __init__(
        self, folder: Path, disk: SimDisk, life: Life, runtime: Runtime, logs: dict[str, BoardLog]
    ) -> None:
        self._folder, self._disk, self._life, self._logs = folder, disk, life, logs
        self._uncommitted: list[tuple[str, _Watched]] = []

        async def run_blocking(fn: Callable[[], T], /) -> T:
            await asyncio.sleep(0.0005)
            result = fn()
            self._note()
            return result

        self._inner = SQLiteEngine(
            folder,
            durability="relaxed",  # no power is lost here
            runtime=Runtime(
                wall_ms=runtime.wall_ms, random=runtime.random, run_blocking=run_blocking
            ),
        )

    def abandon(self) -> None:
        """The process is gone: its files are closed as they are."""
        for document in self._inner._open.values():
            document.database._close_connections()
        if self._inner._records is not None:
            self._inner._records._close_connections()

    def declare(self, collections: Collections) -> None:
        self._inner.declare(collections)

    def begin(self, doc_id: str, work: Callable[[Transaction], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._life.spawn(self._write(doc_id, work, future), name="transaction")
        return future

    async def read(self, doc_id: str, work: Callable[[Transaction], T]) -> T:
        await self._disk.before_read(self._life, "read")
        return await self._inner.read(doc_id, work)

    async def has_unnumbered(self, doc_ids: Iterable[str]) -> list[str]:
        return await self._inner.has_unnumbered(doc_ids)

    async def list_docs(self) -> list[str]:
        return await self._inner.list_docs()

    async def deleted(self, doc_id: str) -> Deleted | None:
        return await self._inner.deleted(doc_id)

    async def delete(self, doc_id: str, tombstone: Deleted | None) -> None:
        await self._inner.delete(doc_id, tombstone)

    async def undelete(self, doc_id: str) -> bool:
        return await self._inner.undelete(doc_id)

    async def close(self) -> None:
        await self._inner.close()

    async def _write(
        self, doc_id: str, work: Callable[[Transaction], T], future: asyncio.Future[T]
    ) -> None:
        def watched(tx: Transaction) -> T:
            seen: Any = _Watched(tx)
            result = work(seen)
            self._uncommitted.append((doc_id, seen))  # not reached if it raises: all is undone
            return result

        name = f"transaction of {doc_id}"
        try:
            await self._disk.before_write(self._life, name, _BEFORE)
            result = await self._inner.begin(doc_id, watched)
            await self._disk.after_write(self._life, name, _AFTER)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except Exception as exc:  # whoever began it gets it
            if not future.done():
                future.set_exception(exc)
        else:
            if not future.done():
                future.set_result(result)

    def _note(self) -> None:
        """SQLite has committed what was written."""
        done, self._uncommitted = self._uncommitted, []
        for doc_id, seen in done:
            log = self._logs.setdefault(doc_id, BoardLog())
            log.states |= {rev: tables for rev, tables in seen.states.items() if rev <= seen.rev}
            for change_id in seen.done:
                log.commits[change_id] = log.commits.get(change_id, 0) + 1
            log.rev = max(log.rev, seen.rev)


class _Watched:
    """A transaction that notes the tables at each of its revisions, and the changes."""

    def __init__(self, inner: Transaction) -> None:
        self._inner: Any = inner
        self.states: dict[int, Tables] = {}
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def attempt(self, work: Callable[[], T]) -> T:
        before = len(self.done)
        try:
            result: T = self._inner.attempt(work)
        except BaseException:
            del self.done[before:]
            raise
        return result

    def number(self, now: Millis) -> Touched:
        before = self._inner.rev
        touched: Touched = self._inner.number(now)
        if self._inner.rev != before:
            self.states[self._inner.rev] = read_tables(self._inner.sql)
        return touched

    def next_rev(self) -> int:
        rev: int = self._inner.next_rev()
        self.states[rev] = read_tables(self._inner.sql)
        return rev

    def put_commit(self, commit: Commit, now: Millis) -> None:
        self._inner.put_commit(commit, now)
        self.done.append(commit.change_id)


class ForeignProgram:
    """Another program that reads and writes the files of the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, doc_id: str, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> bool:
        """Run statements in one transaction; whether the file was there."""
        path = self._folder / file_name(doc_id)
        if not path.exists():
            return False
        with closing(sqlite3.connect(path)) as conn, conn:
            for statement, params in statements:
                conn.execute(statement, params)
        return True

    def read(self, doc_id: str) -> Tables:
        """All rows."""
        with closing(self._opened(doc_id)) as conn:
            return read_tables(lambda query: [dict(row) for row in conn.execute(query)])

    def has_unnumbered(self, doc_id: str) -> bool:
        """Whether something was written that has no revision yet."""
        with closing(self._opened(doc_id)) as conn:
            query = "SELECT 1 FROM _patches_log WHERE rev IS NULL LIMIT 1"
            return conn.execute(query).fetchone() is not None

    def _opened(self, doc_id: str) -> sqlite3.Connection:
        conn = sqlite3.connect(self._folder / file_name(doc_id))
        conn.row_factory = sqlite3.Row
        return conn

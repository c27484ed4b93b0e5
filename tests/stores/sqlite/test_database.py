"""One SQLite file: group commit, writes that fail alone, cancellation, faults."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from patches.errors import CorruptDataError, PatchesError, StorageError, StorageFullError
from patches.runtime import Runtime
from patches.stores.sqlite.database import SqliteDatabase

SCHEMA = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT UNIQUE);"


class Threads:
    """Runs blocking functions, as the runtime does, and can hold them up."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.runs = 0

    async def __call__(self, fn: Callable[[], Any], /) -> Any:
        def held_up() -> Any:
            assert self.open.wait(5)
            return fn()

        self.runs += 1
        return await asyncio.to_thread(held_up)


@pytest.fixture
def threads() -> Threads:
    return Threads()


@pytest.fixture
async def database(tmp_path: Path, threads: Threads) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "notes.db", runtime=Runtime(run_blocking=threads))
    database.add_schema(SCHEMA)
    yield database
    threads.open.set()
    await database.close()


def add(text: str) -> Callable[[sqlite3.Connection], int]:
    def write(connection: sqlite3.Connection) -> int:
        row = connection.execute("INSERT INTO notes (text) VALUES (?)", (text,))
        assert row.lastrowid is not None
        return row.lastrowid

    return write


def texts(connection: sqlite3.Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY id")]


async def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "unused.db")
    await database.close()
    assert not (tmp_path / "unused.db").exists()


async def test_a_read_sees_one_moment_while_another_writes(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    await database.write(add("a"))

    def twice(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
        first = texts(connection)
        other = sqlite3.connect(tmp_path / "notes.db")
        with other:
            add("b")(other)
        other.close()
        return first, texts(connection)

    assert await database.read(twice) == (["a"], ["a"])
    assert await database.read(texts) == ["a", "b"]


async def test_a_read_that_fails_leaves_the_next_one_its_own_moment(
    database: SqliteDatabase,
) -> None:
    await database.write(add("a"))
    with pytest.raises(StorageError):
        await database.read(lambda connection: connection.execute("SELECT * FROM nowhere"))
    assert await database.read(texts) == ["a"]


async def test_what_was_written_is_there_after_reopening(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    assert await database.write(add("a")) == 1
    assert await database.read(texts) == ["a"]
    await database.close()
    again = SqliteDatabase(tmp_path / "notes.db")
    again.add_schema(SCHEMA)
    assert await again.read(texts) == ["a"]
    await again.close()


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("relaxed", 1)])
async def test_the_settings_of_the_file(tmp_path: Path, durability: Any, synchronous: int) -> None:
    database = SqliteDatabase(tmp_path / "x.db", durability=durability)

    def pragmas(connection: sqlite3.Connection) -> list[Any]:
        names = (
            "journal_mode",
            "synchronous",
            "foreign_keys",
            "busy_timeout",
            "wal_autocheckpoint",
        )
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await database.read(pragmas) == ["wal", synchronous, 1, 5000, 1000]
    assert await database.write(pragmas) == ["wal", synchronous, 1, 5000, 1000]
    await database.close()


async def test_writes_that_wait_share_a_transaction_in_their_order(
    database: SqliteDatabase, threads: Threads
) -> None:
    await database.read(texts)
    runs = threads.runs
    threads.open.clear()
    writes = [asyncio.create_task(database.write(add(str(n)))) for n in range(60)]
    await asyncio.sleep(0)
    threads.open.set()
    assert await asyncio.gather(*writes) == list(range(1, 61))
    assert await database.read(texts) == [str(n) for n in range(60)]
    assert threads.runs - runs <= 4


async def test_more_than_a_group_holds_is_written_in_several(
    database: SqliteDatabase, threads: Threads
) -> None:
    await asyncio.gather(*(database.write(add(str(n))) for n in range(200)))
    assert len(await database.read(texts)) == 200
    assert threads.runs < 20


@pytest.mark.parametrize("error", [LookupError("mine"), StorageError("mine"), None])
async def test_a_write_that_fails_leaves_nothing_and_harms_no_other(
    database: SqliteDatabase, error: Exception | None
) -> None:
    def failing(connection: sqlite3.Connection) -> None:
        add("half")(connection)
        if error is not None:
            raise error
        add("before")(connection)  # a duplicate

    before, failed, after = await asyncio.gather(
        database.write(add("before")),
        database.write(failing),
        database.write(add("after")),
        return_exceptions=True,
    )
    assert (before, after) == (1, 2)
    if error is None:
        assert isinstance(failed, StorageError)
    else:
        assert failed is error
    assert await database.read(texts) == ["before", "after"]


async def test_a_cancelled_write_is_carried_out_and_its_neighbours_are_not_disturbed(
    database: SqliteDatabase, threads: Threads
) -> None:
    await database.read(texts)
    threads.open.clear()
    writes = [asyncio.create_task(database.write(add(text))) for text in "abc"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    writes[1].cancel()
    await asyncio.sleep(0)
    threads.open.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert results[0::2] == [1, 3]
    assert isinstance(results[1], asyncio.CancelledError)
    assert await database.read(texts) == ["a", "b", "c"]


async def test_close_finishes_what_waits_and_refuses_what_comes_later(
    database: SqliteDatabase, threads: Threads
) -> None:
    await database.read(texts)
    threads.open.clear()
    write = asyncio.create_task(database.write(add("a")))
    await asyncio.sleep(0)
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0)
    with pytest.raises(StorageError, match="is closed"):
        await database.write(add("late"))
    threads.open.set()
    await closing
    assert await write == 1
    with pytest.raises(StorageError, match="is closed"):
        await database.read(texts)
    await database.close()


async def test_a_full_disk_fails_the_write_and_leaves_what_was_there(
    database: SqliteDatabase,
) -> None:
    await database.write(add("a"))
    pages = await database.read(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    await database.write(lambda db: db.execute(f"PRAGMA max_page_count={pages + 1}").fetchone())
    large = asyncio.gather(
        *(database.write(add(str(n) + "x" * 4_000)) for n in range(20)), return_exceptions=True
    )
    results = await large
    full = [result for result in results if isinstance(result, StorageFullError)]
    stored = [result for result in results if isinstance(result, int)]
    assert full
    assert len(full) + len(stored) == 20
    assert len(await database.read(texts)) == 1 + len(stored), "stored is what was said to be"
    await database.write(lambda db: db.execute("PRAGMA max_page_count=100000").fetchone())
    assert await database.write(add("b"))
    assert (await database.read(texts))[0] == "a"


async def test_a_path_that_cannot_be_opened_is_an_error_each_time(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "no" / "such" / "folder.db")
    for _ in range(2):
        with pytest.raises(StorageError, match=r"folder\.db"):
            await database.read(texts)
        with pytest.raises(StorageError):
            await database.write(add("a"))
    os.makedirs(tmp_path / "no" / "such")
    database.add_schema(SCHEMA)
    assert await database.write(add("a")) == 1, "what was wrong can be mended"
    await database.close()


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "letter.db"
    path.write_bytes(b"Dear all, this is not a database. " * 100)
    return path


async def test_a_file_that_is_no_database_is_corrupt_and_stays_as_it_is(letter: Path) -> None:
    database = SqliteDatabase(letter)
    database.add_schema(SCHEMA)
    with pytest.raises(CorruptDataError):
        await database.read(texts)
    await database.close()
    with open(letter, "rb") as file:  # noqa: ASYNC230  # a small file, and nobody else waits
        assert file.read(8) == b"Dear all"


async def test_an_unknown_error_of_a_read_is_a_storage_error(database: SqliteDatabase) -> None:
    with pytest.raises(StorageError, match="no such table"):
        await database.read(lambda db: db.execute("SELECT * FROM nowhere"))

    def broken(connection: sqlite3.Connection) -> None:
        raise PatchesError("mine")

    with pytest.raises(PatchesError, match="mine"):
        await database.read(broken)


async def test_two_owners_of_one_file_wait_for_each_other(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    other = SqliteDatabase(tmp_path / "notes.db")
    other.add_schema(SCHEMA)
    await asyncio.gather(
        *(database.write(add(f"a{n}")) for n in range(20)),
        *(other.write(add(f"b{n}")) for n in range(20)),
    )
    assert len(await database.read(texts)) == len(await other.read(texts)) == 40
    await other.close()


async def test_a_new_file_that_many_open_at_once_is_opened_by_all(tmp_path: Path) -> None:
    for number in range(40):
        owners = [SqliteDatabase(tmp_path / f"{number}.db") for _ in range(4)]
        for owner in owners:
            owner.add_schema(SCHEMA)
        await asyncio.gather(*(owner.write(add(f"{n}")) for n, owner in enumerate(owners)))
        for owner in owners:
            await owner.close()


async def test_an_opening_that_finds_the_file_locked_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patches.stores.sqlite.database._OPEN_PAUSE_S", 0)
    tries: list[str] = []

    class Busy(sqlite3.Connection):
        def execute(self, sql: str, /, *args: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA journal_mode=WAL":
                tries.append(sql)
                if len(tries) < 3:
                    error = sqlite3.OperationalError("database is locked")
                    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                    raise error
            return super().execute(sql, *args)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Busy))
    database = SqliteDatabase(tmp_path / "notes.db")
    database.add_schema(SCHEMA)
    await database.write(add("a"))
    assert await database.read(texts) == ["a"]
    assert len(tries) == 3
    await database.close()


async def test_reads_do_not_wait_for_the_writer_and_see_what_is_committed(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "notes.db")
    database.add_schema(SCHEMA)
    await database.write(add("a"))
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        add("b")(connection)
        begun.set()
        assert go_on.wait(5)

    write = asyncio.create_task(database.write(slow))
    assert await asyncio.to_thread(begun.wait, 5)
    assert await asyncio.gather(*(database.read(texts) for _ in range(3))) == [["a"]] * 3
    go_on.set()
    await write
    assert await database.read(texts) == ["a", "b"]
    await database.close()


async def test_a_read_cannot_write(database: SqliteDatabase) -> None:
    await database.write(add("a"))
    with pytest.raises(StorageError, match="readonly"):
        await database.read(add("b"))
    assert await database.read(texts) == ["a"]


async def test_close_waits_for_reads_and_empties_the_log(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "notes.db")
    database.add_schema(SCHEMA)
    await database.write(add("a"))
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> list[str]:
        begun.set()
        assert go_on.wait(5)
        return texts(connection)

    read = asyncio.create_task(database.read(slow))
    assert await asyncio.to_thread(begun.wait, 5)
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0)
    assert not closing.done()
    go_on.set()
    assert await read == ["a"]
    await closing
    assert os.listdir(tmp_path) == ["notes.db"], "no -wal, no -shm"


async def test_a_backup_is_made_while_the_file_is_written(
    database: SqliteDatabase, tmp_path: Path
) -> None:
    await database.write(add("before"))
    writes = [asyncio.create_task(database.write(add(str(n)))) for n in range(100)]
    await database.backup(tmp_path / "copy.db")
    await asyncio.gather(*writes)
    copy = SqliteDatabase(tmp_path / "copy.db")
    copied = await copy.read(texts)
    assert copied == (await database.read(texts))[: len(copied)]
    assert copied[0] == "before"
    await copy.close()
    with pytest.raises(StorageError, match="nowhere"):
        await database.backup(tmp_path / "nowhere" / "copy.db")


async def test_a_database_in_memory_needs_no_file(tmp_path: Path) -> None:
    database = SqliteDatabase(":memory:")
    database.add_schema(SCHEMA)
    await database.write(add("a"))
    assert await database.read(texts) == ["a"]
    await database.close()
    assert not os.listdir(tmp_path)

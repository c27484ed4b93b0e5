"""What a file is, decided before it is written to; its tables, and older versions of them."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from patches import Patches
from patches.errors import CorruptDataError, StorageError, WrongFileError
from patches.stores.branch_records import SqliteBranchStore
from patches.stores.sqlite.backend import SqliteBackend
from patches.stores.sqlite.database import SqliteDatabase
from patches.stores.sqlite.file_kind import (
    CLIENT_FILE,
    FileKind,
    Migration,
    Schema,
    statements,
)

NOTES = FileKind(name="notebook", application_id=0x4E6F7465, version=2)
TABLES = Schema(name="notes", script="CREATE TABLE notes_rows (a INTEGER); SELECT ';';")


def other_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE ot_pending (a); PRAGMA application_id=77;")


def other_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE recipes (a); INSERT INTO recipes VALUES (1);")


def a_server_before_ids(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript("CREATE TABLE server_file (one); CREATE TABLE ot_changes (a);")


def newer_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            f"CREATE TABLE x (a); PRAGMA application_id={CLIENT_FILE.application_id};"
            f"PRAGMA user_version={CLIENT_FILE.version + 1};"
        )


@pytest.mark.parametrize(
    "make", [other_application, other_tables, a_server_before_ids, newer_format]
)
async def test_a_file_of_another_kind_is_refused_by_name_and_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "x.db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(WrongFileError, match="nothing was written"):
        async with Patches(store=path):
            pass
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["x.db"]


async def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear all, " * 200)
    with pytest.raises(CorruptDataError, match="not a database"):
        async with Patches(store=path):
            pass
    assert path.read_text() == "Dear all, " * 200


async def test_a_client_file_says_what_it_is_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    async with Patches(store=path) as patches:
        doc = await patches.open_doc("a")
        doc.change(lambda draft: draft.update(x=1))
        await doc.flush()
        modes = modes_in(tmp_path)
    assert modes == {"notes.db": 0o600, "notes.db-wal": 0o600, "notes.db-shm": 0o600}
    head = path.read_bytes()[:100]
    assert head[68:72] == b"PTCC"
    backend = SqliteBackend(path)
    await backend.database.backup(tmp_path / "copy.db")
    await backend.close()
    assert modes_in(tmp_path)["copy.db"] == 0o600


async def test_branch_records_join_a_client_file_that_is_in_use(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "notes.db")
    async with Patches(store=backend) as patches:
        await patches.open_doc("a")
        branches = SqliteBranchStore(backend.database)
        assert await branches.list("a") == []
    await backend.close()


def adds_column(name: str, default: int) -> Migration:
    def migrate(db: sqlite3.Connection) -> None:
        db.execute(f"ALTER TABLE notes_rows ADD {name} INTEGER DEFAULT {default}")

    return migrate


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def modes_in(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_tables_are_made_once_and_marked_with_their_version(tmp_path: Path) -> None:
    for _ in range(2):
        database = SqliteDatabase(tmp_path / "n.db", kind=NOTES)
        database.add_schema(TABLES)
        database.add_schema(TABLES)
        parts = await database.read(
            lambda db: db.execute("SELECT name, version FROM file_parts").fetchall()
        )
        assert parts == [("notes", 1)]
        await database.close()


async def test_older_tables_are_changed_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    old = SqliteDatabase(path)
    old.add_schema(TABLES.script)  # from before there were versions
    await old.write(lambda db: db.execute("INSERT INTO notes_rows VALUES (7)"))
    await old.close()

    kind = FileKind(name="notebook", application_id=1, known_by=frozenset({"notes_rows"}))
    schema = Schema(
        name="notes",
        version=3,
        script="CREATE TABLE notes_rows (a INTEGER, b INTEGER, c INTEGER)",
        migrations={
            1: adds_column("b", 2),
            2: adds_column("c", 3),
        },
    )
    database = SqliteDatabase(path, kind=kind)
    database.add_schema(schema)
    rows = await database.read(lambda db: db.execute("SELECT * FROM notes_rows").fetchall())
    assert rows == [(7, 2, 3)]
    await database.close()

    older = SqliteDatabase(path, kind=kind)
    older.add_schema(TABLES)
    with pytest.raises(WrongFileError, match="newer version"):
        await older.read(lambda db: None)
    await older.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    def fails(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM notes_rows")
        db.execute("nonsense")

    path = tmp_path / "n.db"
    old = SqliteDatabase(path)
    old.add_schema(TABLES.script)
    await old.write(lambda db: db.execute("INSERT INTO notes_rows VALUES (7)"))
    await old.close()
    database = SqliteDatabase(path)
    database.add_schema(Schema(name="notes", version=2, script="", migrations={1: fails}))
    with pytest.raises(StorageError):
        await database.read(lambda db: None)
    await database.close()
    again = SqliteDatabase(path)
    assert await again.read(lambda db: db.execute("SELECT * FROM notes_rows").fetchall()) == [(7,)]
    await again.close()


def test_a_script_is_cut_between_its_statements() -> None:
    script = "CREATE TABLE a (b TEXT DEFAULT ';');\n-- one; two\nSELECT 1;\n"
    assert [part.strip() for part in statements(script)] == [
        "CREATE TABLE a (b TEXT DEFAULT ';');",
        "-- one; two\nSELECT 1;",
    ]

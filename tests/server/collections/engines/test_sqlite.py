"""`SQLiteEngine`: the contract of engines, and what only files have."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from patches.algorithms.collections.declaration import Collections
from patches.errors import SchemaError
from patches.testing.contracts.collections_engine import (
    DECLARED,
    DOC,
    NOTES,
    CollectionsEngineContract,
    note,
)
from patches_server.collections.engines.engine import Engine, Transaction, Where
from patches_server.collections.engines.sqlite import SQLiteEngine, file_name


class TestSQLiteEngine(CollectionsEngineContract):
    @pytest.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[Engine]:
        engine = SQLiteEngine(tmp_path, durability="relaxed")
        engine.declare(DECLARED)
        yield engine
        await engine.close()

    async def write_outside(self, engine: Engine, *statements: str) -> None:
        assert isinstance(engine, SQLiteEngine)
        assert engine.folder is not None
        with closing(sqlite3.connect(engine.folder / file_name(DOC))) as conn:
            for statement in statements:
                conn.execute(statement)
            conn.commit()


class TestSQLiteEngineInMemory(TestSQLiteEngine):
    @pytest.fixture
    async def engine(self) -> AsyncIterator[Engine]:
        engine = SQLiteEngine()
        engine.declare(DECLARED)
        yield engine
        await engine.close()

    async def write_outside(self, engine: Engine, *statements: str) -> None:
        # Nobody else reaches such a database; its own triggers notice what is written to it.
        await engine.begin(DOC, lambda tx: [tx.sql(statement) for statement in statements])


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[SQLiteEngine]:
    engine = SQLiteEngine(tmp_path, durability="relaxed")
    engine.declare(DECLARED)
    yield engine
    await engine.close()


@pytest.mark.parametrize(
    "doc_id",
    ["board/42", "../../etc/passwd", ".", "Case", "case", "_documents", "ü🙂", "a%2fb", "x" * 500],
    ids=lambda doc_id: doc_id[:12],
)
async def test_a_document_has_a_file_of_its_own(
    doc_id: str, engine: SQLiteEngine, tmp_path: Path
) -> None:
    await engine.begin(doc_id, lambda tx: None)
    await engine.begin("case2", lambda tx: None)
    assert sorted(await engine.list_docs()) == sorted([doc_id, "case2"])
    assert sorted(name for name in os.listdir(tmp_path) if name.endswith(".sqlite")) == sorted(
        [file_name(doc_id), "case2.sqlite"]
    )


def add(tx: Transaction, *keys: str) -> None:
    """Some notes, numbered."""
    for key in keys:
        tx.insert(NOTES, note(key))
    tx.number(1)


@pytest.mark.parametrize("clause", ["", "OR IGNORE", "OR REPLACE", "OR FAIL", "OR ABORT"])
async def test_no_conflict_clause_hides_a_write(clause: str, engine: SQLiteEngine) -> None:
    await engine.begin(DOC, lambda tx: add(tx, "a"))
    with closing(sqlite3.connect(engine.folder / file_name(DOC))) as conn:  # type: ignore[operator]  # there is one
        conn.execute(f"UPDATE {clause} notes SET votes = 1")
        conn.execute(f"INSERT {clause} INTO notes (id, text) VALUES ('b', 't')")
        conn.commit()
    touched = await engine.begin(DOC, lambda tx: tx.number(2))
    assert set(touched.rows["notes"]) == {"a", "b"}


async def test_a_table_that_was_made_anew_is_followed_again(tmp_path: Path) -> None:
    first = SQLiteEngine(tmp_path)
    first.declare(DECLARED)
    await first.begin(DOC, lambda tx: add(tx, "a", "b"))
    await first.close()
    with closing(sqlite3.connect(tmp_path / file_name(DOC))) as conn:
        conn.execute("CREATE TABLE made AS SELECT * FROM notes WHERE id <> 'b'")
        conn.execute("DROP TABLE notes")  # and its triggers
        conn.execute("ALTER TABLE made RENAME TO notes")
        conn.execute("UPDATE notes SET votes = 9")
        conn.commit()
    second = SQLiteEngine(tmp_path)
    second.declare(DECLARED)
    touched = await second.begin(DOC, lambda tx: tx.number(2))
    assert touched.rows == {"notes": {"a": note("a", votes=9), "b": None}}
    await second.close()


async def test_scenario_25_columns_are_added_and_triggers_are_not_doubled(tmp_path: Path) -> None:
    async def triggers(declared: Collections) -> list[dict[str, object]]:
        engine = SQLiteEngine(tmp_path)
        engine.declare(declared)
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
        found = await engine.begin(DOC, lambda tx: tx.sql(query))
        await engine.close()
        return found

    class Small:
        id: str

    class Large:
        id: str
        due: int = 5

    before, after = Collections("c"), Collections("c")
    before.table("things")(Small)
    after.table("things")(Large)
    first = await triggers(before)
    assert len(first) == 4
    assert await triggers(before) == first
    assert await triggers(after) == first


async def test_a_new_column_without_a_default_is_refused(tmp_path: Path) -> None:
    class Small:
        id: str

    class Large:
        id: str
        due: int

    for declared, is_good in ((Small, True), (Large, False)):
        board = Collections("c")
        board.table("things")(declared)
        engine = SQLiteEngine(tmp_path)
        engine.declare(board)
        if is_good:
            await engine.begin(DOC, lambda tx: None)
        else:
            with pytest.raises(SchemaError, match=r"'things'.*'due'"):
                await engine.begin(DOC, lambda tx: None)
        await engine.close()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)", "'id' is of type INTEGER"),
        ("CREATE TABLE things (id TEXT, name TEXT)", "the primary key must be the column 'id'"),
        ("CREATE TABLE things (id TEXT, name TEXT, PRIMARY KEY (id, name))", "several columns"),
        ("CREATE TABLE things (id BLOB PRIMARY KEY, name TEXT)", "of type BLOB"),
        ("CREATE TABLE things (id TEXT PRIMARY KEY)", "no column 'name'"),
        ("CREATE TABLE other (id TEXT PRIMARY KEY)", "is not in the database"),
        ("CREATE TABLE things (id VARCHAR(9) PRIMARY KEY, name TEXT, extra INTEGER)", None),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_scenario_26_a_table_that_cannot_be_synced_is_refused(
    script: str, message: str | None, tmp_path: Path
) -> None:
    board = Collections("c")

    @board.table("things", managed=False)
    class Thing:
        id: str
        name: str

    with closing(sqlite3.connect(tmp_path / file_name(DOC))) as conn:
        conn.execute(script)
    engine = SQLiteEngine(tmp_path)
    engine.declare(board)
    if message is None:
        table = board.tables["things"]
        await engine.begin(DOC, lambda tx: tx.insert(table, {"id": "a", "name": "n"}))
        assert await engine.read(DOC, lambda tx: tx.select(Where(table))) == [
            {"id": "a", "name": "n"}
        ]
    else:
        with pytest.raises(SchemaError, match=message) as refusal:
            await engine.begin(DOC, lambda tx: None)
        assert "'things'" in str(refusal.value)
    await engine.close()


async def test_few_files_stay_open(tmp_path: Path) -> None:
    engine = SQLiteEngine(tmp_path, max_open=3, durability="relaxed")
    engine.declare(DECLARED)
    for number in range(12):
        await engine.begin(f"d{number}", lambda tx: add(tx, "a"))
    await asyncio.sleep(0)
    assert len(engine._open) <= 4
    for number in range(12):
        assert await engine.begin(f"d{number}", lambda tx: tx.rev) == 1
    await engine.close()

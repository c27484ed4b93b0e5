"""`PostgresEngine`: the contract of engines, and what only a shared database has."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from patches.algorithms.collections.declaration import Collections
from patches.errors import (
    ConstraintError,
    DocDeletedError,
    InvalidRowError,
    SchemaError,
    StorageError,
    StorageTimeoutError,
)
from patches.testing.contracts.collections_engine import (
    DECLARED,
    DOC,
    NOTES,
    CollectionsEngineContract,
    note,
)
from patches_server.collections.engines.engine import Deleted, Engine, Touched, Transaction, Where
from tests.support.postgres import terminate_connections

asyncpg = pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)
from patches_server.collections.engines.postgres import PostgresEngine  # noqa: E402  # see above


class TestPostgresEngine(CollectionsEngineContract):
    keeps_nul = False

    @pytest.fixture
    async def engine(self, postgres_url: str) -> AsyncIterator[Engine]:
        self.url = postgres_url
        engine = PostgresEngine(postgres_url, connections=3, durability="relaxed")
        engine.declare(DECLARED)
        yield engine
        await engine.close()

    async def write_outside(self, engine: Engine, *statements: str) -> None:
        async with outside(self.url) as conn, conn.transaction():
            await conn.execute("SELECT set_config('patches.doc_id', $1, true)", DOC)
            for statement in statements:
                await conn.execute(statement)


@asynccontextmanager
async def outside(url: str) -> AsyncIterator[Any]:
    """A connection of another program."""
    conn = await asyncpg.connect(url)
    try:
        yield conn
    finally:
        await conn.close()


@pytest.fixture
async def engine(postgres_url: str) -> AsyncIterator[PostgresEngine]:
    engine = engine_on(postgres_url)
    yield engine
    await engine.close()


def engine_on(url: str, declared: Collections = DECLARED, **options: Any) -> PostgresEngine:
    engine = PostgresEngine(url, connections=3, durability="relaxed", **options)
    engine.declare(declared)
    return engine


def number(tx: Transaction) -> Touched:
    return tx.number(1_000)


def add(tx: Transaction, *keys: str) -> int:
    """Some notes, numbered; the revision."""
    for key in keys:
        tx.insert(NOTES, note(key))
    tx.number(1_000)
    return tx.rev


# ---- numbering -----------------------------------------------------------------------------------


async def test_scenario_15_a_slow_transaction_is_numbered_when_it_commits(
    engine: PostgresEngine, postgres_url: str
) -> None:
    await engine.begin(DOC, lambda tx: add(tx, "a"))
    async with outside(postgres_url) as slow, outside(postgres_url) as quick:
        begun = slow.transaction()
        await begun.start()
        await slow.execute("INSERT INTO notes (doc_id, id, text) VALUES ($1, 's', 't')", DOC)
        await slow.execute("UPDATE notes SET votes = 5 WHERE id = 'a'")
        await quick.execute("INSERT INTO notes (doc_id, id, text) VALUES ($1, 'q', 't')", DOC)
        assert await engine.begin(DOC, lambda tx: add(tx, "b")) == 2
        assert await engine.begin(DOC, lambda tx: add(tx, "c")) == 3
        assert await engine.has_unnumbered([DOC]) == []
        await begun.commit()
    assert await engine.has_unnumbered([DOC]) == [DOC]
    touched = await engine.begin(DOC, number)
    assert touched.rows == {"notes": {"s": note("s"), "a": note("a", votes=5)}}
    assert set(touched.revs.values()) == {4}
    assert touched.born == {("notes", "s")}


async def test_a_transaction_of_others_that_is_undone_leaves_nothing(
    engine: PostgresEngine, postgres_url: str
) -> None:
    await engine.begin(DOC, lambda tx: add(tx, "a"))
    async with outside(postgres_url) as conn:
        begun = conn.transaction()
        await begun.start()
        await conn.execute("DELETE FROM notes")
        await begun.rollback()
    assert await engine.has_unnumbered([DOC]) == []
    assert not await engine.begin(DOC, number)


async def test_revisions_of_two_engines_are_dense_and_no_cursor_misses_a_row(
    engine: PostgresEngine, postgres_url: str
) -> None:
    """Two engines and another program write; a reader follows by its cursor all the time."""
    await engine.begin(DOC, lambda tx: None)
    other = engine_on(postgres_url)
    shuffled = random.Random(7)
    revs: list[int] = []
    followed: dict[str, object] = {}
    cursor = 0
    done = asyncio.Event()

    async def commit(engine: PostgresEngine, name: str) -> None:
        for count in range(40):
            rev = await engine.begin(DOC, lambda tx, k=f"{name}{count}": add(tx, k))  # type: ignore[misc]
            revs.append(rev)

    async def write_outside() -> None:
        async with outside(postgres_url) as conn:
            for count in range(40):
                async with conn.transaction():
                    await conn.execute(
                        "INSERT INTO notes (doc_id, id, text) VALUES ($1, $2, 't')",
                        DOC,
                        f"o{count}",
                    )
                    await asyncio.sleep(shuffled.random() / 100)
                    await conn.execute("UPDATE notes SET votes = votes + 1 WHERE id = 'own0'")

    async def follow() -> None:
        nonlocal cursor
        while True:
            is_last = done.is_set()
            if is_last:
                await other.begin(DOC, number)

            def read(tx: Transaction, cursor: int = cursor) -> tuple[int, Touched | None]:
                return tx.rev, tx.changed(cursor, tx.rev, limit=1_000)

            rev, touched = await other.read(DOC, read)
            assert touched is not None
            followed.update(touched.rows.get("notes", {}))
            cursor = rev
            if is_last:
                return
            await asyncio.sleep(0)

    async def write() -> None:
        await asyncio.gather(commit(engine, "own"), commit(other, "their"), write_outside())
        done.set()

    await asyncio.gather(write(), follow())
    rows = await engine.read(DOC, lambda tx: tx.select(Where(NOTES)))
    assert {row["id"]: row for row in rows} == followed
    assert len(rows) == 120
    assert len(set(revs)) == 80, "no revision is given twice"
    async with outside(postgres_url) as conn:
        found = await conn.fetch("SELECT DISTINCT rev FROM patches_rows.log ORDER BY rev")
        assert [row["rev"] for row in found][-1] == cursor
        assert not await conn.fetchval("SELECT count(*) FROM patches_rows.captured")
    await other.close()


async def test_another_program_and_the_server_do_not_wait_for_each_other(
    engine: PostgresEngine, postgres_url: str
) -> None:
    """What another program wrote, and writes again in an open transaction, is numbered at once."""
    await engine.begin(DOC, lambda tx: add(tx, "a", "b"))
    async with outside(postgres_url) as conn:
        await conn.execute("UPDATE notes SET votes = 1")
        begun = conn.transaction()
        await begun.start()
        await conn.execute("UPDATE notes SET votes = 2 WHERE id = 'a'")

        def write(tx: Transaction) -> Touched:
            touched = tx.number(1_000)
            tx.update(NOTES, "b", {"text": "own"})
            tx.number(1_000)
            return touched

        touched = await asyncio.wait_for(engine.begin(DOC, write), 5)
        assert touched.rows["notes"] == {"a": note("a", votes=1), "b": note("b", votes=1)}
        await conn.execute("UPDATE notes SET votes = 3 WHERE id = 'b'")
        await begun.commit()
    touched = await engine.begin(DOC, number)
    assert touched.rows["notes"] == {
        "a": note("a", votes=2),
        "b": note("b", votes=3, text="own"),
    }


async def test_scenario_23_a_row_has_one_entry_in_the_log(
    engine: PostgresEngine, postgres_url: str
) -> None:
    await engine.begin(DOC, lambda tx: add(tx, "a"))
    async with outside(postgres_url) as conn:
        await conn.execute(
            "DO $$ BEGIN FOR i IN 1..1000 LOOP UPDATE notes SET votes = i; END LOOP; END $$"
        )
        touched = await engine.begin(DOC, number)
        assert touched.rows == {"notes": {"a": note("a", votes=1_000)}}
        assert await conn.fetchval("SELECT count(*) FROM patches_rows.log") == 1
        assert await conn.fetchval("SELECT count(*) FROM patches_rows.captured") == 0


async def test_copies_and_truncations_are_noticed(
    engine: PostgresEngine, postgres_url: str
) -> None:
    await engine.begin(DOC, lambda tx: add(tx, "a", "b"))
    async with outside(postgres_url) as conn:
        await conn.copy_records_to_table(
            "notes", records=[(DOC, "c", "t")], columns=["doc_id", "id", "text"]
        )
        touched = await engine.begin(DOC, number)
        assert touched.rows == {"notes": {"c": note("c")}}
        await conn.execute(
            "INSERT INTO notes (doc_id, id, text) VALUES ($1, 'd', 't') "
            "ON CONFLICT (doc_id, id) DO UPDATE SET votes = 1",
            DOC,
        )
        await conn.execute("TRUNCATE notes")
    touched = await engine.begin(DOC, number)
    assert touched.rows == {"notes": dict.fromkeys("abcd")}
    assert touched.emptied == {"notes"}


# ---- documents -----------------------------------------------------------------------------------


async def test_sql_reaches_the_rows_of_its_own_document_alone(
    engine: PostgresEngine, postgres_url: str
) -> None:
    await engine.begin(DOC, lambda tx: add(tx, "a", "b"))
    await engine.begin("other", lambda tx: add(tx, "a"))

    def write(tx: Transaction) -> Touched:
        tx.sql("UPDATE notes SET votes = 7")
        tx.sql("INSERT INTO notes (id, text, tags) VALUES ($1, 't', $2)", "c", ["x"])
        assert len(tx.sql("SELECT * FROM notes")) == 3
        return tx.number(1_000)

    touched = await engine.begin(DOC, write)
    assert touched.rows["notes"]["c"] == note("c", tags=["x"])
    assert await engine.has_unnumbered(["other"]) == []
    assert await engine.read("other", lambda tx: tx.select(Where(NOTES))) == [note("a")]
    query = "UPDATE notes SET doc_id = 'other' WHERE id = 'b'"
    with pytest.raises(asyncpg.WithCheckOptionViolationError):
        await engine.begin(DOC, lambda tx: tx.attempt(lambda: tx.sql(query)))


async def test_a_row_that_moves_to_another_document_leaves_the_first(
    engine: PostgresEngine, postgres_url: str
) -> None:
    await engine.begin(DOC, lambda tx: add(tx, "a"))
    await engine.begin("other", lambda tx: add(tx, "b"))
    async with outside(postgres_url) as conn:
        await conn.execute("UPDATE notes SET doc_id = 'other' WHERE id = 'a'")
    assert sorted(await engine.has_unnumbered([DOC, "other"])) == [DOC, "other"]
    assert (await engine.begin(DOC, number)).rows == {"notes": {"a": None}}
    assert (await engine.begin("other", number)).rows == {"notes": {"a": note("a")}}


async def test_what_another_process_committed_and_deleted_is_noticed(
    engine: PostgresEngine, postgres_url: str
) -> None:
    other = engine_on(postgres_url)
    await engine.begin(DOC, lambda tx: add(tx, "a"))
    assert await engine.has_unnumbered([DOC]) == []
    await other.begin(DOC, lambda tx: add(tx, "b"))
    assert await engine.has_unnumbered([DOC]) == [DOC]
    assert await engine.begin(DOC, lambda tx: tx.rev) == 2
    assert await engine.has_unnumbered([DOC]) == []
    await other.delete(DOC, Deleted(deleted_at=5, last_rev=2))
    assert await engine.has_unnumbered([DOC]) == [DOC]
    with pytest.raises(DocDeletedError):
        await engine.begin(DOC, lambda tx: tx.rev)
    with pytest.raises(DocDeletedError):
        await engine.read(DOC, lambda tx: tx.rev)
    await other.undelete(DOC)
    assert await engine.begin(DOC, lambda tx: (tx.rev, tx.select(Where(NOTES)))) == (0, [])
    await other.close()


async def test_a_document_of_rows_that_others_wrote_is_listed(
    engine: PostgresEngine, postgres_url: str
) -> None:
    assert await engine.list_docs() == []
    async with outside(postgres_url) as conn:
        await conn.execute("INSERT INTO notes (doc_id, id, text) VALUES ('new', 'a', 't')")
    assert await engine.list_docs() == ["new"]
    assert (await engine.begin("new", number)).rows == {"notes": {"a": note("a")}}


async def test_engines_that_start_at_once_on_an_empty_database_all_come_up(
    postgres_url: str,
) -> None:
    engines = [engine_on(postgres_url) for _ in range(4)]
    revs = await asyncio.gather(
        *(each.begin(DOC, lambda tx, k=str(n): add(tx, k)) for n, each in enumerate(engines))  # type: ignore[misc]
    )
    assert sorted(revs) == [1, 2, 3, 4]
    for each in engines:
        await each.close()


# ---- errors --------------------------------------------------------------------------------------


async def test_a_statement_that_fails_is_undone_with_its_attempt(engine: PostgresEngine) -> None:
    await engine.begin(DOC, lambda tx: add(tx, "a"))

    def write(tx: Transaction) -> int:
        with pytest.raises(ConstraintError) as refusal:
            tx.attempt(lambda: tx.insert(NOTES, note("a")))
        assert refusal.value.constraint == "notes_pkey"
        with pytest.raises(InvalidRowError, match="notes"):
            tx.attempt(lambda: tx.insert(NOTES, note("n", text="a\0b")))
        with pytest.raises(asyncpg.UndefinedTableError):
            tx.attempt(lambda: tx.sql("SELECT * FROM nowhere"))
        assert not tx.is_broken()
        return add(tx, "b")

    assert await engine.begin(DOC, write) == 2

    def pass_over(tx: Transaction) -> None:
        add(tx, "c")
        with pytest.raises(ConstraintError):
            tx.insert(NOTES, note("a"))
        assert tx.is_broken()

    with pytest.raises(StorageError, match="undoes"):
        await engine.begin(DOC, pass_over)
    assert await engine.begin(DOC, lambda tx: tx.rev) == 2


async def test_a_statement_that_takes_too_long_is_broken_off(engine: PostgresEngine) -> None:
    def write(tx: Transaction) -> int:
        def sleep() -> None:
            tx.time_limit(0.05)
            tx.sql("SELECT pg_sleep(20)")

        with pytest.raises(StorageTimeoutError):
            tx.attempt(sleep)
        return add(tx, "a")

    assert await asyncio.wait_for(engine.begin(DOC, write), 10) == 1


async def test_connections_that_are_cut_are_made_anew(
    engine: PostgresEngine, postgres_url: str
) -> None:
    await engine.begin(DOC, lambda tx: add(tx, "a"))
    await terminate_connections(postgres_url)
    assert await engine.begin(DOC, lambda tx: add(tx, "b")) == 2
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def write(tx: Transaction) -> None:
        add(tx, "c")
        loop.call_soon_threadsafe(started.set)
        tx.sql("SELECT pg_sleep(20)")

    cut = engine.begin(DOC, write)
    await started.wait()
    await terminate_connections(postgres_url)
    with pytest.raises(StorageError):
        await cut
    assert await engine.begin(DOC, lambda tx: add(tx, "d")) == 3


# ---- tables of the application's own -------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("CREATE TABLE things (doc_id text, id int PRIMARY KEY, name text)", "of type integer"),
        ("CREATE TABLE things (doc_id text, id text, name text)", "the primary key must be"),
        (
            "CREATE TABLE things (doc_id text, id text, name text, PRIMARY KEY (id, name))",
            "the primary key must be",
        ),
        ("CREATE TABLE things (doc_id text, id text PRIMARY KEY)", "no column 'name'"),
        ("CREATE TABLE things (id text PRIMARY KEY, name text)", "no column 'doc_id'"),
        ("CREATE TABLE things (doc_id int, id text PRIMARY KEY, name text)", "the scope 'doc_id'"),
        ("CREATE TABLE other (doc_id text, id text PRIMARY KEY)", "is not in the database"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_scenario_26_a_table_that_cannot_be_synced_is_refused(
    script: str, message: str, postgres_url: str
) -> None:
    async with outside(postgres_url) as conn:
        await conn.execute(script)
    board = Collections("c")

    @board.table("things", managed=False)
    class Thing:
        id: str
        name: str

    engine = engine_on(postgres_url, board)
    with pytest.raises(SchemaError, match=message) as refusal:
        await engine.begin(DOC, lambda tx: None)
    assert "'things'" in str(refusal.value)
    await engine.close()


async def test_a_table_of_types_that_are_the_applications_own_is_synced(
    postgres_url: str,
) -> None:
    async with outside(postgres_url) as conn:
        await conn.execute("CREATE SCHEMA app")
        await conn.execute(
            "CREATE TABLE app.things (board text, id uuid PRIMARY KEY, at timestamptz, "
            "price numeric, extra text, parts json, big int DEFAULT 3)"
        )
    board = Collections("c")

    @board.table("things", managed=False)
    class Thing:
        id: str
        at: str | None = None
        price: float = 0.0
        parts: list[int] = []  # noqa: RUF012  # read once, and copied

    things = board.tables["things"]
    engine = engine_on(postgres_url, board, scope="board", schema="app")
    key = "0190a1b2-0000-7000-8000-000000000001"
    row = {"id": key, "at": "2026-01-02T03:04:05+00:00", "price": 1.25, "parts": [1, 2]}

    def write(tx: Transaction) -> None:
        tx.insert(things, row)
        tx.update(things, key, {"parts": [3]})
        with pytest.raises(InvalidRowError, match="id"):
            tx.insert(things, {**row, "id": key.upper().replace("A", "B")})
        assert tx.get(things, "no uuid") is None

    await engine.begin(DOC, write)
    touched = await engine.begin(DOC, number)
    assert touched.rows == {"things": {key: {**row, "parts": [3]}}}
    assert await engine.read(DOC, lambda tx: tx.get(things, key)) == {**row, "parts": [3]}
    await engine.delete(DOC, None)
    async with outside(postgres_url) as conn:
        assert await conn.fetchval("SELECT count(*) FROM app.things") == 0
    await engine.close()


async def test_a_document_is_deleted_with_rows_that_refer_to_others(postgres_url: str) -> None:
    async with outside(postgres_url) as conn:
        await conn.execute("CREATE TABLE parents (doc_id text, id text PRIMARY KEY)")
        await conn.execute(
            "CREATE TABLE children (doc_id text, id text PRIMARY KEY, "
            "parent text REFERENCES parents (id))"
        )
    board = Collections("c")

    @board.table("parents", managed=False)
    class Parent:
        id: str

    @board.table("children", managed=False)
    class Child:
        id: str
        parent: str

    engine = engine_on(postgres_url, board)

    def write(tx: Transaction) -> None:
        tx.insert(board.tables["parents"], {"id": "p"})
        tx.insert(board.tables["children"], {"id": "c", "parent": "p"})

    await engine.begin(DOC, write)
    await engine.delete(DOC, None)
    async with outside(postgres_url) as conn:
        assert await conn.fetchval("SELECT count(*) FROM parents") == 0
    await engine.close()


async def test_scenario_25_columns_are_added_and_triggers_are_not_doubled(
    postgres_url: str,
) -> None:
    class Small:
        id: str

    class Large:
        id: str
        due: int = 5

    class Wrong:
        id: str
        due: int = 5
        needed: str

    declared = []
    for kind in (Small, Large, Wrong):
        board = Collections("c")
        board.table("things")(kind)
        declared.append(board)
    small, large, wrong = declared
    first = engine_on(postgres_url, small)
    await first.begin(DOC, lambda tx: tx.insert(small.tables["things"], {"id": "a"}))
    second = engine_on(postgres_url, large)
    found = await second.begin(DOC, lambda tx: tx.select(Where(large.tables["things"])))
    assert found == [{"id": "a", "due": 5}]
    await first.begin(DOC, lambda tx: tx.insert(small.tables["things"], {"id": "b"}))
    assert set((await second.begin(DOC, number)).rows["things"]) == {"a", "b"}
    query = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'things'::regclass"
    async with outside(postgres_url) as conn:
        assert await conn.fetchval(query) == 4
        third = engine_on(postgres_url, wrong)
        with pytest.raises(SchemaError, match="needs a default"):
            await third.begin(DOC, lambda tx: None)
        await conn.execute("DROP TRIGGER _patches_update ON things")
        await conn.execute("UPDATE things SET due = 9 WHERE id = 'a'")
    fourth = engine_on(postgres_url, large)
    touched = await fourth.begin(DOC, number)
    assert touched.rows["things"] == {"a": {"id": "a", "due": 9}, "b": {"id": "b", "due": 5}}
    for each in (first, second, third, fourth):
        await each.close()


async def test_a_table_that_a_server_does_not_know_is_left_to_those_who_do(
    postgres_url: str,
) -> None:
    class Thing:
        id: str

    old, new = Collections("c"), Collections("c")
    old.table("first")(Thing)
    new.table("first")(Thing)
    new.table("second")(Thing)
    older, newer = engine_on(postgres_url, old), engine_on(postgres_url, new)
    await newer.begin(DOC, lambda tx: tx.insert(new.tables["second"], {"id": "a"}))
    assert not await older.begin(DOC, number)
    assert (await newer.begin(DOC, number)).rows == {"second": {"a": {"id": "a"}}}
    await older.close()
    await newer.close()


async def test_views_that_a_migration_dropped_are_made_again(
    engine: PostgresEngine, postgres_url: str
) -> None:
    await engine.begin(DOC, lambda tx: add(tx, "a"))
    await engine.begin("other", lambda tx: add(tx, "a"))
    async with outside(postgres_url) as conn:
        await conn.execute("ALTER TABLE notes DROP COLUMN tags CASCADE")
        await conn.execute("ALTER TABLE notes ADD COLUMN tags jsonb NOT NULL DEFAULT '[]'")
    await engine.begin(DOC, lambda tx: tx.sql("UPDATE notes SET votes = 3"))
    assert await engine.read("other", lambda tx: tx.select(Where(NOTES))) == [note("a")]


async def test_another_database_is_another_history(postgres_url: str) -> None:
    engine = engine_on(postgres_url)
    first = await engine.begin(DOC, lambda tx: tx.epoch)
    await engine.close()
    async with outside(postgres_url) as conn:
        await conn.execute("UPDATE patches_rows.meta SET identity = 'another'")
    engine = engine_on(postgres_url)
    second = await engine.begin(DOC, lambda tx: tx.epoch)
    assert second != first
    await engine.close()
    engine = engine_on(postgres_url)
    assert await engine.begin(DOC, lambda tx: tx.epoch) == second
    await engine.close()

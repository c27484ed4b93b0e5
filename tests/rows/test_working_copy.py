"""The working copy: what is written is recorded, and only actions write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patches.errors import (
    AudienceDeniedError,
    InvalidRowError,
    PatchesError,
    SchemaError,
    WritesRefusedError,
)
from patches.model.json_values import Op
from patches.rows import Schema, apply_row_ops, parse_row_ops
from patches.rows.working_copy import WorkingCopy


class List:
    id: str
    name: str = ""


class Todo:
    id: str
    list_id: str | None = None
    title: str = "new"
    done: bool = False
    weight: float = 0.0
    tags: list[str] = []  # noqa: RUF012  # a default of the column
    audience: str = "*"


SCHEMA = Schema("todos")
SCHEMA.table("lists")(List)
SCHEMA.table("todos", references={"list_id": "lists"})(Todo)
TODOS = SCHEMA.tables["todos"]


@pytest.fixture
def copy() -> Iterator[WorkingCopy]:
    copy = WorkingCopy(SCHEMA)
    yield copy
    copy.close()


def todo(key: str, **columns: Any) -> dict[str, Any]:
    return TODOS.complete({"id": key, **columns})


def put(copy: WorkingCopy, *rows: dict[str, Any]) -> None:
    with copy.record():
        copy.apply(
            parse_row_ops([{"op": "add", "path": f"/todos/{r['id']}", "value": r} for r in rows])
        )


def test_what_is_applied_is_recorded_with_its_inverse(copy: WorkingCopy) -> None:
    put(copy, todo("a"), todo("b", done=True))
    before = copy.state
    ops: list[Op] = [
        {"op": "replace", "path": "/todos/a/title", "value": "x"},
        {"op": "remove", "path": "/todos/b"},
        {"op": "add", "path": "/todos/c", "value": todo("c", tags=["t"])},
        {"op": "replace", "path": "/todos/nobody/title", "value": "x"},
        {"op": "remove", "path": "/todos/nobody"},
    ]
    with copy.record() as journal:
        copy.apply(parse_row_ops(ops))
    assert journal.ops() == ops[:3]
    assert copy.state == apply_row_ops(before, parse_row_ops(ops))
    assert before["todos"]["a"]["title"] == "new"
    with copy.record():
        copy.apply(parse_row_ops(journal.inverse()))
    assert copy.state == before


def test_a_table_is_emptied_by_one_operation(copy: WorkingCopy) -> None:
    put(copy, todo("a"), todo("b"))
    with copy.record() as journal:
        copy.apply(parse_row_ops([{"op": "add", "path": "/todos", "value": {}}]))
    assert [op["op"] for op in journal.ops()] == ["remove", "remove"]
    assert copy.state == {"lists": {}, "todos": {}}


def test_a_block_that_raises_leaves_nothing(copy: WorkingCopy) -> None:
    put(copy, todo("a"))
    before = copy.state
    with copy.record() as outer:
        with pytest.raises(InvalidRowError):
            write_and_fail(copy)
        assert outer.ops() == []
    assert copy.state == before
    assert copy.query("SELECT count(*) AS n FROM todos", ()) == [{"n": 1}]


def write_and_fail(copy: WorkingCopy) -> None:
    with copy.record(), copy.run(None):
        copy.sql("UPDATE todos SET title = 'x'", ())
        copy.sql("INSERT INTO todos(id) VALUES ('b')", ())
        copy.insert(TODOS, todo("a"))


def test_nothing_is_written_outside_of_a_journal(copy: WorkingCopy) -> None:
    put(copy, todo("a"))
    for query in (
        "INSERT INTO todos(id) VALUES ('b')",
        "UPDATE todos SET title = 'x'",
        "DELETE FROM todos",
    ):
        with pytest.raises(WritesRefusedError, match="writes go through actions"):
            copy.query(query, ())
    assert copy.query("SELECT id, title, done FROM todos", ()) == [
        {"id": "a", "title": "new", "done": 0}
    ]


def test_sql_writes_rows_with_defaults_and_kinds(copy: WorkingCopy) -> None:
    with copy.record() as journal, copy.run(None):
        copy.sql("INSERT INTO todos(id, done, weight) VALUES (?, ?, ?)", ["a", True, 2])
        copy.sql("INSERT OR REPLACE INTO todos(id, tags) VALUES ('b', ?)", [["x"]])
        copy.sql("UPDATE todos SET title = upper(title) WHERE done", ())
    assert copy.state["todos"] == {
        "a": todo("a", done=True, weight=2.0, title="NEW"),
        "b": todo("b", tags=["x"]),
    }
    assert [op["path"] for op in journal.ops()] == ["/todos/a", "/todos/b"]


@pytest.mark.parametrize(
    "query",
    [
        "UPDATE todos SET done = 2",
        "UPDATE todos SET title = NULL",
        "UPDATE todos SET tags = 'no json'",
        "UPDATE todos SET tags = '[1]'",
        "UPDATE todos SET weight = 'heavy'",
        "UPDATE todos SET id = 'z'",
        "UPDATE todos SET audience = 'user:1'",
        "UPDATE todos SET list_id = 'nowhere'",
        "INSERT INTO todos(id) VALUES ('')",
        "INSERT INTO todos(id, title) VALUES (NULL, 'x')",
    ],
)
def test_sql_that_breaks_the_schema_is_refused(copy: WorkingCopy, query: str) -> None:
    put(copy, todo("a"))
    before = copy.state
    with pytest.raises((InvalidRowError, PatchesError)), copy.record(), copy.run(None):
        copy.sql(query, ())
    assert copy.state == before


@pytest.mark.parametrize(
    "query",
    [
        "SELECT random()",
        "SELECT hex(randomblob(4))",
        "SELECT date('now')",
        "SELECT strftime('%s', 'no' || 'w')",
        "SELECT changes()",
        "SELECT last_insert_rowid()",
        "SELECT sqlite_version()",
        "SELECT CURRENT_TIMESTAMP",
        "SELECT current_date",
        "CREATE TABLE x (a)",
        "DROP TABLE _patches_todos",
        "PRAGMA user_version",
        "ATTACH ':memory:' AS other",
        "SELECT * FROM _patches_todos",
        "DELETE FROM _patches_todos",
        "SELECT * FROM sqlite_master",
        "SELECT * FROM sqlite_temp_master",
        "SELECT * FROM pragma_table_info('_patches_todos')",
        "BEGIN",
        "SAVEPOINT x",
        '/**/DELETE FROM "_patches_todos"',
        "DELETE FROM todos -- all",
        "INSERT INTO todos(id) VALUES ('a') RETURNING id",
        "INSERT INTO todos(id) VALUES ('a') ON CONFLICT DO NOTHING",
        "SELECT _patches_gone('todos', 'a')",
        "SELECT load_extension('x')",
        "",
    ],
)
def test_sql_that_an_action_may_not_use_is_refused(copy: WorkingCopy, query: str) -> None:
    put(copy, todo("a"))
    before = copy.state
    with pytest.raises(WritesRefusedError), copy.record(), copy.run(None):
        copy.sql(query, ())
    assert copy.state == before


def test_queries_of_all_kinds_are_allowed(copy: WorkingCopy) -> None:
    put(copy, todo("a", tags=["x", "y"]), todo("b", done=True, title="it's -- /* 'now'"))
    with copy.record(), copy.run(None):
        for query, expected in {
            "WITH x AS (SELECT id FROM todos) SELECT count(*) AS n FROM x": 2,
            "SELECT count(*) AS n FROM todos t JOIN todos u ON t.id < u.id": 1,
            "SELECT sum(j.value = 'y') AS n FROM todos t, json_each(t.tags) j": 1,
            "SELECT n FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM todos) "
            "ORDER BY id DESC LIMIT 1": 2,
            "SELECT count(*) AS n FROM todos WHERE title <> '-- /* current_date'": 2,
            "SELECT max(length(title)) AS n FROM todos": 16,
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5) "
            "SELECT max(n) AS n FROM c": 5,
        }.items():
            assert copy.sql(query, ()) == [{"n": expected}], query


def test_an_action_sees_and_writes_rows_of_its_rights_alone(copy: WorkingCopy) -> None:
    put(copy, todo("a"), todo("b", audience="user:1"), todo("c", audience="user:2"))
    rights = frozenset({"*", "user:1"})
    with copy.record() as journal, copy.run(rights):
        assert copy.sql("SELECT id FROM todos ORDER BY id", ()) == [{"id": "a"}, {"id": "b"}]
        assert copy.visible(TODOS, "c") is None
        assert not copy.update(TODOS, "c", {"title": "x"})
        assert not copy.delete(TODOS, "c")
        copy.sql("UPDATE todos SET done = 1", ())
        copy.sql("DELETE FROM todos WHERE id = 'c'", ())
    assert [op["path"] for op in journal.ops()] == ["/todos/a/done", "/todos/b/done"]
    for write in (
        lambda: copy.sql("INSERT INTO todos(id, audience) VALUES ('d', 'user:2')", ()),
        lambda: copy.insert(TODOS, todo("d", audience="user:2")),
    ):
        with pytest.raises(AudienceDeniedError, match="user:2"), copy.record(), copy.run(rights):
            write()
    assert "d" not in copy.state["todos"]


def test_rows_that_refer_to_a_deleted_one_go_with_it(copy: WorkingCopy) -> None:
    with copy.record(), copy.run(None):
        copy.sql("INSERT INTO lists(id) VALUES ('l'), ('m')", ())
        copy.sql("INSERT INTO todos(id, list_id) VALUES ('a', 'l'), ('b', 'm')", ())
    before = copy.state
    with copy.record() as journal, copy.run(None):
        copy.delete(SCHEMA.tables["lists"], "l")
    assert [op["path"] for op in journal.ops()] == ["/lists/l", "/todos/a"]
    with copy.record():
        copy.apply(parse_row_ops(journal.inverse()))
    assert copy.state == before
    with copy.record():  # what is applied does what it says, and nothing else
        copy.apply(parse_row_ops([{"op": "remove", "path": "/lists/l"}]))
    assert "a" in copy.state["todos"]


def test_a_reference_is_to_a_table_declared_before() -> None:
    with pytest.raises(SchemaError, match="declare the table 'lists' before"):
        Schema("s").table("todos", references={"list_id": "lists"})(Todo)


def test_rows_are_loaded_as_they_are_and_completed(copy: WorkingCopy) -> None:
    put(copy, todo("old"))
    rows = {"a": todo("a", weight=0.1, tags=["x"]), "b": todo("b", title="\0", audience="u")}
    older = {"id": "c", "title": "t"}
    copy.load({"todos": {**rows, "c": older}, "unknown": {"x": {}}})
    assert copy.state == {"lists": {}, "todos": {**rows, "c": todo("c", title="t")}}
    assert copy.query("SELECT weight, length(hex(title)) AS n FROM todos ORDER BY id", ()) == [
        {"weight": 0.1, "n": 6},
        {"weight": 0.0, "n": 2},
        {"weight": 0.0, "n": 2},
    ]


def test_sql_is_interrupted_when_it_takes_too_long(copy: WorkingCopy) -> None:
    query = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"
    with pytest.raises(PatchesError, match="interrupted"), copy.record(), copy.run(None):
        with copy.limited(lambda: True):
            copy.sql(query, ())


KEYS = st.sampled_from("abc")
ROWS = st.builds(
    todo, KEYS, done=st.booleans(), weight=st.floats(allow_nan=False, allow_infinity=False)
)
WRITES = st.lists(
    st.one_of(
        ROWS.map(lambda row: {"op": "add", "path": f"/todos/{row['id']}", "value": row}),
        KEYS.map(lambda key: {"op": "remove", "path": f"/todos/{key}"}),
        KEYS.map(lambda key: {"op": "replace", "path": f"/todos/{key}/title", "value": "x"}),
        st.just({"op": "add", "path": "/todos", "value": {}}),
    ),
    max_size=6,
)


@given(st.lists(WRITES, max_size=4))
def test_state_sqlite_and_the_pure_function_agree(writes: list[list[Op]]) -> None:
    copy = WorkingCopy(SCHEMA)
    try:
        state: Any = copy.state
        for ops in writes:
            before = copy.state
            with copy.record() as journal:
                copy.apply(parse_row_ops(ops))
            state = apply_row_ops(state, parse_row_ops(ops))
            assert copy.state == state
            rows = copy.query("SELECT id, title, weight FROM todos ORDER BY id", ())
            assert rows == [
                {name: row[name] for name in ("id", "title", "weight")}
                for _, row in sorted(state["todos"].items())
            ]
            assert apply_row_ops(before, parse_row_ops(journal.ops())) == state
            assert apply_row_ops(state, parse_row_ops(journal.inverse())) == before
    finally:
        copy.close()

"""Actions: what may be registered, which arguments they take, and what `tx` gives them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from patches.algorithms.replay import Actions, Tx
from patches.algorithms.replay.clock import Clock, Time, parse_clock
from patches.algorithms.replay.ids import canonical_json, random_float, row_id
from patches.algorithms.replay.running import Invocation, Outcome, run
from patches.errors import (
    ActionRefusedError,
    DuplicateIdentityError,
    InvalidRowError,
    SchemaError,
)
from patches.rows import F, Schema
from patches.rows.working_copy import WorkingCopy


class Todo:
    id: str
    list_id: str
    slot: str = "a"
    title: str = ""
    done: bool = False
    tags: list[str] = []  # noqa: RUF012  # a default of the column


def new_actions() -> Actions:
    schema = Schema("todos")
    schema.table("todos", identity=("list_id", "slot"))(Todo)
    return Actions(schema)


def do(actions: Actions, fn: Any, change_id: str = "c1", **args: Any) -> Outcome:
    copy = WorkingCopy(actions.schema)
    action = actions.action_of(fn)
    invocation = Invocation(
        change_id=change_id,
        action=action,
        args=action.check_args(args),
        now=7,
        author="ann",
        rights=None,
    )
    return run(copy, invocation)


def test_an_action_inserts_reads_and_changes_rows() -> None:
    actions = new_actions()

    @actions.define("work")
    def work(tx: Tx) -> list[str]:
        key = tx.todos.insert(list_id="home", title="Milk", tags=["x"])
        assert key == tx.id("todos", list_id="home", slot="a")
        tx.todos.insert(id="own", list_id="work", done=True)
        own = tx.todos.get("own")
        assert own is not None
        assert own["done"] is True
        assert tx.todos.get("none") is None
        assert tx.todos.count() == 2
        assert tx.todos.count(list_id="home") == 1
        assert [row["id"] for row in tx.todos.where(F.done == True)] == ["own"]  # noqa: E712  # makes a condition
        assert [row["id"] for row in tx.todos.where(F.title.prefix("M"), done=False)] == [key]
        assert len(tx.table("todos").all()) == 2
        assert tx.todos.update(key, title="Bread")
        assert not tx.todos.update("none", title="x")
        assert tx.todos.delete("own")
        assert not tx.todos.delete("own")
        assert tx.sql("SELECT title FROM todos WHERE done = ?", False) == [{"title": "Bread"}]
        assert (tx.now, tx.author, tx.change_id) == (7, "ann", "c1")
        return [key]

    outcome = do(actions, work)
    (key,) = outcome.result
    assert [(op["op"], op["path"]) for op in outcome.ops] == [("add", f"/todos/{key}")]
    assert outcome.ops[0]["value"]["title"] == "Bread"


def test_ids_and_random_numbers_are_those_of_the_change() -> None:
    first, again, other = (row_id(c, "todos", ["home", "a"]) for c in ("c1", "c1", "c2"))
    assert first == again != other
    assert uuid.UUID(first).version == 5
    assert row_id("c1", "todos", [1]) == row_id("c1", "todos", [1.0])
    numbers = [random_float("c1", number) for number in range(1000)]
    assert numbers == [random_float("c1", number) for number in range(1000)]
    assert all(0 <= number < 1 for number in numbers)
    assert 0.45 < sum(numbers) / 1000 < 0.55


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1.0, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        (0.1, "0.1"),
        (1e21, "1e+21"),
        ('"\\\n', '"\\"\\\\\\u000a"'),
        ({"é": "ü"}, '{"é":"ü"}'),
    ],
)
def test_canonical_json_has_one_form(value: Any, expected: str) -> None:
    assert canonical_json(value) == expected


def test_two_rows_of_one_identity_in_one_action_are_refused() -> None:
    actions = new_actions()

    @actions.define("twice")
    def twice(tx: Tx) -> None:
        tx.todos.insert(list_id="home")
        tx.todos.insert(list_id="home", title="other")

    with pytest.raises(DuplicateIdentityError, match="list_id, slot") as caught:
        do(actions, twice)
    assert caught.value.table == "todos"


def test_a_row_whose_key_is_taken_is_refused() -> None:
    actions = new_actions()

    @actions.define("twice")
    def twice(tx: Tx) -> None:
        tx.todos.insert(id="a", list_id="x")
        tx.todos.insert(id="a", list_id="y")

    with pytest.raises(InvalidRowError, match="there is a row 'a'"):
        do(actions, twice)


def test_an_action_that_writes_too_many_rows_is_refused() -> None:
    actions = new_actions()

    @actions.define("many")
    def many(tx: Tx) -> None:
        tx.sql(
            "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n <= 10000) "
            "INSERT INTO todos(id, list_id) SELECT 'k' || n, 'x' FROM c"
        )

    with pytest.raises(ActionRefusedError, match="writes 10001 rows, at most 10000"):
        do(actions, many)


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({}, "needs the argument 'title'"),
        ({"title": 1}, "'title': expected a string"),
        ({"title": "x", "more": 1}, "no argument 'more'"),
        ({"title": "x", "count": True}, "'count': expected an integer"),
        ({"title": "x", "data": {1, 2}}, "not JSON"),
        ({"title": "x" * 70_000}, "at most 65536"),
    ],
)
def test_bad_arguments_raise_before_anything_runs(args: dict[str, Any], problem: str) -> None:
    actions = new_actions()

    @actions.define("add")
    def add(tx: Tx, *, title: str, count: int = 1, data: Any = None) -> None:
        raise AssertionError

    with pytest.raises(TypeError, match=problem):
        actions.action_of(add).check_args(args)


def test_a_bad_result_raises_and_leaves_nothing() -> None:
    actions = new_actions()

    @actions.define("add")
    def add(tx: Tx) -> str:
        return 5  # type: ignore[return-value]  # what is tested

    with pytest.raises(TypeError, match="result: expected a string"):
        do(actions, add)


def test_what_cannot_be_an_action_is_refused() -> None:
    actions = new_actions()

    async def later(tx: Tx) -> None: ...
    def positional(tx: Tx, title: str, /) -> None: ...
    def anything(tx: Tx, **more: str) -> None: ...
    def odd(tx: Tx, *, title: set[str]) -> None: ...
    def fine(tx: Tx, *, title: str) -> None: ...

    for function, problem in (
        (later, "coroutine"),
        (positional, "cannot be given by its name"),
        (anything, "cannot be given by its name"),
        (odd, "cannot be a column"),
    ):
        with pytest.raises(SchemaError, match=problem):
            actions.define("x")(function)
    with pytest.raises(SchemaError, match="expected a name"):
        actions.define("a b")(fine)
    actions.define("x", version=2)(fine)
    with pytest.raises(SchemaError, match="defined twice"):
        actions.define("x", version=2)(fine)
    assert actions.names == ("x@2",)
    assert actions.find("x@1") is None
    with pytest.raises(TypeError, match="not an action of this document; there are x@2"):
        actions.action_of("x@1")


def test_the_clock_never_goes_back_and_follows_what_is_received() -> None:
    time = Time().tick(1_000)
    assert time == Time(1_000, 0)
    assert time.tick(1_000) == Time(1_000, 1)
    assert time.tick(400) == Time(1_000, 1)
    ahead = time.observe(Clock(5_000, 3, "b"))
    assert ahead.tick(1_200) == Time(5_000, 4)
    assert ahead.observe(Clock(5_000, 1, "c")) == ahead
    assert ahead.tick(1_200).clock("a").key("x") > Clock(5_000, 3, "b").key("y")


@pytest.mark.parametrize(
    "wire",
    [None, [], [1, 2], [1, 2, 3], [True, 0, "a"], [-1, 0, "a"], [1.0, 0, "a"], [2**53, 0, "a"],
     [1, 0, ""], [1, 0, "a" * 201]],
)  # fmt: skip
def test_what_is_no_clock(wire: Any) -> None:
    assert parse_clock(wire) is None
    assert parse_clock([1, 2, "a"]) == Clock(1, 2, "a")

"""Conditions mean the same in Python and in SQLite."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.errors import InvalidConditionError
from patches.model import codec
from patches.model.json_values import Json
from patches.rows import Condition, F, Row, Schema, claim, parse_condition
from patches.rows.conditions import Comparison, IsNull, Joined, Not, OneOf


class Item:
    id: str
    name: str | None
    count: int | None
    weight: float | None
    done: bool | None
    tags: list[str] | None


def items() -> Schema:
    schema = Schema("items")
    schema.table("items")(Item)
    return schema


TABLE = items().tables["items"]
TYPES = "id TEXT PRIMARY KEY, name TEXT, count INTEGER, weight REAL, done BOOLEAN, tags TEXT"

STRINGS = st.sampled_from(["", "a", "ab", "b", "A", "é", "é", "😀", "\uffff", "a\0b", "1", "true"])
NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 1.0, 1.5, -0.0, 1e300, 2**53 - 1, 2.0**53, 10**20, 1e20, 0.1]
)
INTEGERS = st.sampled_from([0, 1, -1, 2, 2**53 - 1, 1 - 2**53])
BOOLEANS = st.booleans()
ROWS = st.fixed_dictionaries(
    {
        "id": st.just("x"),
        "name": st.none() | STRINGS,
        "count": st.none() | INTEGERS,
        "weight": st.none() | NUMBERS,
        "done": st.none() | BOOLEANS,
        "tags": st.none() | st.just([]) | st.just(["a"]),
    }
)
SCALARS = st.none() | STRINGS | NUMBERS | BOOLEANS
CLAIMS = {
    "name": "a",
    "count": 1,
    "done": True,
    "list": ["a", 1, True, None, {}, "\ud83d", float("nan")],
    "object": {"a": 1},
}
VALUES = SCALARS | st.sampled_from([claim[name] for name in [*CLAIMS, "missing"]])
COLUMNS = st.sampled_from(list(TABLE.columns))
COMPARED = st.builds(
    Comparison, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), COLUMNS, VALUES
)
SEARCHED = st.builds(Comparison, st.sampled_from(["prefix", "contains"]), COLUMNS, STRINGS)
LEAVES = (
    COMPARED
    | SEARCHED
    | st.builds(OneOf, COLUMNS, st.lists(SCALARS, max_size=3).map(tuple))
    | st.builds(OneOf, COLUMNS, st.sampled_from([claim.list, claim.name, claim.missing]))
    | st.builds(IsNull, COLUMNS)
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    LEAVES,
    lambda below: (
        st.builds(Not, below)
        | st.builds(
            Joined,
            st.sampled_from(["and", "or"]),
            st.lists(below, min_size=1, max_size=3).map(tuple),
        )
    ),
    max_leaves=6,
)


def in_sqlite(condition: Condition, row: Row) -> bool:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(f"CREATE TABLE items ({TYPES})")
        values = [
            codec.encode_text(value) if isinstance(value, list) else _bindable(value)
            for value in map(row.get, TABLE.columns)
        ]
        connection.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", values)
        sql, parameters = condition.to_sql(TABLE, CLAIMS)
        query = f"SELECT {sql} FROM items"
        ((found,),) = connection.execute(query, parameters)
        assert found in (0, 1)
        return bool(found)
    finally:
        connection.close()


def _bindable(value: Json) -> Json:
    return float(value) if type(value) is int and abs(value) > 2**60 else value


@settings(max_examples=600)
@given(CONDITIONS, ROWS)
def test_python_and_sqlite_agree(condition: Condition, row: Row) -> None:
    assert condition.matches(row, CLAIMS) == in_sqlite(condition, row)


@given(CONDITIONS, ROWS)
def test_a_condition_survives_the_wire(condition: Condition, row: Row) -> None:
    wire = codec.decode(codec.encode(condition.to_wire()))
    again = parse_condition(wire)
    assert again == condition
    assert again.matches(row, CLAIMS) == condition.matches(row, CLAIMS)


ROW: Row = {"id": "x", "name": "Ann", "count": None, "weight": 1.5, "done": True, "tags": ["a"]}

MEANINGS: list[tuple[Condition, bool]] = [
    (F.count == 1, False),
    (F.count != 1, False),
    (~(F.count == 1), True),
    (F.count == None, False),  # noqa: E711  # what is tested
    (F.count.is_null(), True),
    (F.done == True, True),  # noqa: E712  # makes a condition
    (F.done == 1, False),
    (F.done != 1, True),
    (F.done > False, False),
    (F.weight == "1.5", False),
    (F.weight > 1, True),
    (F.weight >= 1.5, True),
    (F.weight <= 1, False),
    (F.name < "Bob", True),
    (F.name < "ann", True),
    (F.name.prefix("An"), True),
    (F.name.prefix(""), True),
    (F.name.contains("nn"), True),
    (F.name.contains("N"), False),
    (F.name.in_(["Bob", "Ann"]), True),
    (F.name.in_([]), False),
    (F.done.in_([1]), False),
    (F["name"] == claim.me, True),
    (F.name == claim.nobody, False),
    ((F.name == "Ann") & ((F.weight > 2) | (F.done == True)), True),  # noqa: E712  # makes a condition
    (F.tags == "a", False),
    (F.tags != "a", True),
]


@pytest.mark.parametrize(("condition", "expected"), MEANINGS, ids=str)
def test_what_a_condition_means(condition: Condition, expected: bool) -> None:
    assert condition.matches(ROW, {"me": "Ann"}) is expected


def test_the_form_on_the_wire() -> None:
    condition = (F.owner == claim.user_id) & (F.votes < 10) & ~F.title.in_(["a", None])
    assert condition.to_wire() == [
        "and",
        ["=", "owner", {"claim": "user_id"}],
        ["<", "votes", 10],
        ["not", ["in", "title", ["a", None]]],
    ]
    assert condition.columns() == {"owner", "votes", "title"}


def nested(depth: int) -> Json:
    return ["null", "a"] if depth == 1 else ["not", nested(depth - 1)]


@pytest.mark.parametrize(
    "wire",
    [
        None,
        [],
        "=",
        ["and"],
        ["=", "a"],
        ["=", "a", 1, 2],
        ["=", 1, "a"],
        ["=", "a", [1]],
        ["=", "a", {}],
        ["=", "a", {"claim": 1}],
        ["=", "a", {"claim": "x", "more": 1}],
        ["=", "a", "\ud83d"],
        ["=", "a", float("nan")],
        ["=", "a", 2**60 + 1],
        ["like", "a", "b"],
        ["prefix", "a", 1],
        ["in", "a", "b"],
        ["in", "a", [[1]]],
        ["in", "a", list(range(1001))],
        ["not", ["null", "a"], ["null", "a"]],
        ["or", *([["null", "a"]] * 32)],
        ["and", *([["or", *([["null", "a"]] * 7)]] * 4)],
        nested(9),
        nested(900),
    ],
    ids=lambda wire: str(wire)[:40],
)
def test_what_is_no_condition_is_refused(wire: Any) -> None:
    with pytest.raises(InvalidConditionError):
        parse_condition(wire)


def test_the_largest_conditions_are_taken() -> None:
    parse_condition(["or", *([["null", "a"]] * 31)])
    parse_condition(nested(8))


def test_a_condition_that_grows_too_large_is_refused_where_it_is_written() -> None:
    condition = F.a == 0
    for number in range(30):
        condition |= F.a == number
    with pytest.raises(InvalidConditionError, match="at most 32 nodes"):
        condition | (F.a == 31)


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(InvalidConditionError, match="no column 'colour'"):
        (F.colour == "red").check(TABLE)
    with pytest.raises(InvalidConditionError, match="no column"):
        (F['x" OR 1'] == "red").to_sql(TABLE)


def test_and_or_not_of_python_are_refused() -> None:
    with pytest.raises(TypeError, match="combined with &"):
        bool(F.a == 1)
    with pytest.raises(TypeError, match="compared with a value"):
        bool(F.a)
    with pytest.raises(TypeError, match="expected a condition"):
        (F.a == 1) & F.b  # type: ignore[operator]  # what is tested

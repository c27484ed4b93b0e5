"""Tables are declared from plain classes; what does not fit them is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from patches.errors import InvalidRowError, SchemaError
from patches.model.json_values import Json
from patches.rows import Schema, parse_row_ops


@dataclass
class Place:
    x: int
    y: int = 0


class Todo:
    id: str
    title: str
    done: bool = False
    note: str | None = None
    count: int = 0
    weight: float = 0.5
    tags: list[str] = []  # noqa: RUF012  # a default of the column
    more: dict[str, Any] = {}  # noqa: RUF012  # a default of the column
    place: Place | None = None
    level: Literal["low", "high"] = "low"
    mro: str | None = None
    audience: str = "*"


def todos() -> Schema:
    schema = Schema("todos")
    schema.table("todos", identity=("title",))(Todo)
    return schema


TABLE = todos().tables["todos"]


def test_a_row_is_completed_with_defaults_in_the_order_of_the_class() -> None:
    row = TABLE.complete({"title": "Milk", "id": "a"})
    assert list(row.items()) == [
        ("id", "a"),
        ("title", "Milk"),
        ("done", False),
        ("note", None),
        ("count", 0),
        ("weight", 0.5),
        ("tags", []),
        ("more", {}),
        ("place", None),
        ("level", "low"),
        ("mro", None),
        ("audience", "*"),
    ]


def test_defaults_and_given_values_are_not_shared() -> None:
    first = TABLE.complete({"id": "a", "title": ""})
    first["tags"].append("x")
    given = ["y"]
    second = TABLE.complete({"id": "b", "title": "", "more": {"list": given}})
    given.append("z")
    assert second["tags"] == []
    assert second["more"] == {"list": ["y"]}
    assert Todo.tags == []


BAD: list[tuple[str, Json, str]] = [
    ("title", None, "expected a string"),
    ("title", 3, "expected a string"),
    ("title", "\ud83d", "lone surrogates"),
    ("done", 1, "expected true or false"),
    ("done", None, "expected true or false"),
    ("count", True, "expected an integer"),
    ("count", 1.5, "expected an integer"),
    ("count", 2**53, "within"),
    ("weight", True, "expected a number"),
    ("weight", float("nan"), "finite"),
    ("weight", float("inf"), "finite"),
    ("weight", 2**60 + 1, "exactly"),
    ("weight", 10**400, "exactly"),
    ("tags", "a", "expected an array"),
    ("tags", ["a", 1], "item 1: expected a string"),
    ("more", [], "expected an object"),
    ("more", {"a": {1}}, "member 'a'"),
    ("more", {1: 2}, "keys that are strings"),
    ("place", {}, "'x' of Place is missing"),
    ("place", {"x": 1, "z": 2}, "unknown member 'z'"),
    ("place", {"x": "1"}, "member 'x': expected an integer"),
    ("level", "middle", "expected one of 'low', 'high'"),
    ("id", "", "expected 1 to 200 bytes"),
    ("id", "é" * 101, "expected 1 to 200 bytes"),
    ("colour", "red", "no such column"),
]


@pytest.mark.parametrize(("column", "value", "problem"), BAD, ids=str)
def test_a_value_that_does_not_fit_is_refused(column: str, value: Json, problem: str) -> None:
    with pytest.raises(InvalidRowError, match=problem) as caught:
        TABLE.complete({"id": "a", "title": "", column: value})
    assert (caught.value.table, caught.value.column) == ("todos", column)


@pytest.mark.parametrize(
    ("column", "value"),
    [("weight", 3), ("weight", 10**20), ("place", {"x": 1}), ("note", "n"), ("level", "high")],
)
def test_a_value_that_fits_is_taken(column: str, value: Json) -> None:
    assert TABLE.complete({"id": "a", "title": "", column: value})[column] == value


def test_a_needed_value_is_missed() -> None:
    with pytest.raises(InvalidRowError, match=r"todos\.title: a value is needed"):
        TABLE.complete({"id": "a"})


@pytest.mark.parametrize("column", ["id", "audience"])
def test_key_and_audience_of_a_row_never_change(column: str) -> None:
    with pytest.raises(InvalidRowError, match="never changes"):
        TABLE.check_columns({column: "x"})


def declare(name: str = "t", *, identity: tuple[str, ...] = (), **members: Any) -> None:
    annotations = {"id": str} | members.pop("annotations", {})
    declared = type("Declared", (), {"__annotations__": annotations, **members})
    Schema("s").table(name, identity=identity)(declared)


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ({"name": "Todos"}, "expected lower-case"),
        ({"name": "_patches_x"}, "reserved"),
        ({"name": "a" * 64}, "at most 63"),
        ({"annotations": {"id": int}}, "the key is missing"),
        ({"annotations": {"a-b": int}}, "expected lower-case"),
        ({"annotations": {"a": set}}, "set cannot be a column"),
        ({"annotations": {"a": Any}}, "of any type"),
        ({"annotations": {"a": int | str}}, "only allowed with None"),
        ({"annotations": {"a": dict[int, str]}}, "keys of a JSON object"),
        ({"annotations": {"a": Literal[1, "a"]}}, "of one type"),
        ({"annotations": {"a": int}, "a": "x"}, "the default does not fit"),
        ({"annotations": {"audience": int}}, "audience"),
        ({"annotations": {"a": "Nowhere"}}, "cannot be resolved"),
        ({"identity": ("b",)}, "no column"),
        ({"identity": ("id",)}, "no column"),
    ],
    ids=str,
)
def test_a_wrong_declaration_is_refused(how: dict[str, Any], problem: str) -> None:
    with pytest.raises(SchemaError, match=problem):
        declare(**how)


def test_a_table_is_declared_once() -> None:
    schema = todos()
    with pytest.raises(SchemaError, match="twice"):
        schema.table("todos")(Todo)


def test_a_dataclass_can_declare_a_table() -> None:
    @dataclass
    class Item:
        id: str
        tags: list[str] = field(default_factory=lambda: ["new"])
        rank: int = 7

    schema = Schema("s")
    schema.table("items")(Item)
    assert schema.tables["items"].complete({"id": "a"}) == {"id": "a", "tags": ["new"], "rank": 7}


def test_the_key_may_have_another_name() -> None:
    class Item:
        code: str
        id: int = 0

    schema = Schema("s")
    schema.table("items", key="code")(Item)
    schema.check_ops(
        parse_row_ops([{"op": "add", "path": "/items/a", "value": {"code": "a", "id": 1}}])
    )


def test_migrations_are_given_in_order() -> None:
    schema = Schema("s", version=3)
    schema.migrate(3, "three")
    schema.migrate(2, "two")
    assert schema.migrations_since(1) == ["two", "three"]
    assert schema.migrations_since(2) == ["three"]
    with pytest.raises(SchemaError, match="twice"):
        schema.migrate(3, "again")
    with pytest.raises(SchemaError, match="from 2 to 3"):
        schema.migrate(4, "more")


ROW = TABLE.complete({"id": "a", "title": "Milk"})


@pytest.mark.parametrize(
    ("op", "unknown", "problem"),
    [
        ({"op": "add", "path": "/todos/a", "value": ROW}, None, None),
        ({"op": "add", "path": "/todos", "value": {}}, None, None),
        ({"op": "remove", "path": "/todos/a"}, None, None),
        ({"op": "replace", "path": "/todos/a/done", "value": True}, None, None),
        ({"op": "replace", "path": "/todos/a/done", "value": 1}, None, "true or false"),
        ({"op": "replace", "path": "/todos/a/id", "value": "b"}, None, "never changes"),
        ({"op": "add", "path": "/todos/b", "value": ROW}, None, "as the path"),
        ({"op": "add", "path": "/todos/a", "value": {"id": "a"}}, None, "value is needed"),
        ({"op": "add", "path": "/x/a", "value": ROW}, ("x", None), "no such table"),
        (
            {"op": "replace", "path": "/todos/a/new", "value": 1},
            ("todos", "new"),
            "no such column",
        ),
        (
            {"op": "add", "path": "/todos/a", "value": ROW | {"new": 1}},
            ("todos", "new"),
            "no such column",
        ),
    ],
    ids=str,
)
def test_operations_are_checked_against_the_tables(
    op: dict[str, Any], unknown: tuple[str, str | None] | None, problem: str | None
) -> None:
    schema, parsed = todos(), parse_row_ops([op])
    assert schema.unknown_part(parsed) == unknown
    if problem is None:
        schema.check_ops(parsed)
    else:
        with pytest.raises(InvalidRowError, match=problem):
            schema.check_ops(parsed)

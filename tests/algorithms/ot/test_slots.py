"""Which programs are walked operation by operation."""

from __future__ import annotations

import pytest

from patches.algorithms.ot.slots import counter_place, is_independent, steady_place
from patches.model.json_values import Op


def ops(*specs: str) -> list[Op]:
    made: list[Op] = []
    for spec in specs:
        name, path, *rest = spec.split(" ")
        made.append({"op": name, "path": path, **dict.fromkeys(rest, True)})
    return made


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (ops("@inc /n", "@txt /t"), True),
        (ops("replace /a/b", "replace /a/c", "remove /d"), True),
        (ops("replace /ab", "replace /a"), True),
        (ops("add /l/0", "replace /m/0/k"), True),
        (ops("replace /l/0/a", "replace /l/1/a"), True),
        ([], True),
        (ops("replace /a", "replace /a"), False),
        (ops("replace /a", "replace /a/b/c"), False),
        (ops("add /l/0", "replace /l/3/k"), False),
        (ops("replace /l/0", "replace /l/1"), False),
        (ops("add /0", "replace /a"), False),
        (ops("replace /a", "test /b"), False),
        (ops("replace /a", "add /b soft"), False),
        (ops("replace /a", "remove /y/5 obj"), False),
        ([{"op": "move", "from": "/a", "path": "/b"}], False),
        (ops("replace "), False),
    ],
    ids=str,
)
def test_operations_are_walked_alone_where_none_can_touch_another(
    program: list[Op], expected: bool
) -> None:
    assert is_independent(program) is expected


def test_a_counter_is_one_operation_on_a_number() -> None:
    assert counter_place(ops("@max /n")) == "/n"
    assert counter_place(ops("@max /n soft")) is None
    assert counter_place(ops("replace /n")) is None
    assert counter_place(ops("@inc /n", "@inc /m")) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a", "/a"),
        ("/a/b", "/a/b"),
        ("/l/3", "/l"),
        ("/l/3/k/2", "/l"),
        ("/5", ""),
        ("/a/", "/a/"),
    ],
)
def test_a_steady_place_has_no_index_in_it(path: str, expected: str) -> None:
    assert steady_place({"op": "replace", "path": path}) == expected

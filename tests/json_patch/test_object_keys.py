"""Keys that look like indexes: a marked operation neither shifts nor is shifted."""

from __future__ import annotations

import pytest

from patches.json_patch import apply_patch, compose_patch, invert_patch, transform_patch
from patches.json_patch.object_keys import with_mark
from patches.model.json_values import Op

REMOVE_5: Op = {"op": "remove", "path": "/y/5", "obj": True}
ADD_5: Op = {"op": "add", "path": "/y/5", "value": 1, "obj": True}
SET_7: Op = {"op": "replace", "path": "/y/7", "value": 9, "obj": True}


def plain(op: Op) -> Op:
    return {key: value for key, value in op.items() if key != "obj"}


@pytest.mark.parametrize("first", [REMOVE_5, ADD_5], ids=["remove", "add"])
@pytest.mark.parametrize("other_ops_first", [False, True])
def test_if_one_of_two_is_marked_neither_is_shifted(first: Op, other_ops_first: bool) -> None:
    for committed, incoming in ((first, SET_7), (first, plain(SET_7)), (plain(first), SET_7)):
        given = [incoming]
        result = transform_patch(None, [committed], given, other_ops_first=other_ops_first)
        assert result is given
    shifted = transform_patch(None, [plain(first)], [plain(SET_7)], other_ops_first=other_ops_first)
    assert shifted != [plain(SET_7)]  # as recorded of @dabble/patches 0.28.1


def test_a_marked_operation_is_shifted_where_a_list_is_above_its_object() -> None:
    op: Op = {"op": "replace", "path": "/l/3/users/5", "value": 1, "obj": True}
    left = transform_patch(None, [{"op": "remove", "path": "/l/1"}], [op])
    assert left == [{**op, "path": "/l/2/users/5"}]


def test_removing_a_member_drops_what_was_below_it_and_no_more() -> None:
    below: Op = {"op": "replace", "path": "/y/5/name", "value": "x"}
    beside: Op = {"op": "replace", "path": "/y/6/name", "value": "x"}
    assert transform_patch(None, [REMOVE_5], [below, beside]) == [beside]


@pytest.mark.parametrize(
    ("move", "op", "expected"),
    [
        (
            {"op": "move", "from": "/y/5", "path": "/y/6", "obj": True},
            REMOVE_5,
            {"op": "remove", "path": "/y/6", "obj": True},
        ),
        (
            {"op": "move", "from": "/x", "path": "/y/6", "obj": True},
            {"op": "replace", "path": "/x", "value": 1},
            {"op": "replace", "path": "/y/6", "value": 1, "obj": True},
        ),
        (
            {"op": "move", "from": "/y/5", "path": "/l/0", "obj": "from"},
            REMOVE_5,
            {"op": "remove", "path": "/l/0"},
        ),
        (
            {"op": "move", "from": "/l/0", "path": "/y/5", "obj": "path"},
            {"op": "copy", "from": "/l/0", "path": "/l/2"},
            {"op": "copy", "from": "/y/5", "path": "/l/1", "obj": "from"},
        ),
        (
            {"op": "move", "from": "/y/5", "path": "/z", "obj": True},
            REMOVE_5,
            {"op": "remove", "path": "/z"},
        ),
    ],
    ids=["to a member", "from a plain name", "to an element", "a source", "to a plain name"],
)
def test_what_follows_a_moved_value_is_marked_by_where_it_leads(
    move: Op, op: Op, expected: Op
) -> None:
    assert transform_patch(None, [move], [op]) == [expected]


def test_what_stands_for_a_superseded_move_keeps_the_marks() -> None:
    queue: list[Op] = [{"op": "replace", "path": "/x", "value": 1}]
    taken: Op = {"op": "move", "from": "/y/5", "path": "/x", "obj": True}
    onward: Op = {"op": "move", "from": "/x", "path": "/y/7", "obj": True}
    removed = transform_patch(None, queue, [taken], other_ops_first=True)
    assert removed == [{"op": "remove", "path": "/y/5", "obj": True}]
    escaped = transform_patch(None, queue, [taken, onward], other_ops_first=True)
    assert escaped == [{"op": "move", "from": "/y/5", "path": "/y/7", "obj": True}]


def test_an_object_move_over_an_older_set_leaves_a_marked_removal() -> None:
    queue: list[Op] = [{"op": "move", "from": "/x", "path": "/y/5", "obj": True}]
    older: Op = {"op": "replace", "path": "/x", "value": 2}
    assert transform_patch(None, queue, [older], other_ops_first=True) == [
        {"op": "remove", "path": "/y/5", "obj": True},
        older,
    ]


def test_apply_ignores_the_mark() -> None:
    assert apply_patch({"y": {"5": 1}}, [REMOVE_5, SET_7], strict=True) == {"y": {"7": 9}}
    assert apply_patch({"y": [0, 1, 2, 3, 4, 5]}, [REMOVE_5], strict=True) == {"y": [0, 1, 2, 3, 4]}


def test_inverses_are_marked_as_their_operations_are() -> None:
    state = {"y": {"5": 1}, "l": [1]}
    ops: list[Op] = [
        {"op": "move", "from": "/y/5", "path": "/l/0", "obj": "from"},
        SET_7,
        {"op": "remove", "path": "/y/7", "obj": True},
    ]
    assert invert_patch(state, ops) == [
        {"op": "add", "path": "/y/7", "value": 9, "obj": True},
        {"op": "remove", "path": "/y/7", "obj": True},
        {"op": "move", "from": "/l/0", "path": "/y/5", "obj": "path"},
    ]


@pytest.mark.parametrize("marked_one", [0, 1])
def test_two_that_are_composed_are_marked_if_one_was(marked_one: int) -> None:
    ops = [plain(SET_7), {**plain(SET_7), "value": 10}]
    ops[marked_one] = {**ops[marked_one], "obj": True}
    assert compose_patch(ops) == [{**SET_7, "value": 10}]


def test_a_mark_says_which_end_only_where_the_other_looks_like_an_index_too() -> None:
    move: Op = {"op": "move", "from": "/y/5", "path": "/l/0"}
    assert with_mark(move, path=True, source=True) == {**move, "obj": True}
    assert with_mark(move, path=False, source=True) == {**move, "obj": "from"}
    assert with_mark(move, path=True, source=False) == {**move, "obj": "path"}
    assert with_mark(move, path=False, source=False) is move
    named: Op = {"op": "move", "from": "/y/5", "path": "/l"}
    assert with_mark(named, path=True, source=True) == {**named, "obj": True}
    assert with_mark({**named, "obj": True}, path=True, source=False) == named

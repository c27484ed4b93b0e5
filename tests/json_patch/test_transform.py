"""Transform beside the recorded cases and the laws: own handlers, and what is skipped."""

from __future__ import annotations

import pytest

from patches.errors import PatchError
from patches.json_patch import CustomOp, compose_patch, invert_patch, transform_patch
from patches.json_patch.compose import compose_all
from patches.model.json_values import Op
from patches.testing.typing_sessions import invented_session
from patches.text import Delta, DeltaOp, compose, text_of

TIMES = {"@times": CustomOp(apply=lambda current, value: current * value)}


def op(name: str, path: str, **fields: object) -> Op:
    return {"op": name, "path": path, **fields}


def test_disjoint_lists_come_back_as_they_are() -> None:
    committed = [op("replace", f"/a{number}/x", value=1) for number in range(50)]
    incoming = [op("replace", f"/b{number}/x", value=1) for number in range(50)]
    assert transform_patch(None, committed, incoming) is incoming


def test_a_move_leads_into_a_part_that_its_own_path_does_not_name() -> None:
    committed = [op("remove", "/a")]
    incoming = [op("move", "/c", **{"from": "/a"}), op("replace", "/c/x", value=1)]
    assert transform_patch(None, committed, incoming) == []


def test_a_list_at_the_root_is_shifted() -> None:
    incoming = [op("replace", f"/{number}/x", value=1) for number in range(6)]
    after = transform_patch(None, [op("add", "/2", value=1)], incoming)
    assert [each["path"] for each in after] == ["/0/x", "/1/x", "/3/x", "/4/x", "/5/x", "/6/x"]


def test_an_operation_without_a_path_is_refused() -> None:
    with pytest.raises(PatchError, match="requires a path"):
        transform_patch(None, [op("remove", "/a")], [{"op": "remove"}])
    with pytest.raises(PatchError, match="requires a path"):
        transform_patch(None, [{"op": "remove"}], [op("remove", "/a")])


def test_a_custom_operation_behaves_like_an_update() -> None:
    committed = [op("@times", "/n", value=2)]
    incoming = [op("replace", "/n/x", value=1), op("@times", "/n", value=3)]
    assert transform_patch(None, committed, incoming, custom_ops=TIMES) == incoming[1:]


def test_a_custom_operation_may_transform_by_itself() -> None:
    custom = {"@drop": CustomOp(apply=lambda a, b: a, transform=lambda state, op, incoming: [])}
    committed, incoming = [op("@drop", "/elsewhere")], [op("replace", "/n", value=3)]
    assert transform_patch(None, committed, incoming, custom_ops=custom) == []


def test_a_custom_operation_is_inverted_by_what_was_there_or_by_itself() -> None:
    ops = [op("@times", "/n", value=2)]
    assert invert_patch({"n": 5}, ops, custom_ops=TIMES) == [op("replace", "/n", value=5)]
    halve = CustomOp(
        apply=lambda current, value: current * value,
        invert=lambda op, current: {**op, "value": 1 / op["value"]},
    )
    assert invert_patch({"n": 5}, ops, custom_ops={"@times": halve}) == [
        op("@times", "/n", value=0.5)
    ]


def test_custom_operations_fold_if_they_say_how() -> None:
    ops = [op("@times", "/n", value=2), op("@times", "/n", value=3)]
    assert compose_patch(ops, custom_ops=TIMES) is ops
    folding = {"@times": CustomOp(apply=lambda a, b: a * b, compose=lambda a, b: a * b)}
    assert compose_patch(ops, custom_ops=folding) == [op("@times", "/n", value=6)]


def test_a_sum_that_no_number_holds_is_not_folded() -> None:
    ops = [op("@inc", "/n", value=1.7e308), op("@inc", "/n", value=1.7e308)]
    assert compose_patch(ops) is ops


def test_composing_in_halves_gives_what_composing_in_turn_gives() -> None:
    session = invented_session(7, 400)
    deltas: list[list[DeltaOp]] = []
    text = ""
    for edits in session.transactions:
        for position, deleted, inserted in edits:
            before = Delta().insert(text[:position]).length()
            removed = Delta().insert(text[position : position + deleted]).length()
            deltas.append(Delta().retain(before).insert(inserted).delete(removed).ops)
            text = text[:position] + inserted + text[position + deleted :]
    start = len(deltas) // 2  # from there on the result retains and deletes too
    in_turn: list[DeltaOp] = []
    for delta in deltas[start:]:
        in_turn = compose(in_turn, delta)
    assert compose_all(deltas[start:]) == in_turn
    assert text_of(compose_all(deltas)) == text


def test_an_inverted_text_restores_what_was_no_text() -> None:
    ops = [op("@txt", "/t", value=[{"insert": "x"}])]
    assert invert_patch({"t": "plain"}, ops) == [op("replace", "/t", value="plain")]


@pytest.mark.parametrize("name", ["add", "copy"])
def test_two_appends_both_stay_in_both_directions(name: str) -> None:
    mine: Op = {"op": name, "path": "/l/-", "value": 1}
    if name == "copy":
        mine = {"op": name, "from": "/x", "path": "/l/-"}
    given: list[Op] = [{"op": "add", "path": "/l/-", "value": 2}]
    for other_ops_first in (False, True):
        assert transform_patch(None, [mine], given, other_ops_first=other_ops_first) is given

"""What is visible is what laying everything over again from the start would show."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.collections.optimistic import Tx
from patches.algorithms.collections.overlay import Layer, Overlay, laid
from patches.rows.row_ops import Row, RowOp
from patches.rows.schema import Schema

SCHEMA = Schema("board")


@SCHEMA.table("tasks")
class Task:
    id: str
    votes: int = 0


def put(key: str, votes: int = 0) -> RowOp:
    return RowOp("add", "tasks", key, None, {"id": key, "votes": votes})


def vote(key: str, votes: int) -> RowOp:
    return RowOp("replace", "tasks", key, "votes", votes)


def gone(key: str) -> RowOp:
    return RowOp("remove", "tasks", key)


EMPTIED = RowOp("clear", "tasks")


def votes(overlay: Overlay) -> dict[str, object]:
    return {key: row["votes"] for key, row in overlay.visible["tasks"].items()}


def made(**synced: int) -> Overlay:
    rows: dict[str, dict[str, Row]] = {
        "tasks": {key: {"id": key, "votes": value} for key, value in synced.items()}
    }
    return Overlay(rows, SCHEMA.tables)


def double(tx: Tx) -> None:
    for row in tx.tasks:
        tx.tasks.update(str(row["id"]), votes=int(row["votes"]) * 2)


def failing(tx: Tx) -> None:
    tx.tasks.insert(id="never", votes=1)
    raise ValueError("not now")


@pytest.mark.parametrize(
    ("op", "row", "after"),
    [
        pytest.param(put("a", 2), None, {"id": "a", "votes": 2}, id="insert"),
        pytest.param(put("a", 2), {"id": "a"}, {"id": "a"}, id="an insert of one that is there"),
        pytest.param(vote("a", 2), {"votes": 1}, {"votes": 2}, id="update"),
        pytest.param(vote("a", 2), None, None, id="an update of one that is not there"),
        pytest.param(gone("a"), {"votes": 1}, None, id="delete"),
        pytest.param(gone("a"), None, None, id="a delete of one that is not there"),
    ],
)
def test_one_operation_on_a_row(op: RowOp, row: Row | None, after: Row | None) -> None:
    assert laid(row, op) == after


def test_a_write_is_shown_over_synced_rows_until_it_is_confirmed() -> None:
    overlay = made(a=1)
    changed = overlay.add(Layer("w1", [vote("a", 5)]))
    assert changed == {("tasks", "a"): ({"id": "a", "votes": 1}, {"id": "a", "votes": 5})}
    assert votes(overlay) == {"a": 5}
    assert overlay.is_touched(("tasks", "a"))
    assert overlay.step([vote("a", 5)], remove=["w1"]) == {}
    assert votes(overlay) == {"a": 5}
    assert not overlay.is_touched(("tasks", "a"))


def test_a_write_that_is_taken_back_shows_what_is_below() -> None:
    overlay = made(a=1)
    overlay.add(Layer("w1", [vote("a", 5)]))
    overlay.add(Layer("w2", [put("b", 7)]))
    overlay.step([vote("a", 2)])
    assert votes(overlay) == {"a": 5, "b": 7}
    overlay.step(remove=["w1", "w2"])
    assert votes(overlay) == {"a": 2}


def test_writes_on_a_row_that_was_deleted_wait_without_effect() -> None:
    overlay = made(a=1)
    overlay.add(Layer("w1", [vote("a", 5)]))
    overlay.step([gone("a")])
    assert votes(overlay) == {}
    overlay.step([put("a", 3)])
    assert votes(overlay) == {"a": 5}


def test_an_emptied_table_leaves_only_what_was_inserted_here() -> None:
    overlay = made(a=1, b=2)
    overlay.add(Layer("w1", [put("c", 3), vote("a", 9)]))
    overlay.step([EMPTIED])
    assert votes(overlay) == {"c": 3}


def test_a_row_in_progress_is_shown_until_it_is_committed() -> None:
    overlay = made()
    overlay.step(partials={("tasks", "a"): {"id": "a", "votes": 1}})
    overlay.step(partials={("tasks", "a"): {"id": "a", "votes": 2}})
    assert votes(overlay) == {"a": 2}
    overlay.step([put("a", 3)])
    assert votes(overlay) == {"a": 3}
    assert overlay.partials == {}


def test_a_row_in_progress_that_ends_shows_what_is_below() -> None:
    overlay = made(a=1)
    overlay.step(partials={("tasks", "a"): {"id": "a", "votes": 2}})
    overlay.step(partials={("tasks", "a"): None})
    assert votes(overlay) == {"a": 1}


def test_an_action_runs_again_on_what_is_visible_below_it() -> None:
    overlay = made(a=1)
    overlay.add(Layer("double", run=double))
    overlay.add(Layer("w", [put("z", 1)]))
    assert votes(overlay) == {"a": 2, "z": 1}
    overlay.step([put("b", 10), vote("a", 4)])
    assert votes(overlay) == {"a": 8, "b": 20, "z": 1}
    overlay.step(remove=["double"])
    assert votes(overlay) == {"a": 4, "b": 10, "z": 1}


def test_an_action_that_raises_at_once_changes_nothing() -> None:
    overlay = made(a=1)
    with pytest.raises(ValueError, match="not now"):
        overlay.add(Layer("w", run=failing))
    assert votes(overlay) == {"a": 1}
    assert list(overlay.layers) == []


def test_an_action_that_raises_later_has_no_effect_and_stays() -> None:
    def needs_a(tx: Tx) -> None:
        tx.tasks.update("a", votes=tx.tasks["a"]["votes"])
        tx.tasks.insert(id="b", votes=1)

    overlay = made(a=1)
    overlay.add(Layer("w", run=needs_a))
    assert votes(overlay) == {"a": 1, "b": 1}
    overlay.step([gone("a")])
    assert votes(overlay) == {}
    overlay.step([put("a", 2)])
    assert votes(overlay) == {"a": 2, "b": 1}


def test_rows_that_nobody_keeps_leave_unless_a_write_concerns_them() -> None:
    overlay = made(a=1, b=2)
    overlay.add(Layer("w", [vote("a", 5)]))
    places = [("tasks", "a"), ("tasks", "b")]
    overlay.step(review=places, keep=lambda _table, _key, _row: False)
    assert votes(overlay) == {"a": 5}
    overlay.step(remove=["w"], keep=lambda _table, _key, _row: False)
    assert votes(overlay) == {}


def test_an_update_of_one_row_touches_one_row() -> None:
    overlay = made(**{f"r{number}": number for number in range(5_000)})
    before = dict(overlay.visible["tasks"])
    changed = overlay.step([vote("r7", 99)])
    assert list(changed) == [("tasks", "r7")]
    same = [key for key, row in overlay.visible["tasks"].items() if before[key] is row]
    assert len(same) == 4_999


def from_scratch(
    synced: Mapping[str, Row], partials: Mapping[str, Row], layers: list[Layer]
) -> dict[str, Row]:
    """The definition: everything laid over again."""
    visible = {**synced, **partials}
    for layer in layers:
        ops = layer.ops
        if layer.run is not None:
            try:
                ops = Tx({"tasks": visible}, SCHEMA.tables).record(layer.run)
            except Exception:
                ops = []
        for op in ops:
            assert op.key is not None
            row = laid(visible.get(op.key), op)
            if row is None:
                visible.pop(op.key, None)
            else:
                visible[op.key] = row
    return visible


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_steps_come_to_the_same_as_starting_over(seed: int) -> None:
    source = random.Random(seed)
    overlay = made(a=1, b=2)
    keys = "abcd"

    def some_op() -> RowOp:
        key = source.choice(keys)
        return source.choice(
            [put(key, source.randrange(9)), vote(key, source.randrange(9)), gone(key)]
        )

    for number in range(30):
        what = source.randrange(6)
        if what == 0:
            overlay.add(Layer(f"w{number}", [some_op() for _ in range(source.randrange(1, 4))]))
        elif what == 1:
            overlay.add_stored(Layer(f"w{number}", run=source.choice([double, failing])))
        elif what == 2:
            row: Row = {"id": "a", "votes": number}
            overlay.step(partials={("tasks", "a"): source.choice([row, None])})
        else:
            known = [layer.id for layer in overlay.layers]
            remove = source.sample(known, source.randrange(len(known) + 1)) if known else []
            ops = [EMPTIED] if what == 3 and source.random() < 0.2 else [some_op()]
            overlay.step(ops, remove=remove)
        partials = {key: row for (_, key), row in overlay.partials.items()}
        expected = from_scratch(overlay.synced["tasks"], partials, list(overlay.layers))
        assert overlay.visible["tasks"] == expected

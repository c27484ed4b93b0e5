"""What an LWW commit stores, and what it answers."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.lww import FieldTable
from patches.model.change import ChangeInput
from patches.model.json_values import Op
from patches_server.lww import commit
from patches_server.lww.commit import Decision, decide, fresh_changes, timed_ops
from patches_server.lww.rows import Row, RowTable

NOW = 1_000
PATHS = ["/a", "/a/b", "/a/b/c", "/ab", "/n", "/n/m", "", "/x~1y"]
VALUES: list[Any] = [None, 0, 5, "s", True, {}, [], {"b": 1}, {"b": {"c": 2}}, [1]]


def random_op(source: random.Random) -> Op:
    op: Op = {"path": source.choice(PATHS), "ts": source.randrange(0, 20)}
    name = source.choice(["replace", "replace", "remove", "add", "@inc", "@max", "@min", "@bit"])
    op["op"] = name
    if name in ("replace", "add"):
        op["value"] = copy.deepcopy(source.choice(VALUES))
        if source.random() < 0.2:
            op["soft"] = True
    elif name != "remove":
        op["value"] = source.randrange(0, 9)
    return op


def random_table(source: random.Random) -> RowTable:
    fields = FieldTable()
    for _ in range(source.randrange(0, 6)):
        op = random_op(source)
        if op["op"] != "remove":
            op["op"] = "replace"
        fields.write(op)
    return RowTable(Row.from_op(op, rev=1, pos=pos) for pos, op in enumerate(fields))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_op_by_op_comes_to_the_same_as_all_at_once(seed: int) -> None:
    source = random.Random(seed)
    table = random_table(source)
    changes = [
        ChangeInput(id=f"c{n}", ops=[random_op(source) for _ in range(source.randrange(1, 5))])
        for n in range(source.randrange(1, 4))
    ]
    at_once = decide(table, changes, NOW)
    timed = [(change, timed_ops(change, NOW)) for change in changes]
    stepwise = commit._decision(table, commit._in_steps(table, timed))
    assert stepwise.ops == at_once.ops
    assert set(stepwise.hide) == set(at_once.hide)
    assert stepwise.corrections == at_once.corrections


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_what_a_commit_reads_is_enough(seed: int) -> None:
    """Deciding on the rows at, above and below the paths gives what all rows give."""
    source = random.Random(seed)
    table = random_table(source)
    changes = [ChangeInput(id="c", ops=[random_op(source) for _ in range(3)])]
    paths = {op["path"] for op in changes[0].ops}
    near = [
        row
        for row in table.rows()
        if any(
            row.path == path
            or row.path.startswith(path + "/")
            or (row.path and path.startswith(row.path + "/"))
            for path in paths
        )
    ]
    assert decide(RowTable(near), changes, NOW) == decide(table, changes, NOW)


def test_arguments_stay_as_they_are() -> None:
    source = random.Random(7)
    table = random_table(source)
    changes = [ChangeInput(id="c", ops=[random_op(source) for _ in range(9)])]
    before = copy.deepcopy([change.ops for change in changes])
    rows = copy.deepcopy([row.op for row in table.rows()])
    decide(table, changes, NOW)
    assert [change.ops for change in changes] == before
    assert [row.op for row in table.rows()] == rows


def test_times_are_the_ops_or_the_changes_or_the_servers() -> None:
    ops: list[Op] = [
        {"op": "remove", "path": "/a", "ts": 0},
        {"op": "remove", "path": "/b", "ts": None},
        {"op": "remove", "path": "/c", "ts": NOW + 1},
    ]
    change = ChangeInput(id="c", ops=ops, created_at=500)
    assert [op["ts"] for op in timed_ops(change, NOW)] == [0, 500, NOW]
    late = ChangeInput(id="c", ops=ops, created_at=NOW + 9)
    assert [op["ts"] for op in timed_ops(late, NOW)] == [0, NOW, NOW]
    untimed = ChangeInput(id="c", ops=ops)
    assert [op["ts"] for op in timed_ops(untimed, NOW)] == [0, NOW, NOW]


def test_fresh_changes_are_the_unseen_each_once() -> None:
    a, b = ChangeInput(id="a", ops=[]), ChangeInput(id="b", ops=[])
    assert fresh_changes([a, b, a], frozenset("b")) == [a]


def test_a_time_in_the_future_is_lowered_to_the_server_s() -> None:
    change = ChangeInput(id="c", ops=[{"op": "replace", "path": "/a", "value": 1, "ts": NOW + 9}])
    assert decide(RowTable([]), [change], NOW).ops[0]["ts"] == NOW


@pytest.mark.parametrize("path", ["", "/a", "/a/b", "/a/b/c"])
def test_a_later_write_wins_over_a_row_that_a_faster_clock_stored(path: str) -> None:
    stored = Row.from_op({"op": "replace", "path": path, "value": {}, "ts": NOW + 50}, rev=1, pos=0)

    def written_at(ts: int) -> Decision:
        op: Op = {"op": "replace", "path": "/a/b", "value": {"c": 1}, "ts": ts}
        return decide(RowTable([stored]), [ChangeInput(id="c", ops=[op])], NOW)

    assert [op["ts"] for op in written_at(NOW + 99).ops] == [NOW + 50]
    if path == "/a/b":
        assert not written_at(NOW + 49).ops

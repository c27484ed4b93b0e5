"""The rows that an open document shows, and what of them is sent."""

from __future__ import annotations

from typing import Any

from patches.algorithms.replay.changes import action_metadata
from patches.algorithms.replay.clock import Clock
from patches.algorithms.replay.tables import ClientRun
from patches.algorithms.replay.working import Maker, Working
from patches.model.change import Change
from patches.rows import apply_row_ops, parse_row_ops
from tests.algorithms.replay.a_board import a_board

BOARD = a_board()


def pending(ms: int, name: str = "add_todo", client: str = "me", **args: Any) -> Change:
    clock = Clock(ms, 0, client)
    given = args or {"slot": f"s{ms}", "title": f"t{ms}"}
    return Change(
        id=f"{client}{ms}",
        ops=[],
        base_rev=0,
        rev=1,
        created_at=ms,
        metadata=action_metadata(f"{name}@1", given, clock),
    )


def a_working(*changes: Change, is_client_run: bool = True) -> Working:
    run = ClientRun(partial=False) if is_client_run else None
    maker = Maker(actions=BOARD, new_id=lambda _rev: "new", now=lambda: 1)
    return Working(maker, {}, run, changes, lambda ops: None)


def committed(first_rev: int, *changes: Change) -> list[Change]:
    """What others have run and committed, each on the rows of those before."""
    others = a_working(*changes)
    made = others.outgoing(changes, [], first_rev - 1, 500, None)
    others.close()
    return [change.replace(committed_at=9) for change in made]


def receive(working: Working, new: list[Change], *own: Change) -> None:
    written = [op for change in new for op in parse_row_ops(change.ops)]
    working.advance(new, written, own)


def titles(working: Working) -> list[str]:
    return sorted(row["title"] for row in working.state["todos"].values())


def test_what_is_latest_is_sent_as_it_is() -> None:
    one, two = pending(5), pending(6)
    working = a_working(one, two)
    made = working.outgoing([one, two], [], 3, 500, None)
    assert [(change.base_rev, change.rev) for change in made] == [(3, 4), (3, 5)]
    assert [len(change.ops) for change in made] == [1, 1]
    assert not any({"group", "sync"} & change.metadata.keys() for change in made)
    assert [change.id for change in working.outgoing([one, two], [], 3, 1, None)] == ["me5"]
    assert len(working.outgoing([one, two], [], 3, 500, 10)) == 1


def test_what_is_late_is_sent_with_what_it_changes_of_the_effect_of_others() -> None:
    own = [pending(5), pending(6)]
    working = a_working(*own)
    theirs = committed(1, *(pending(ms, client="b") for ms in (7, 8)))
    receive(working, theirs, *own)
    assert titles(working) == ["t5", "t6", "t7"]  # three are the limit
    made = working.outgoing(own, [], 2, 500, None)
    assert made[0].metadata["group"] == 2
    sync = made[1].metadata["sync"]
    assert [op["op"] for op in sync["ops"]] == ["remove"]
    assert sync["corrects"] == ["b7", "b8"]
    assert [(each["id"], each["message"]) for each in sync["failed"]] == [("b8", "home is full")]
    ops = [op for change in [*theirs, *made] for op in change.ops] + sync["ops"]
    assert apply_row_ops({}, parse_row_ops(ops))["todos"] == working.state["todos"]


def test_what_does_not_fit_waits_and_what_is_shown_stays() -> None:
    own = [pending(5), pending(6)]
    working = a_working(*own)
    receive(working, committed(1, pending(7, client="b")), *own)
    shown = working.state
    made = working.outgoing(own, [], 1, 500, 10)
    assert [change.id for change in made] == ["me5"]
    assert "group" not in made[0].metadata
    assert made[0].metadata["sync"]["ops"] == []  # the other one has room as before
    assert working.state == shown


def test_an_action_that_raises_here_is_sent_with_its_error() -> None:
    own = pending(9)
    working = a_working(own)
    receive(working, committed(1, *(pending(ms, client="b") for ms in (1, 2, 3))), own)
    assert working.errors()[own.id] == "home is full"
    (made,) = working.outgoing([own], [], 3, 500, None)
    assert (made.ops, made.metadata["error"]) == ([], "home is full")


def test_of_what_was_run_here_and_committed_nothing_is_run_again() -> None:
    own = [pending(5), pending(6)]
    working = a_working(*own)
    receive(working, committed(1, pending(7, client="b")), *own)
    (first, last) = working.outgoing(own, [], 1, 500, None)
    before = working.state
    answered = [change.replace(committed_at=9) for change in (first, last)]
    receive(working, answered)
    assert working.state is before
    assert working.outgoing([], [], 3, 500, None) == []


def test_where_the_server_runs_them_pending_ones_stand_on_top() -> None:
    own = pending(1, "rename", id="x", title="mine")
    working = a_working(own, is_client_run=False)
    row = {"id": "x", "list_id": "l", "slot": "s", "title": "theirs"}
    theirs = pending(2, client="b").replace(
        ops=[{"op": "add", "path": "/todos/x", "value": row}], committed_at=9
    )
    receive(working, [theirs], own)
    assert working.state["todos"]["x"]["title"] == "mine"


def test_an_action_that_is_not_known_here_has_the_effect_that_it_had() -> None:
    own = pending(5)
    working = a_working(own)
    row = {"id": "x", "list_id": "home", "slot": "s", "title": "unknown"}
    theirs = pending(7, "newer_one", client="b").replace(
        ops=[{"op": "add", "path": "/todos/x", "value": row}], committed_at=9
    )
    receive(working, [theirs], own)
    assert titles(working) == ["t5", "unknown"]
    (made,) = working.outgoing([own], [], 1, 500, None)
    assert made.metadata["sync"]["ops"] == []

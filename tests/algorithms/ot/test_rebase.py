"""Rebasing pending changes: echoes, revisions, changes made on an older revision."""

from __future__ import annotations

from patches.algorithms.ot import rebase_changes
from patches.algorithms.ot.rebase import rebase_queue, renumbered
from patches.model.change import Change
from patches.model.json_values import Op


def add(index: int, value: str) -> Op:
    return {"op": "add", "path": f"/l/{index}", "value": value}


def pending(name: str, *ops: Op, base_rev: int = 1, rev: int = 2, **fields: str) -> Change:
    return Change(id=name, ops=list(ops), base_rev=base_rev, rev=rev, created_at=7, metadata=fields)


def committed(name: str, rev: int, *ops: Op) -> Change:
    return Change(id=name, ops=list(ops), base_rev=rev - 1, rev=rev, created_at=7, committed_at=8)


def shape(changes: list[Change]) -> list[tuple[str, int, int, str]]:
    return [(c.id, c.base_rev, c.rev, c.ops[0]["path"]) for c in changes]


def test_nothing_to_rebase_over_changes_nothing() -> None:
    queue = [pending("a", add(0, "a"), rev=9)]
    assert rebase_changes([], queue) == queue
    assert rebase_changes([committed("s", 2, add(0, "s"))], []) == []


def test_pending_changes_stand_on_the_last_server_revision_and_keep_their_fields() -> None:
    queue = [pending("a", add(1, "a"), user="ada"), pending("b", add(5, "b"), rev=3)]
    rebased = rebase_changes([committed("s", 2, add(0, "s"))], queue)
    assert shape(rebased) == [("a", 2, 3, "/l/2"), ("b", 2, 4, "/l/6")]
    assert rebased[0].metadata == {"user": "ada"}
    assert shape(queue) == [("a", 1, 2, "/l/1"), ("b", 1, 3, "/l/5")]


def test_an_echo_leaves_the_queue_and_is_no_foreign_change() -> None:
    queue = [pending("a", add(0, "a")), pending("b", add(1, "b"), rev=3)]
    rebased = rebase_changes([committed("a", 2, add(0, "a"))], queue)
    assert shape(rebased) == [("b", 2, 3, "/l/1")]


def test_a_change_before_an_echo_is_advanced_over_what_was_echoed() -> None:
    queue = [pending("a", add(0, "a")), pending("b", add(2, "b"), rev=3)]
    history = [committed("s", 2, add(1, "s")), committed("a", 3, add(0, "a"))]
    # The foreign one stands at 2 once "a" is in front of it, where "b" is put before it.
    assert shape(rebase_changes(history, queue)) == [("b", 3, 4, "/l/2")]


def test_what_comes_to_nothing_takes_no_revision() -> None:
    queue = [
        pending("gone", {"op": "remove", "path": "/l/0"}),
        pending("left", {"op": "replace", "path": "/x", "value": 1}, rev=3),
    ]
    rebased = rebase_changes([committed("s", 2, {"op": "remove", "path": "/l/0"})], queue)
    assert shape(rebased) == [("left", 2, 3, "/x")]


def test_a_replaced_root_takes_everything_and_a_local_one_stays() -> None:
    root: Op = {"op": "replace", "path": "", "value": {}}
    assert rebase_changes([committed("s", 2, root)], [pending("a", add(0, "a"))]) == []
    mine = rebase_changes([committed("s", 2, add(0, "s"))], [pending("a", root)])
    assert shape(mine) == [("a", 2, 3, "")]


def test_a_change_made_on_an_older_revision_keeps_its_operations_until_it_is_confirmed() -> None:
    queue = [
        pending("old", add(0, "old"), base_rev=1, rev=4),
        pending("new", add(3, "new"), base_rev=3, rev=5),
    ]
    foreign = committed("s", 4, add(0, "s"))
    rebased = rebase_queue([foreign], queue, frame=3).changes
    assert shape(rebased) == [("old", 1, 5, "/l/0"), ("new", 4, 6, "/l/4")]
    rebased = rebase_queue([committed("old", 5, add(1, "old"))], rebased, frame=4).changes
    assert shape(rebased) == [("new", 5, 6, "/l/5")]


def test_renumbering_leaves_alone_what_has_its_number() -> None:
    queue = [pending("a", rev=4), pending("b", rev=9)]
    numbered = renumbered(queue, 3)
    assert [change.rev for change in numbered] == [4, 5]
    assert numbered[0] is queue[0]

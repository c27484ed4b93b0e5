"""The cached ends of logs."""

from __future__ import annotations

from patches.model.change import Change
from patches_server.ot import NO_DOC, Bounds
from patches_server.ot.recent import MAX_CHANGES, RecentLogs
from patches_server.ot.rows import head_after


def a_change(rev: int, size: int = 0) -> Change:
    ops = [{"op": "replace", "path": "/a", "value": "x" * size}]
    return Change(id=f"c{rev}", ops=ops, base_rev=rev - 1, rev=rev, created_at=1)


def filled(logs: RecentLogs, doc_id: str, count: int, size: int = 0) -> None:
    head = NO_DOC
    for rev in range(1, count + 1):
        change = a_change(rev, size)
        logs.saved(doc_id, [change], Bounds(), expected=head)
        head = head_after([change], Bounds())


def test_what_was_saved_is_at_hand() -> None:
    logs = RecentLogs()
    filled(logs, "d", 4)
    log = logs.get("d")
    assert log is not None
    assert (log.head.rev, log.head.change_id) == (4, "c4")
    assert [change.rev for change in log.since(2) or ()] == [3, 4]
    assert log.since(4) == ()
    assert log.since(9) == (), "ahead: nothing to transform over, and refused elsewhere"
    assert [change.rev for change in log.since(0) or ()] == [1, 2, 3, 4]
    assert logs.get("e") is None


def test_what_is_not_at_hand_is_said_to_be_missing() -> None:
    logs = RecentLogs()
    head = head_after([a_change(7)], Bounds())
    logs.saved("d", [a_change(8), a_change(9)], Bounds(), expected=head)
    log = logs.get("d")
    assert log is not None
    assert log.since(6) is None
    assert [change.rev for change in log.since(7) or ()] == [8, 9]


def test_a_save_after_another_head_starts_anew() -> None:
    logs = RecentLogs()
    filled(logs, "d", 3)
    head = head_after([a_change(9)], Bounds())
    logs.saved("d", [a_change(10)], Bounds(), expected=head)
    log = logs.get("d")
    assert log is not None
    assert [change.rev for change in log.changes] == [10]


def test_operations_are_kept_as_bytes() -> None:
    logs = RecentLogs()
    change = a_change(1)
    logs.saved("d", [change], Bounds(), expected=NO_DOC)
    change.ops[0]["path"] = "/elsewhere"
    log = logs.get("d")
    assert log is not None
    assert log.changes[0].ops[0]["path"] == "/a"


def test_a_long_log_is_cut() -> None:
    logs = RecentLogs()
    filled(logs, "d", 3 * MAX_CHANGES)
    log = logs.get("d")
    assert log is not None
    assert MAX_CHANGES <= len(log.changes) <= 2 * MAX_CHANGES
    assert log.size == sum(len(change.encoded) for change in log.changes)


def test_of_a_large_commit_the_end_is_kept() -> None:
    logs = RecentLogs()
    filled(logs, "d", 3)
    log = logs.get("d")
    assert log is not None
    many = [a_change(rev) for rev in range(4, 4 + 2 * MAX_CHANGES)]
    logs.saved("d", many, Bounds(), expected=log.head)
    log = logs.get("d")
    assert log is not None
    assert [change.rev for change in log.changes] == [c.rev for c in many[-MAX_CHANGES:]]
    assert log.head.rev == many[-1].rev


def test_the_least_recent_documents_go() -> None:
    logs = RecentLogs(max_docs=3)
    for doc_id in "abc":
        filled(logs, doc_id, 1)
    filled(logs, "a", 1)
    filled(logs, "d", 1)
    assert [doc_id for doc_id in "abcd" if logs.get(doc_id)] == ["a", "c", "d"]


def test_memory_is_bounded_in_bytes() -> None:
    logs = RecentLogs(max_bytes=10_000)
    for n in range(50):
        filled(logs, f"d{n}", 2, size=500)
    assert 0 < len(logs) < 10
    logs = RecentLogs(max_bytes=100)
    filled(logs, "d", 1, size=500)
    assert len(logs) == 0, "one that is too large is not kept at all"

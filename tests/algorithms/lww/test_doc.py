"""`LWWDoc` by itself: snapshots, local and committed changes, rollback."""

from __future__ import annotations

from patches.algorithms.lww import LWWDoc
from patches.algorithms.lww.doc import UNKNOWN_VERSION
from patches.algorithms.lww.steps import Step
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op


def put(path: str, value: Json = 1, **fields: Json) -> Op:
    return {"op": "replace", "path": path, "value": value, **fields}


def inc(path: str, by: float) -> Op:
    return {"op": "@inc", "path": path, "value": by}


def local(*ops: Op, change_id: str = "1loc0") -> Change:
    return Change(id=change_id, ops=list(ops), base_rev=0, rev=1, created_at=1)


def committed(rev: int, *ops: Op, change_id: str | None = None) -> Change:
    return Change(
        id=change_id or f"s{rev}",
        ops=[{"ts": 5, "rev": rev, **op} for op in ops],
        base_rev=rev - 1,
        rev=rev,
        created_at=5,
        committed_at=5,
    )


def test_a_document_without_a_snapshot_is_an_empty_start() -> None:
    doc = LWWDoc("doc")
    assert (doc.state, doc.committed_rev, doc.has_pending, doc.is_loaded) == ({}, 0, False, False)


def test_a_snapshots_changes_are_counted_once() -> None:
    sending, pending = local(inc("/n", 5)), local(inc("/n", 3), change_id="1loc1")
    doc = LWWDoc("doc", Snapshot(state={"n": 1}, rev=4, changes=[sending, pending]))
    assert doc.state == {"n": 9}
    assert (doc.committed_rev, doc.has_pending, doc.pending_count) == (4, True, 2)
    assert doc.measure_pending() > 0


def test_a_servers_envelope_opens_at_its_head() -> None:
    rows = committed(6, put("/a", 2), put("/a/b", 1, soft=True))
    doc = LWWDoc("doc", Snapshot(state={"a": 1}, rev=6, changes=[rows]))
    assert doc.state == {"a": 2}
    assert (doc.committed_rev, doc.has_pending) == (6, False)


def test_an_older_snapshot_is_ignored_and_an_equal_one_taken() -> None:
    doc = LWWDoc("doc", Snapshot(state={"a": 1}, rev=4))
    told: list[Json] = []
    doc.on_update(told.append)
    doc.import_snapshot(Snapshot(state={"a": 0}, rev=3))
    assert doc.state == {"a": 1}
    doc.take_ops([put("/mine", 1)])
    told.clear()
    doc.import_snapshot(Snapshot(state={"a": 2}, rev=4))
    assert doc.state == {"a": 2, "mine": 1}
    assert told == [doc.state]
    doc.import_snapshot(Snapshot(state={"a": 2}, rev=5))
    assert len(told) == 1
    assert doc.committed_rev == 5


def step(*rows: Op, committed_rev: int) -> Step:
    """A write of the server's rows to the tables."""
    return Step(before=0, after=1, committed_rev=committed_rev, rows=rows)


def test_the_committed_revision_never_goes_down() -> None:
    doc = LWWDoc("doc", Snapshot(state={}, rev=8))
    doc.follow(step({**put("/a"), "rev": 3}, committed_rev=3))
    assert doc.committed_rev == 8


def test_a_document_that_cannot_follow_claims_no_version() -> None:
    """The store may fail before it is installed: the next step then takes everything."""
    doc = LWWDoc("doc", Snapshot(state={"a": {"b": 1}}, rev=1))
    removal: Op = {"op": "remove", "path": "/a/b", "ts": 5, "rev": 2}
    assert not doc.follow(step(removal, committed_rev=2))
    assert doc.stored.version == UNKNOWN_VERSION


def test_rolling_back_forgets_only_what_is_unsaved() -> None:
    doc = LWWDoc("doc", Snapshot(state={"a": {"b": 1}}, rev=1, changes=[local(put("/p", 2))]))
    doc.take_ops([put("/a/c", 1)])
    doc.take_ops([{"op": "remove", "path": "/p"}, put("/new/deep", 1)])
    live = list(doc.unsaved)
    doc.rollback_unsaved()
    assert doc.state == {"a": {"b": 1}, "p": 2}
    assert live == [[], []]
    assert not doc.unsaved


def test_edits_leave_earlier_states_alone() -> None:
    doc = LWWDoc("doc", Snapshot(state={"a": {"b": 1}, "rest": {"x": 1}}, rev=1))
    before = doc.state
    doc.take_ops([put("/a/b", 2)])
    doc.follow(step({**put("/a/c", 3), "rev": 2}, committed_rev=2))
    assert before == {"a": {"b": 1}, "rest": {"x": 1}}
    assert doc.state["rest"] is before["rest"]

"""`OTDoc`: three tiers, confirmed without being computed again, kept through imports."""

from __future__ import annotations

from typing import Any

import pytest

from patches import Patches
from patches.algorithms.ot import OTDoc
from patches.algorithms.ot import doc as doc_module
from patches.algorithms.ot import tiers as tiers_module
from patches.errors import ApplyChangesError, PatchError, PatchesError
from patches.model.change import Change, Snapshot
from patches.model.json_values import Op


def put(key: str, value: Any = 1) -> Op:
    return {"op": "replace", "path": f"/{key}", "value": value}


def insert(index: int, value: Any) -> Op:
    return {"op": "add", "path": f"/list/{index}", "value": value}


def pending(name: str, *ops: Op, base_rev: int = 5, rev: int = 6) -> Change:
    return Change(id=name, ops=list(ops), base_rev=base_rev, rev=rev, created_at=1)


def committed(name: str, *ops: Op, rev: int = 6) -> Change:
    return Change(id=name, ops=list(ops), base_rev=rev - 1, rev=rev, created_at=1, committed_at=2)


def doc_with(*changes: Change, state: Any = None) -> OTDoc:
    return OTDoc("doc", Snapshot(state=state or {"list": ["a"]}, rev=5, changes=changes))


def updates_of(doc: OTDoc) -> list[Any]:
    updates: list[Any] = []
    doc.on_update(updates.append)
    return updates


def test_a_new_document_shows_an_empty_object() -> None:
    doc = OTDoc("doc")
    assert (doc.state, doc.committed_rev, doc.has_pending, doc.is_loaded) == ({}, 0, False, False)
    assert doc.to_snapshot() == Snapshot(state=None, rev=0)


def test_it_shows_committed_pending_and_unsaved_edits() -> None:
    doc = doc_with(pending("p", insert(0, "pending")))
    doc.apply([insert(0, "unsaved")])
    assert doc.state == {"list": ["unsaved", "pending", "a"]}
    assert doc.committed_state == {"list": ["a"]}
    assert doc.to_snapshot().state == {"list": ["a"]}
    assert doc.has_pending
    assert list(doc.unsaved) == [[insert(0, "unsaved")]]


def test_an_edit_that_cannot_be_applied_changes_nothing() -> None:
    doc = doc_with()
    before = doc.state
    with pytest.raises(PatchError):
        doc.apply([put("x"), {"op": "remove", "path": "/list/9"}])
    assert doc.state is before
    assert not doc.unsaved


def test_saving_an_edit_does_not_touch_the_state() -> None:
    doc = doc_with()
    doc.apply([put("x")])
    shown, updates = doc.state, updates_of(doc)
    doc.apply_changes([pending("p", put("x"))])
    assert doc.state is shown
    assert updates == []
    assert not doc.unsaved
    assert [change.id for change in doc.pending] == ["p"]


def test_a_change_saved_elsewhere_is_applied() -> None:
    doc = doc_with()
    doc.apply_changes([pending("p", put("x"))])
    assert doc.state == {"list": ["a"], "x": 1}


def test_an_echo_does_not_touch_the_state_nor_compute_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    doc = doc_with(pending("p", put("x")), pending("q", put("y"), rev=7))
    shown, updates = doc.state, updates_of(doc)

    def refuse(*args: Any, **options: Any) -> Any:
        raise AssertionError("a state was computed")

    monkeypatch.setattr(doc_module, "apply_changes", refuse)
    monkeypatch.setattr(tiers_module, "apply_changes", refuse)
    monkeypatch.setattr(tiers_module, "apply_pending_for_view", refuse)
    doc.receive([committed("p", put("x"))], [pending("q", put("y"), base_rev=6, rev=7)])
    doc.receive([committed("q", put("y"), rev=7)], [])
    assert doc.state is shown
    assert doc.committed_state is shown
    assert updates == []
    assert (doc.committed_rev, doc.has_pending) == (7, False)


def test_confirmed_changes_are_in_the_committed_state_when_it_is_needed() -> None:
    doc = doc_with(pending("p", insert(0, "mine")), pending("q", put("y"), rev=7))
    left = pending("q", put("y"), base_rev=6, rev=7)
    doc.receive([committed("p", insert(0, "mine"))], [left])
    assert doc.committed_state == {"list": ["mine", "a"]}
    doc.receive(
        [committed("s", insert(0, "theirs"), rev=7)], [pending("q", put("y"), base_rev=7, rev=8)]
    )
    assert doc.state == {"list": ["theirs", "mine", "a"], "y": 1}


def test_many_confirmed_changes_are_folded_on_the_way() -> None:
    doc = doc_with()
    for rev in range(6, 600):
        doc.apply([put("n", rev)])
        doc.apply_changes([pending(f"p{rev}", put("n", rev), base_rev=rev - 1, rev=rev)])
        doc.apply([put("unsaved", rev)])  # so that the shown state never is the committed one
        doc.receive([committed(f"p{rev}", put("n", rev), rev=rev)], [])
        doc.unsaved.clear()
    assert doc.committed_state == {"list": ["a"], "n": 599}


def test_an_echo_with_other_operations_is_shown_as_it_was_committed() -> None:
    doc = doc_with(pending("p", put("x", "mine")))
    doc.receive([committed("p", put("x", "changed"))], [])
    assert doc.state["x"] == "changed"


def test_a_foreign_change_moves_unsaved_edits_in_place() -> None:
    doc = doc_with()
    doc.apply([insert(1, "mine")])
    (live,) = doc.unsaved
    doc.receive([committed("s", insert(0, "theirs"))], [])
    assert live == [insert(2, "mine")]
    assert doc.state == {"list": ["theirs", "a", "mine"]}


def test_an_unsaved_edit_that_comes_to_nothing_is_emptied() -> None:
    doc = doc_with()
    doc.apply([{"op": "remove", "path": "/list/0"}])
    (live,) = doc.unsaved
    doc.receive([committed("s", {"op": "remove", "path": "/list/0"})], [])
    assert live == []
    assert not doc.unsaved


def test_unsaved_edits_move_with_the_pending_changes_before_them() -> None:
    doc = doc_with(pending("p", {"op": "remove", "path": "/list/0"}))
    doc.apply([insert(0, "mine")])
    doc.receive(
        [committed("p", {"op": "remove", "path": "/list/0"}), committed("s", put("x"), rev=7)], []
    )
    assert doc.state == {"list": ["mine"], "x": 1}


@pytest.mark.parametrize(
    ("revs", "message"),
    [((8,), "not at the correct revision"), ((6, 8), "gap at rev 6 → 8")],
    ids=["ahead", "hole"],
)
def test_changes_that_do_not_follow_are_refused(revs: tuple[int, ...], message: str) -> None:
    doc = doc_with()
    with pytest.raises(PatchesError, match=message):
        doc.apply_changes([committed(f"s{rev}", put("x"), rev=rev) for rev in revs])
    assert (doc.committed_rev, doc.state) == (5, {"list": ["a"]})


def test_a_committed_change_that_cannot_be_applied_changes_nothing() -> None:
    doc = doc_with(pending("p", put("x")))
    doc.apply([put("y")])
    shown = doc.state
    with pytest.raises(ApplyChangesError):
        doc.receive([committed("s", {"op": "remove", "path": "/list/4"})], [])
    assert doc.state is shown
    assert (doc.committed_rev, len(doc.pending), len(doc.unsaved)) == (5, 1, 1)


def test_a_rebased_change_that_cannot_be_shown_does_not_hide_the_others() -> None:
    doc = doc_with(pending("p", put("x")))
    broken = pending("p", {"op": "remove", "path": "/list/9"}, base_rev=6, rev=7)
    good = pending("q", put("good"), base_rev=6, rev=8)
    doc.receive([committed("s", put("theirs"))], [broken, good])
    assert doc.state == {"list": ["a"], "theirs": 1, "good": 1}
    assert [change.id for change in doc.pending] == ["p", "q"]


def test_opening_with_a_bad_pending_change_drops_it_and_says_so() -> None:
    old = pending("old", {"op": "remove", "path": "/list/8"}, base_rev=3)
    bad = pending("bad", {"op": "remove", "path": "/list/9"}, rev=7)
    doc = doc_with(old, bad, pending("good", put("x"), rev=8))
    assert [change.id for change in doc.dropped_pending_changes] == ["bad"]
    assert [change.id for change in doc.pending] == ["old", "good"]
    assert doc.state == {"list": ["a"], "x": 1}


def test_an_older_snapshot_does_nothing() -> None:
    doc = doc_with(pending("p", put("x")))
    shown = doc.state
    doc.import_snapshot(Snapshot(state={}, rev=4))
    assert doc.state is shown
    doc.import_snapshot(Snapshot(state={"new": 1}, rev=4), replace=True)
    assert (doc.state, doc.committed_rev) == ({"new": 1}, 4)


def test_a_snapshot_keeps_unsaved_edits_that_apply_and_leaves_the_others_to_be_set_aside() -> None:
    doc = doc_with()
    doc.apply([put("kept")])
    doc.apply([{"op": "remove", "path": "/list/0"}])
    kept, refused = doc.unsaved
    doc.import_snapshot(Snapshot(state={"list": []}, rev=9))
    assert doc.state == {"list": [], "kept": 1}
    assert list(doc.unsaved) == [kept]
    assert (kept, doc.edits.refusal_of(kept)) == ([put("kept")], None)
    assert "does not apply" in (doc.edits.refusal_of(refused) or "")


def test_an_unsaved_edit_that_was_stored_meanwhile_is_not_applied_twice() -> None:
    doc = doc_with()
    doc.apply([insert(0, "once")])
    (live,) = doc.unsaved
    stored = pending("p", insert(0, "once"))
    doc.edits.storing([stored], live)
    doc.import_snapshot(Snapshot(state={"list": ["a"]}, rev=5, changes=[stored]))
    assert doc.state == {"list": ["once", "a"]}
    assert live == []


def test_an_equal_edit_of_another_process_is_another_edit() -> None:
    doc = doc_with()
    doc.apply([insert(0, "once")])
    theirs = pending("p", insert(0, "once"))
    doc.import_snapshot(Snapshot(state={"list": ["a"]}, rev=5, changes=[theirs]))
    assert doc.state == {"list": ["once", "once", "a"]}
    assert len(doc.unsaved) == 1


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_edit_that_a_snapshot_brings_before_its_saving_returns_is_not_doubled(
    pieces: int,
) -> None:
    doc = doc_with()
    ops = [insert(0, "x"), insert(0, "y")]
    doc.apply(ops)
    edit = doc.unsaved[0]
    doc.apply([insert(0, "later")])
    cut = [ops] if pieces == 1 else [ops[:1], ops[1:]]
    saved = [pending(f"p{at}", *piece, rev=6 + at) for at, piece in enumerate(cut)]
    doc.edits.storing(saved, edit)
    doc.import_snapshot(Snapshot(state={"list": ["a"]}, rev=5, changes=saved))
    doc.apply_changes(saved, edit)
    assert doc.state == {"list": ["later", "y", "x", "a"]}
    assert list(doc.pending) == saved
    assert list(doc.unsaved) == [[insert(0, "later")]]


def test_the_same_edit_made_twice_is_kept_twice() -> None:
    doc = doc_with(pending("p", insert(0, "twice")))
    doc.apply([insert(0, "twice")])
    doc.import_snapshot(
        Snapshot(state={"list": ["a"]}, rev=5, changes=[pending("p", insert(0, "twice"))])
    )
    assert doc.state == {"list": ["twice", "twice", "a"]}


def test_rolling_back_forgets_unsaved_edits_and_empties_their_lists() -> None:
    doc = doc_with(pending("p", put("x")))
    doc.apply([put("y")])
    (live,) = doc.unsaved
    doc.rollback_unsaved()
    assert doc.state == {"list": ["a"], "x": 1}
    assert live == []
    assert not doc.unsaved


def test_a_view_left_behind_by_an_echo_is_shown_when_the_document_is_synced() -> None:
    debt = pending("old", {"op": "replace", "path": "/list/0", "value": "old"}, base_rev=3)
    doc = doc_with(debt, state={"list": ["a", "b"]})
    doc.receive([committed("old", {"op": "replace", "path": "/list/1", "value": "old"})], [])
    doc.update_sync_status("synced")
    assert doc.state == {"list": ["a", "old"]}


def test_measures_what_waits_for_the_server() -> None:
    change = pending("p", put("x"))
    doc = doc_with(change)
    assert doc.pending_count == 1
    assert doc.measure_pending() == len(change.encoded)


async def test_a_removed_root_is_an_empty_document_that_can_be_edited() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("doc")
        doc.change(lambda draft: draft.update(a=1))
        doc.apply([{"op": "remove", "path": ""}])
        assert doc.state == {}
        await doc.flush()
        assert doc.state == {}
        doc.change(lambda draft: draft.update(b=2))
        assert doc.state == {"b": 2}
        await doc.flush()
        again = await patches.algorithms["ot"].load_doc("doc")
        assert again is not None
        assert [len(change.ops) for change in again.changes] == [1, 1, 1]


def test_a_change_that_another_process_has_set_aside_is_not_shown_behind_a_confirmation() -> None:
    doc = doc_with(pending("kept", insert(0, "kept")), pending("gone", put("gone"), rev=7))
    doc.receive([committed("kept", insert(0, "kept"))], [])
    assert doc.state == {"list": ["kept", "a"]}
    assert not doc.has_pending

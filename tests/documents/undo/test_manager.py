"""`UndoManager`: steps, groups, untracked edits, paths, limits, refusals (`docs/undo.md`)."""

from __future__ import annotations

from typing import Any

import pytest

from patches import Patches, PatchesSync, UndoManager
from patches.algorithms.lww.doc import LWWDoc
from patches.algorithms.ot.doc import OTDoc
from patches.documents.undo import Step
from patches.errors import ChangeRefusedError, DocumentClosedError, PatchError, QueueFullError
from patches.limits import Limits
from patches.model.change import Change
from patches.runtime import Runtime
from patches.testing.local_server import LocalServer

TEXT = {"ops": [{"insert": "abcdef\n"}]}


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


def manager(doc: Any, clock: Clock, **options: Any) -> UndoManager:
    return UndoManager(doc, runtime=Runtime(wall_ms=clock), **options)


def type_at(doc: Any, index: int, text: str) -> None:
    doc.change(lambda draft: draft.text("body").insert(index, text))


def body(doc: Any) -> str:
    return "".join(op["insert"] for op in doc.state["body"]["ops"])


def test_typing_in_one_text_is_one_step_until_half_a_second_of_pause(clock: Clock) -> None:
    doc = OTDoc("doc")
    type_at(doc, 0, "x")
    undo = manager(doc, clock)
    for at, letter in enumerate("abc"):
        type_at(doc, at, letter)
        clock.ms += 400
    clock.ms += 200
    type_at(doc, 3, "d")
    assert len(undo.steps) == 2
    assert undo.undo()
    assert body(doc) == "abcx\n"
    assert undo.undo()
    assert body(doc) == "x\n"
    assert not undo.undo()


def test_edits_of_different_fields_and_of_far_places_of_a_list_are_steps_of_their_own(
    clock: Clock,
) -> None:
    doc = OTDoc("doc")
    doc.change(lambda draft: draft.update(items=[1, 2, 3, 4, 5, 6]))
    undo = manager(doc, clock)
    doc.change(lambda draft: draft["items"].insert(0, "a"))
    doc.change(lambda draft: draft["items"].insert(1, "b"))
    assert len(undo.steps) == 1
    doc.change(lambda draft: draft["items"].insert(7, "z"))
    doc.change(lambda draft: draft.update(title="t"))
    doc.change(lambda draft: draft.update(title="u"))
    assert len(undo.steps) == 4


@pytest.mark.parametrize("between", ["stop_grouping", "undo"])
def test_nothing_joins_across_a_stop_or_an_undo(clock: Clock, between: str) -> None:
    doc = OTDoc("doc")
    type_at(doc, 0, "x")
    undo = manager(doc, clock)
    type_at(doc, 0, "a")
    if between == "stop_grouping":
        undo.stop_grouping()
    else:
        type_at(doc, 1, "b")
        undo.undo()
        undo.redo()
    type_at(doc, 1, "c")
    assert len(undo.steps) == 2


def test_a_group_is_one_step_with_its_label_and_the_callers_own(clock: Clock) -> None:
    doc = LWWDoc("doc")
    undo = manager(doc, clock)
    with undo.group("paste", meta={"cursor": 3}):
        doc.change(lambda draft: draft.update(a=1))
        clock.ms += 10_000
        doc.change(lambda draft: draft.update(b=2))
    doc.change(lambda draft: draft.update(c=3))
    assert undo.steps == (Step("paste", clock.ms, {"cursor": 3}), Step("", clock.ms))
    assert undo.undo()
    assert undo.undo()
    assert doc.state == {}
    assert undo.redo()
    assert doc.state == {"a": 1, "b": 2}
    assert undo.steps[0].label == "paste"


@pytest.mark.parametrize("doc", [OTDoc("doc"), LWWDoc("doc")], ids=["ot", "lww"])
def test_untracked_edits_stay(clock: Clock, doc: Any) -> None:
    undo = manager(doc, clock)
    doc.change(lambda draft: draft.update(list=[1]))
    with undo.untracked():
        doc.change(lambda draft: draft.update(imported=True))
    doc.change(lambda draft: draft.update(mine=1))
    assert undo.undo()
    assert undo.undo()
    assert not undo.undo()
    assert doc.state == {"imported": True}


def test_a_new_edit_empties_what_can_be_redone_and_a_received_one_does_not(clock: Clock) -> None:
    doc = OTDoc("doc")
    undo = manager(doc, clock)
    doc.change(lambda draft: draft.update(a=1))
    undo.undo()
    doc.receive([committed(1, {"op": "add", "path": "/theirs", "value": 1})], [])
    assert undo.steps == ()
    assert undo.redo()
    undo.undo()
    doc.change(lambda draft: draft.update(b=1))
    assert not undo.redo()


def test_only_edits_below_the_paths_are_taken_back(clock: Clock) -> None:
    doc = OTDoc("doc")
    doc.change(lambda draft: draft.update(cells={}, title=""))
    undo = manager(doc, clock, paths=["/cells"])
    doc.change(lambda draft: draft.update(title="t"))
    assert not undo.can_undo

    def both(draft: Any) -> None:
        draft["cells"]["a"] = 1
        draft["title"] = "u"

    doc.change(both)
    assert undo.undo()
    assert doc.state == {"cells": {}, "title": "u"}


def test_the_oldest_steps_go_beyond_the_limit(clock: Clock) -> None:
    doc = OTDoc("doc")
    undo = manager(doc, clock, limit=3)
    for value in range(10):
        with doc.edit() as draft:
            draft["n"] = value
    assert len(undo.steps) == 3
    while undo.undo():
        pass
    assert doc.state == {"n": 6}


@pytest.mark.parametrize("doc", [OTDoc("doc"), LWWDoc("doc")], ids=["ot", "lww"])
def test_a_counter_is_taken_back_by_what_was_added(clock: Clock, doc: Any) -> None:
    doc.change(lambda draft: draft.update(n=10, most=1))
    undo = manager(doc, clock)
    doc.change(lambda draft: draft.increment("n", 5))
    with undo.untracked():
        doc.change(lambda draft: draft.increment("n", 100))
    assert undo.undo()
    assert doc.state["n"] == 110


def committed(rev: int, *ops: Any) -> Change:
    return Change(
        id=f"theirs-{rev}", ops=list(ops), base_rev=rev - 1, rev=rev, created_at=1, committed_at=1
    )


def test_a_field_that_others_have_written_since_is_theirs_and_the_step_before_is_taken(
    clock: Clock,
) -> None:
    doc = OTDoc("doc")
    undo = manager(doc, clock)
    doc.change(lambda draft: draft.update(other=1))
    doc.change(lambda draft: draft.update(title="mine"))
    doc.receive([committed(1, {"op": "replace", "path": "/title", "value": "x"})], [])
    undo.undo()  # the title as it was first written here stands behind theirs
    doc.change(lambda draft: draft.update(title="again"))
    with undo.untracked():
        doc.change(lambda draft: draft.update(title="theirs"))
    doc.change(lambda draft: draft.update(far=1))
    assert undo.undo()
    assert doc.state["title"] == "theirs"
    assert "far" not in doc.state
    undo.undo()
    assert doc.state["title"] == "theirs"


def test_an_item_that_others_have_written_into_stays(clock: Clock) -> None:
    doc = OTDoc("doc")
    doc.change(lambda draft: draft.update(items=[]))
    undo = manager(doc, clock)
    doc.change(lambda draft: draft["items"].append({"id": 1}))
    doc.change(lambda draft: draft.update(x=1))
    with undo.untracked():
        doc.change(lambda draft: draft["items"][0].update(done=True))
    assert undo.undo()
    assert not undo.undo()
    assert doc.state == {"items": [{"id": 1, "done": True}]}


def test_what_a_move_overwrote_comes_back(clock: Clock) -> None:
    doc = OTDoc("doc")
    doc.change(lambda draft: draft.update(a=1, b={"old": True}))
    undo = manager(doc, clock)
    doc.apply([{"op": "move", "from": "/a", "path": "/b"}])
    assert doc.state == {"b": 1}
    assert undo.undo()
    assert doc.state == {"a": 1, "b": {"old": True}}


def test_two_managers_watch_one_document(clock: Clock) -> None:
    doc = OTDoc("doc")
    doc.change(lambda draft: draft.update(left=[], right=[]))
    left, right = manager(doc, clock, paths=["/left"]), manager(doc, clock, paths=["/right"])
    doc.change(lambda draft: draft["left"].append(1))
    doc.change(lambda draft: draft["right"].append(2))
    assert left.undo()
    assert doc.state == {"left": [], "right": [2]}
    assert right.undo()
    assert doc.state == {"left": [], "right": []}
    assert right.redo()
    assert left.redo()
    assert doc.state == {"left": [1], "right": [2]}


def test_it_tells_when_steps_come_and_go(clock: Clock) -> None:
    doc, told = OTDoc("doc"), []
    undo = manager(doc, clock)
    unsubscribe = undo.on_change(lambda: told.append((undo.can_undo, undo.can_redo)))
    doc.change(lambda draft: draft.update(a=1))
    undo.undo()
    undo.redo()
    undo.clear()
    assert told == [(True, False), (False, True), (True, False), (False, False)]
    unsubscribe()
    doc.change(lambda draft: draft.update(a=2))
    undo.close()
    doc.change(lambda draft: draft.update(a=3))
    assert not undo.can_undo
    assert len(told) == 4


def test_an_undo_inside_an_edit_is_refused(clock: Clock) -> None:
    doc = OTDoc("doc")
    undo = manager(doc, clock)
    doc.change(lambda draft: draft.update(a=1))
    with pytest.raises(PatchError, match="inside an edit"):
        doc.change(lambda draft: undo.undo())
    with pytest.raises(PatchError, match="inside an edit"), doc.edit():
        undo.undo()
    assert doc.state == {"a": 1}
    assert undo.can_undo


def test_a_step_that_cannot_be_taken_back_now_is_kept(clock: Clock) -> None:
    doc = OTDoc("doc", limits=Limits(max_pending_per_doc=2))
    undo = manager(doc, clock)
    doc.change(lambda draft: draft.update(a=1))
    doc.change(lambda draft: draft.update(b=1))
    with pytest.raises(QueueFullError):
        undo.undo()
    assert len(undo.steps) == 2
    assert not undo.can_redo
    doc.rollback_unsaved()


@pytest.mark.parametrize(("name", "value"), [("limit", 0), ("group_within", -1)])
def test_bad_settings_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="UndoManager takes"):
        UndoManager(OTDoc("doc"), **{name: value})


async def test_an_undo_is_an_ordinary_change_marked_as_one() -> None:
    async with LocalServer() as server, Patches() as mine, Patches() as theirs:
        async with (
            PatchesSync(mine, server.connection()) as sync,
            PatchesSync(theirs, server.connection()) as other,
        ):
            doc = await mine.open_doc("doc")
            undo = UndoManager(doc)
            doc.change(lambda draft: draft.update(a=1))
            assert undo.undo()
            await sync.settled(10)
            changes = await sync.connection.call("getChangesSince", "doc", 0)
            assert [change.get("undo") for change in changes] == [None, True]
            copy = await theirs.open_doc("doc")
            await other.settled(10)
            assert copy.state == {}


async def test_a_closed_document_has_no_undo() -> None:
    async with Patches() as patches:
        doc = await patches.open_doc("doc")
        undo = UndoManager(doc)
        doc.change(lambda draft: draft.update(a=1))
        await patches.close_doc("doc")
        with pytest.raises(DocumentClosedError):
            undo.undo()
        with pytest.raises(DocumentClosedError):
            doc.change(lambda draft: draft.update(a=2))


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_a_refused_edit_takes_its_step_with_it(algorithm: str) -> None:
    def at_most_10(_user: object, _doc_id: str, _change: Any, _before: Any, after: Any) -> Any:
        return "at most 10" if after.get("n", 0) > 10 else None

    async with (
        LocalServer(validate_state=at_most_10, routes={"*": algorithm}) as server,
        Patches() as patches,
        PatchesSync(patches, server.connection()) as sync,
    ):
        doc = await patches.open_doc("doc", algorithm=algorithm)
        undo = UndoManager(doc, group_within=0)
        doc.change(lambda draft: draft.update(n=5))
        await sync.settled(10)
        sync.on_error(lambda error, context: None)
        doc.change(lambda draft: draft.increment("n", 20))
        with pytest.raises(ChangeRefusedError):
            await sync.settled(10)
        doc.change(lambda draft: draft.update(other=1))
        await sync.settled(10)
        assert doc.state == {"n": 5, "other": 1}
        assert undo.undo()
        assert doc.state == {"n": 5}
        assert undo.undo()
        assert doc.state == {}


def test_text_that_was_taken_back_with_a_failed_store_is_not_doubled_by_an_undo(
    clock: Clock,
) -> None:
    doc = OTDoc("doc")
    doc.receive([committed(1, {"op": "add", "path": "/body", "value": TEXT})], [])
    undo = manager(doc, clock)
    doc.change(lambda draft: draft.text("body").delete(0, 3))
    doc.rollback_unsaved()
    assert not undo.undo()
    assert body(doc) == "abcdef\n"

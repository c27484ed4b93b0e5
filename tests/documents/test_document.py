"""What every document does: edits at once and whole, subscribers in order, room for unsent work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import jsonpatch
import pytest

from patches import Limits
from patches.errors import (
    OpsRefusedError,
    PatchError,
    PatchesError,
    QueueFullError,
    UnsupportedOperationError,
)
from patches.testing.virtual_time import idle, virtual_time
from tests.support.small_algorithm import Record, SmallDoc


def a_doc(state: Any = None, **limits: Any) -> SmallDoc:
    doc = SmallDoc("doc", Record(state))
    object.__setattr__(doc, "limits", Limits(**limits))
    return doc


# ---- edits ---------------------------------------------------------------------------------------


def test_a_document_without_a_state_shows_an_empty_object() -> None:
    doc = a_doc()
    assert doc.state == {}
    doc.change(lambda draft: draft.update(a=1))
    doc.publish(None)
    assert doc.state == {}


def edit_in_a_block(doc: SmallDoc) -> None:
    with doc.edit() as draft:
        draft.title = "Plan"


@pytest.mark.parametrize(
    "edit",
    [
        lambda doc: doc.change(lambda draft: draft.update(title="Plan")),
        edit_in_a_block,
        lambda doc: doc.apply([{"op": "replace", "path": "/title", "value": "Plan"}]),
        lambda doc: doc.apply(
            jsonpatch.JsonPatch([{"op": "replace", "path": "/title", "value": "Plan"}])
        ),
        lambda doc: doc.set({"title": "Plan", "kept": [1]}),
    ],
    ids=["change", "edit", "apply", "apply JsonPatch", "set"],
)
def test_an_edit_shows_at_once_and_is_told_with_its_live_operations(
    edit: Callable[[SmallDoc], None],
) -> None:
    before = {"title": "Old", "kept": [1]}
    doc = a_doc(before)
    told: list[Any] = []
    doc.on_change(told.append)
    edit(doc)
    assert doc.state == {"title": "Plan", "kept": [1]}
    assert doc.state["kept"] is before["kept"]
    assert before["title"] == "Old"
    assert told == [[{"op": "replace", "path": "/title", "value": "Plan"}]]
    assert told[0] is doc.unsaved[0]


def raising(draft: Any) -> None:
    draft.title = "half"
    raise LookupError


def raise_in_a_block(doc: SmallDoc) -> None:
    with doc.edit() as draft:
        raising(draft)


async def an_async_edit(draft: Any) -> None:
    draft.title = "half"


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (lambda doc: doc.change(raising), LookupError),
        (raise_in_a_block, LookupError),
        (lambda doc: doc.change(an_async_edit), PatchError),
        (lambda doc: doc.change(lambda draft: draft.update(a=1, b={1})), PatchError),
        (lambda doc: doc.change(lambda draft: draft.update(__proto__=1)), OpsRefusedError),
        (
            lambda doc: doc.change(lambda draft: draft.text("t").append("x")),
            UnsupportedOperationError,
        ),
        (
            lambda doc: doc.apply(
                [{"op": "replace", "path": "/title", "value": 1}, {"op": "zap", "path": ""}]
            ),
            OpsRefusedError,
        ),
        (
            lambda doc: doc.apply(
                [
                    {"op": "add", "path": "/title", "value": 1},
                    {"op": "add", "path": "/l/9", "value": 1},
                ]
            ),
            PatchError,
        ),
        (lambda doc: doc.apply({"op": "add"}), PatchError),
        (lambda doc: doc.apply([{"op": "add", "path": "/a" * 65, "value": 1}]), OpsRefusedError),
        (lambda doc: doc.set(object()), PatchError),
    ],
)
def test_an_edit_that_fails_changes_and_tells_nothing(
    edit: Callable[[SmallDoc], None], error: type[Exception]
) -> None:
    doc = a_doc({"title": "Old", "l": []})
    before = doc.state
    told: list[Any] = []
    doc.on_change(told.append)
    doc.on_update(told.append)
    with pytest.raises(error):
        edit(doc)
    assert doc.state is before
    assert told == []
    assert not doc.unsaved


def test_an_edit_of_nothing_is_none() -> None:
    doc = a_doc({"a": 1})
    told: list[Any] = []
    doc.on_change(told.append)
    doc.change(lambda draft: draft.get("a"))
    doc.apply([])
    doc.set({"a": 1.0})
    doc.apply([{"op": "test", "path": "/a", "value": 1}])  # this algorithm leaves tests out
    assert told == []
    assert not doc.unsaved


def test_an_edit_inside_an_edit_is_refused_and_only_the_inner_one_counts() -> None:
    doc = a_doc({})

    def outer(draft: Any) -> None:
        draft.a = 1
        doc.change(lambda inner: inner.update(b=2))

    with pytest.raises(PatchError, match="while it was being edited"):
        doc.change(outer)
    assert doc.state == {"b": 2}


def test_set_writes_texts_as_values_where_the_algorithm_merges_none() -> None:
    doc = a_doc({"t": {"ops": [{"insert": "a\n"}]}})
    doc.set({"t": {"ops": [{"insert": "b\n"}]}})
    assert doc.state == {"t": {"ops": [{"insert": "b\n"}]}}
    assert all(op["op"] == "replace" for op in doc.unsaved[0])


def test_a_closed_document_keeps_its_state_and_takes_no_edit() -> None:
    doc = a_doc({"a": 1})
    doc.mark_closed()
    edits: list[Callable[[], None]] = [
        lambda: doc.change(lambda draft: draft.clear()),
        lambda: doc.apply([]),
        lambda: doc.set({}),
        lambda: edit_in_a_block(doc),
    ]
    for edit in edits:
        with pytest.raises(PatchesError, match="closed"):
            edit()
    assert doc.state == {"a": 1}


# ---- subscribers ------------------------------------------------------------------------------


def test_subscribe_calls_now_and_after_every_update_until_it_is_ended() -> None:
    doc = a_doc({"n": 0})
    seen: list[int] = []

    def note(state: Any) -> None:
        seen.append(state["n"])

    end = doc.subscribe(note)
    doc.subscribe(note)
    doc.set({"n": 1})
    doc.publish(doc.state)
    end()
    doc.set({"n": 2})
    assert seen == [0, 0, 1]


def test_on_update_waits_for_the_first_update_and_works_as_a_decorator() -> None:
    doc = a_doc({})
    seen: list[Any] = []

    @doc.on_update
    def note(state: Any) -> None:
        seen.append(state)

    assert seen == []
    doc.set({"n": 1})
    assert seen == [{"n": 1}]


def test_a_subscriber_that_raises_stops_neither_the_edit_nor_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    doc = a_doc({})
    seen: list[Any] = []
    doc.subscribe(lambda state: 1 / 0)
    doc.on_update(seen.append)
    doc.set({"n": 1})
    assert seen == [{"n": 1}]
    assert "ZeroDivisionError" in caplog.text


def test_edits_by_subscribers_are_queued_and_told_in_the_order_they_were_made() -> None:
    doc = a_doc({"n": 0})
    edits: list[Any] = []
    states: list[int] = []
    doc.on_change(lambda ops: edits.append(ops[0]["value"]))

    @doc.on_update
    def edit_again(state: Any) -> None:
        if state["n"] < 3:
            doc.change(lambda draft: draft.update(n=state["n"] + 1))

    doc.on_update(lambda state: states.append(state["n"]))
    doc.change(lambda draft: draft.update(n=1))
    assert edits == [1, 2, 3] == [ops[0]["value"] for ops in doc.unsaved]
    assert states == [1, 2, 3]


def test_subscribers_that_edit_for_ever_are_stopped(caplog: pytest.LogCaptureFixture) -> None:
    doc = a_doc({"n": 0})
    doc.on_update(lambda state: doc.change(lambda draft: draft.increment("n")))
    doc.change(lambda draft: draft.increment("n"))
    assert "in a row" in caplog.text


@virtual_time
async def test_async_subscribers_run_in_the_owners_tasks() -> None:
    doc = a_doc({"n": 0})
    seen: list[int] = []
    running: list[asyncio.Task[Any]] = []

    async def note(state: Any) -> None:
        await asyncio.sleep(1)
        seen.append(state["n"])

    async with asyncio.TaskGroup() as tasks:
        doc.spawn = lambda coroutine: running.append(tasks.create_task(coroutine))
        doc.subscribe(note)
        doc.set({"n": 1})
    assert seen == [0, 1]


def test_an_async_subscriber_without_an_owner_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def note(state: Any) -> None:
        raise AssertionError("never run")

    a_doc({}).subscribe(note)
    assert "needs the document's Patches" in caplog.text


@virtual_time
async def test_iterating_gives_the_newest_states_until_the_document_is_closed() -> None:
    doc = a_doc({"n": 0})
    seen: list[int] = []

    async def read() -> None:
        async for state in doc:
            seen.append(state["n"])
            await asyncio.sleep(1)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        await idle()
        doc.set({"n": 1})
        doc.set({"n": 2})
        await asyncio.sleep(1.5)
        doc.set({"n": 3})
        doc.mark_closed()
    assert seen == [0, 2, 3]


@virtual_time
async def test_an_iteration_that_is_left_holds_nothing() -> None:
    doc = a_doc({"n": 0})
    async for _ in doc:
        break
    async with asyncio.timeout(1):
        states = aiter(doc)
        await anext(states)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await anext(states)
    assert not doc._waiting


# ---- status ------------------------------------------------------------------------------


def test_the_status_is_told_when_it_changes_and_an_error_goes_with_error_only() -> None:
    doc = a_doc()
    told: list[Any] = []
    doc.on_status_change(lambda status, error: told.append((status, error)))
    problem = PatchesError("no")
    doc.update_sync_status("syncing", problem)
    doc.update_sync_status("syncing")
    doc.update_sync_status("error", problem)
    doc.update_sync_status("synced", problem)
    assert told == [("syncing", None), ("error", problem), ("synced", None)]
    assert (doc.sync_status, doc.sync_error) == told[-1]


@pytest.mark.parametrize(
    "load",
    [
        lambda doc: doc.update_sync_status("synced"),
        lambda doc: doc.update_sync_status("error", PatchesError()),
        lambda doc: setattr(doc, "committed_rev", 1),
        lambda doc: setattr(doc, "has_pending", True),
        lambda doc: doc.mark_loaded(),
    ],
)
def test_a_document_that_was_loaded_once_stays_so(load: Callable[[SmallDoc], None]) -> None:
    doc = a_doc()
    doc.update_sync_status("syncing")
    assert not doc.is_loaded
    load(doc)
    doc.update_sync_status("unsynced")
    doc.has_pending = False
    assert doc.is_loaded


# ---- room ------------------------------------------------------------------------------


def test_more_unsent_changes_than_allowed_are_refused() -> None:
    doc = a_doc({}, max_pending_per_doc=2)
    doc.change(lambda draft: draft.update(a=1))
    doc.change(lambda draft: draft.update(a=2))
    with pytest.raises(QueueFullError, match="2 unsent changes"):
        doc.change(lambda draft: draft.update(a=3))
    assert doc.state == {"a": 2}
    assert len(doc.unsaved) == 2


def test_more_unsent_bytes_than_allowed_are_refused_and_room_comes_back() -> None:
    doc = a_doc({}, max_pending_bytes_per_doc=1_000)
    large = "x" * 600
    doc.change(lambda draft: draft.update(a=large))
    with pytest.raises(QueueFullError, match="bytes of unsent changes"):
        doc.change(lambda draft: draft.update(b=large))
    assert doc.state == {"a": large}
    doc.unsaved.clear()  # stored, sent and confirmed
    doc.change(lambda draft: draft.update(b=large))
    assert doc.state == {"a": large, "b": large}


def test_limits_that_are_off_refuse_nothing() -> None:
    doc = a_doc({}, max_pending_bytes_per_doc=None, max_pending_per_doc=None)
    doc.change(lambda draft: draft.update(a="x" * 1_000))
    assert doc.unsaved

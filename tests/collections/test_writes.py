"""Writes: shown at once, sent, confirmed or refused, taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from patches.algorithms.collections import Write
from patches.errors import (
    InvalidError,
    InvalidRowError,
    NotARowOperationError,
    OpsRefusedError,
    PatchError,
    PatchesError,
    QueueFullError,
    RejectedError,
    SchemaError,
    StatusError,
    WriteDiscardedError,
)
from patches.model.change import Change
from patches.rows.row_ops import delete_op, insert_op
from patches.testing.virtual_time import idle, virtual_time
from tests.support.board import Task, clear_done, client_of, server_of, task
from tests.support.table_server import refusal

ONE = {"tasks": {"a": task("a", votes=3)}}


# ---- shown at once, and what is refused at once --------------------------------------------------


@virtual_time
async def test_a_write_is_shown_at_once_under_its_final_key() -> None:
    async with client_of(server_of(), connect=False) as ann:
        write = ann.tasks.insert(title="Spec")
        assert write.status == "pending"
        assert write.key is not None
        assert write.key[14] == "7", "a UUID of version 7"
        assert ann.tasks[write.key] == task(write.key, "Spec")
        assert ann.doc.state["tasks"] == {write.key: task(write.key, "Spec")}
        assert ann.doc.is_pending(Task, write.key)
        assert list(ann.doc.writes) == [write]


@virtual_time
async def test_what_is_invalid_raises_before_anything_is_shown() -> None:
    async with client_of(server_of(ONE)) as ann:
        tasks, told = ann.tasks, list[object]()
        ann.doc.on_update(told.append)
        for attempt, error in (
            (lambda: tasks.insert(title=7), InvalidRowError),
            (lambda: tasks.insert(), InvalidRowError),
            (lambda: tasks.insert(title="x", colour="red"), InvalidRowError),
            (lambda: tasks.insert(id="a", title="x"), InvalidRowError),
            (lambda: tasks.insert(id="", title="x"), InvalidRowError),
            (lambda: tasks.insert(title="LOUD"), InvalidError),
            (lambda: tasks.update("a", title="LOUD"), InvalidError),
            (lambda: tasks.update("a", votes=True), InvalidRowError),
            (lambda: tasks.update("a", id="b"), InvalidRowError),
            (lambda: tasks.update("nobody", votes=1), InvalidRowError),
            (lambda: tasks.update("a", votes=4, expect={"votes": 9}), InvalidRowError),
            (lambda: tasks.insert(title="x" * 300_000), OpsRefusedError),
            (lambda: ann.doc.collection("nothing"), SchemaError),
            (lambda: ann.doc.call("clear_done", wrong=1), TypeError),
        ):
            with pytest.raises(error):
                attempt()
        assert told == []
        assert ann.doc.state["tasks"] == ONE["tasks"]
        assert not ann.doc.has_pending
        assert not ann.doc.unsaved


@virtual_time
async def test_a_document_takes_row_operations_and_no_others() -> None:
    async with client_of(server_of(ONE)) as ann:
        doc = ann.doc
        doc.apply(
            [
                {"op": "test", "path": "/tasks/a/votes", "value": 3},
                {"op": "replace", "path": "/tasks/a/votes", "value": 4},
                insert_op("tasks", "b", {"id": "b", "title": "two"}),
            ]
        )
        assert doc.state["tasks"] == {"a": task("a", votes=4), "b": task("b", "two")}
        for ops in (
            [{"op": "replace", "path": "/tasks", "value": {}}],
            [{"op": "replace", "path": "/tasks/a/votes/deep", "value": 1}],
            [{"op": "move", "from": "/tasks/a", "path": "/tasks/c"}],
            [{"op": "remove", "path": "/tasks/a/list_id"}],
        ):
            with pytest.raises(NotARowOperationError):
                doc.apply(ops)
        for bad in (
            [insert_op("nowhere", "b", {"id": "b"})],
            [insert_op("tasks", "c", {"id": "d", "title": "x"})],
            [{"op": "replace", "path": "/tasks/a/colour", "value": 1}],
        ):
            with pytest.raises(PatchError):
                doc.apply(bad)
        await ann.settled()


@virtual_time
async def test_a_draft_is_written_as_row_operations() -> None:
    server = server_of(ONE)
    async with client_of(server) as ann:

        def edit(draft: Any) -> None:
            tasks = draft["tasks"]
            tasks["a"]["votes"] = 5
            tasks["b"] = {"id": "b", "title": "new"}

        ann.doc.change(edit)
        assert ann.doc.state["tasks"]["b"] == task("b", "new")
        await ann.settled()
        (sent,) = [call for call in ann.connection.calls if call.method == "commitChanges"]
        assert sent.changes[0].ops == [
            {"op": "replace", "path": "/tasks/a/votes", "value": 5},
            insert_op("tasks", "b", task("b", "new")),
        ]
        assert server.rows["tasks"]["b"] == task("b", "new")


# ---- confirmed -----------------------------------------------------------------------------------


@virtual_time
async def test_scenario_2_a_write_goes_from_pending_to_sent_to_confirmed() -> None:
    server = server_of()
    async with client_of(server) as ann:
        replies = ann.connection.replies
        commit = replies.pop("commitChanges")
        write = ann.tasks.insert(title="Spec")
        statuses = [write.status]
        call = await ann.connection.next_call("commitChanges")
        statuses.append(write.status)
        waiting = asyncio.ensure_future(_awaited(write))
        await idle()
        assert not waiting.done()
        call.answer(commit(call))
        await waiting
        statuses.append(write.status)
        assert statuses == ["pending", "sent", "confirmed"]
        assert server.rows["tasks"][str(write.key)]["title"] == "Spec"
        await write  # again: at once
        assert not ann.doc.has_pending
        assert ann.doc.writes == ()


async def _awaited(write: Write) -> None:
    await write


@virtual_time
async def test_scenario_3_no_notification_shows_two_rows_or_none() -> None:
    server = server_of()
    async with client_of(server) as ann, client_of(server, seed=2) as bob:
        counts: dict[str, list[int]] = {"ann": [], "bob": []}
        ann.doc.on_update(lambda state: counts["ann"].append(len(state["tasks"])))
        bob.doc.on_update(lambda state: counts["bob"].append(len(state["tasks"])))
        write = ann.tasks.insert(title="Spec")
        await write
        await idle()
        assert counts == {"ann": [1], "bob": [1]}
        assert bob.tasks[str(write.key)] == ann.tasks[str(write.key)]


@virtual_time
async def test_an_answer_that_changes_what_was_sent_shows_the_truth() -> None:
    server = server_of()
    async with client_of(server) as ann:

        def stripped(change: Change) -> StatusError | None:
            for op in change.ops:
                if op["op"] == "add":
                    op["value"] = {**op["value"], "title": op["value"]["title"].strip()}
            return None

        server.refuse = stripped
        write = ann.tasks.insert(title=" Spec ")
        await write
        assert ann.tasks[str(write.key)]["title"] == "Spec"


@virtual_time
async def test_a_write_that_changes_nothing_is_confirmed_at_once() -> None:
    async with client_of(server_of(ONE)) as ann:
        write = ann.tasks.update("a", votes=3)
        assert write.status == "confirmed"
        assert not ann.doc.unsaved


# ---- refused -------------------------------------------------------------------------------------


@virtual_time
async def test_scenario_4_a_refused_write_is_undone_and_the_next_one_commits() -> None:
    server = server_of()
    server.refuse = lambda change: (
        refusal(403, "owner must be you", change.id) if "mine" in str(change.ops) else None
    )
    async with client_of(server) as ann:
        told: list[Write] = []
        ann.doc.on_rejected(told.append)
        bad = ann.tasks.insert(title="mine")
        good = ann.tasks.insert(title="ours")
        with pytest.raises(RejectedError, match="owner must be you") as caught:
            await bad
        assert caught.value.change_id == bad.id
        await good
        assert bad.status == "rejected"
        assert bad.error is caught.value
        assert told == [bad]
        assert list(ann.tasks) == [good.key]
        (entry,) = await ann.patches.list_quarantined_changes("d")
        assert (entry.change_id, entry.reason) == (bad.id, "owner must be you")


@virtual_time
async def test_scenario_5_a_write_on_a_refused_row_is_refused_too() -> None:
    server = server_of()
    server.refuse = lambda change: (
        refusal(403, "no", change.id) if change.ops[0]["op"] == "add" else None
    )
    async with client_of(server) as ann:
        insert = ann.tasks.insert(title="x")
        update = ann.tasks.update(str(insert.key), votes=1)
        for write, reason in ((insert, "no"), (update, "ROW_NOT_FOUND")):
            with pytest.raises(RejectedError, match=reason):
                await write
        assert dict(ann.tasks) == {}
        assert not ann.doc.has_pending


@virtual_time
async def test_a_refused_write_can_be_retried_from_quarantine() -> None:
    server = server_of()
    server.refuse = lambda change: refusal(403, "no", change.id)
    async with client_of(server) as ann:
        write = ann.tasks.insert(title="x")
        with pytest.raises(RejectedError):
            await write
        server.refuse = lambda _change: None
        await ann.patches.retry_quarantined_change("d", write.id)
        assert str(write.key) in ann.tasks
        await idle()
        assert server.executed == [write.id]


@virtual_time
async def test_scenario_10_of_two_writes_that_expect_the_same_one_commits() -> None:
    server = server_of(ONE)
    async with client_of(server) as ann, client_of(server, seed=2) as bob:
        for client in (ann, bob):
            client.sync.set_online(False)
        writes = [client.tasks.update("a", votes=4, expect={"votes": 3}) for client in (ann, bob)]
        for client in (ann, bob):
            await client.doc.flush()
            client.sync.set_online(True)
        await writes[0]
        with pytest.raises(RejectedError, match="EXPECTATION_FAILED"):
            await writes[1]
        assert server.rows["tasks"]["a"]["votes"] == 4
        assert ann.tasks["a"] == bob.tasks["a"] == task("a", votes=4)


# ---- transactions and actions --------------------------------------------------------------------


@virtual_time
async def test_scenario_9_a_transaction_is_one_change_and_one_notification() -> None:
    server = server_of(ONE)
    async with client_of(server) as ann, client_of(server, seed=2) as bob:
        told: dict[str, list[object]] = {"ann": [], "bob": []}
        ann.doc.on_update(told["ann"].append)
        bob.doc.on_update(told["bob"].append)
        lists = ann.doc.collection("lists")
        with ann.doc.transaction() as write:
            made = lists.insert(name="Home")
            ann.tasks.update("a", list_id=made.key)
            ann.tasks.insert(title="b", list_id=made.key)
            assert ann.tasks["a"]["list_id"] == made.key, "the block sees its own writes"
            assert told["ann"] == []
        assert made.id == write.id
        await write
        await idle()
        assert made.status == "confirmed"
        assert server.rev == 2
        assert [len(told[name]) for name in ("ann", "bob")] == [1, 1]
        assert bob.doc.state == ann.doc.state


@virtual_time
async def test_a_transaction_whose_block_raises_leaves_nothing() -> None:
    server = server_of(ONE)
    async with client_of(server) as ann:
        told: list[object] = []
        ann.doc.on_update(told.append)

        def two_writes() -> None:
            with ann.doc.transaction():
                ann.tasks.insert(title="b")
                ann.tasks.update("nobody", votes=1)

        with pytest.raises(InvalidRowError):
            two_writes()
        assert ann.doc.state["tasks"] == ONE["tasks"]
        assert told == []
        assert ann.doc.writes == ()
        assert not ann.doc.has_pending


@virtual_time
async def test_a_refused_transaction_is_undone_whole() -> None:
    server = server_of(ONE)
    server.refuse = lambda change: refusal(400, "bad row", change.id)
    async with client_of(server) as ann:
        with ann.doc.transaction() as write:
            ann.tasks.delete("a")
            ann.tasks.insert(title="b")
        assert "a" not in ann.tasks
        with pytest.raises(RejectedError):
            await write
        assert ann.doc.state["tasks"] == ONE["tasks"]


@virtual_time
async def test_scenario_11_an_action_shows_its_optimistic_half_until_the_answer() -> None:
    server = server_of({"tasks": {"a": task("a", done=True), "b": task("b")}})
    async with client_of(server) as ann, client_of(server, seed=2) as bob:
        bob.sync.set_online(False)
        write = bob.doc.call(clear_done)
        assert list(bob.tasks) == ["b"]
        await bob.doc.flush()
        server.write({"op": "replace", "path": "/tasks/b/done", "value": True})
        await idle()
        bob.connection.replies.pop("commitChanges")
        bob.sync.set_online(True)
        call = await bob.connection.next_call("commitChanges")
        assert call.changes[0].metadata["action"] == {"name": "clear_done", "args": {}}
        server.write(insert_op("tasks", "c", task("c", done=True)))
        call.answer(_commit(server, bob, call))
        await write
        await idle()
        assert dict(bob.tasks) == dict(ann.tasks) == {}


def _commit(server: Any, client: Any, call: Any) -> Any:
    peer = next(each for each in server.peers if each.connection is client.connection)
    return server._commit(peer, call)


@virtual_time
async def test_scenario_11_an_action_runs_again_over_what_others_commit() -> None:
    server = server_of({"tasks": {"a": task("a", done=True), "b": task("b")}})
    async with client_of(server) as bob:
        commit = bob.connection.replies.pop("commitChanges")
        bob.doc.call(clear_done)
        call = await bob.connection.next_call("commitChanges")
        assert list(bob.tasks) == ["b"]
        server.write(insert_op("tasks", "c", task("c", done=True)))
        server.write({"op": "replace", "path": "/tasks/a/done", "value": False})
        call.fail(StatusError(503, "later"))
        bob.connection.replies["commitChanges"] = commit
        await idle()
        assert dict(bob.tasks) == {"b": task("b"), "a": task("a")}
        await bob.settled()
        assert server.rows["tasks"].keys() == {"a", "b"}


@virtual_time
async def test_scenario_11_a_refused_action_is_undone() -> None:
    server = server_of({"tasks": {"a": task("a", done=True)}})
    server.refuse = lambda change: refusal(403, "no", change.id)
    async with client_of(server) as ann:
        write = ann.doc.call("clear_done")
        assert list(ann.tasks) == []
        with pytest.raises(RejectedError):
            await write
        assert list(ann.tasks) == ["a"]


@virtual_time
async def test_an_action_without_an_optimistic_half_shows_nothing_meanwhile() -> None:
    server = server_of(ONE)
    server.actions["remove"] = lambda key: [delete_op("tasks", key)]
    async with client_of(server) as ann:
        write = ann.doc.call("remove", key="a")
        assert "a" in ann.tasks
        await write
        assert "a" not in ann.tasks


# ---- unconfirmed, retried, taken back ------------------------------------------------------------


@virtual_time
async def test_scenario_20_an_unconfirmed_write_is_told_once_and_stays() -> None:
    server = server_of()
    async with client_of(server) as ann:
        commit = ann.connection.replies.pop("commitChanges")
        told: list[tuple[float, Write]] = []
        now = asyncio.get_running_loop().time
        ann.doc.on_unconfirmed(lambda write: told.append((now(), write)))
        begun = now()
        write = ann.tasks.insert(title="Spec")
        call = await ann.connection.next_call("commitChanges")
        await asyncio.sleep(11)
        assert [(at - begun, each.status) for at, each in told] == [(10.0, "unconfirmed")]
        assert str(write.key) in ann.tasks
        assert ann.doc.has_pending
        write.retry()
        assert write.status == "pending"
        call.answer(commit(call))
        await write
        assert len(told) == 1


@virtual_time
async def test_a_write_made_offline_is_unconfirmed_after_the_same_time() -> None:
    async with client_of(server_of(), connect=False) as ann:
        told: list[Write] = []
        ann.doc.on_unconfirmed(told.append)
        write = ann.tasks.insert(title="Spec")
        await asyncio.sleep(9)
        assert told == []
        await asyncio.sleep(2)
        assert told == [write]
        await ann.sync.connect()
        await write


@virtual_time
async def test_scenario_21_a_discarded_write_that_was_done_comes_back_with_the_stream() -> None:
    server = server_of()
    async with client_of(server) as ann:
        commit = ann.connection.replies.pop("commitChanges")
        write = ann.tasks.insert(title="Spec")
        call = await ann.connection.next_call("commitChanges")
        answer = commit(call)
        await asyncio.sleep(11)
        write.discard()
        assert write.status == "discarded"
        assert dict(ann.tasks) == {}
        with pytest.raises(WriteDiscardedError):
            await write
        call.answer(answer)
        await idle()
        assert list(ann.tasks) == [write.key]
        assert ann.errors == []
        assert not ann.doc.has_pending


@virtual_time
async def test_a_write_that_is_discarded_before_it_is_stored_reaches_nobody() -> None:
    server = server_of()
    async with client_of(server) as ann:
        write = ann.tasks.insert(title="Spec")
        write.discard()
        await ann.settled()
        assert dict(ann.tasks) == {}
        assert server.executed == []


@virtual_time
async def test_a_discarded_write_is_not_sent_any_more() -> None:
    server = server_of()
    async with client_of(server) as ann:
        ann.sync.set_online(False)
        kept, dropped = ann.tasks.insert(title="a"), ann.tasks.insert(title="b")
        await ann.doc.flush()
        dropped.discard()
        await idle()
        ann.sync.set_online(True)
        await kept
        await ann.settled()
        assert server.executed == [kept.id]
        assert list(ann.tasks) == [kept.key]


@virtual_time
async def test_closing_the_document_ends_whoever_waits() -> None:
    async with client_of(server_of(), connect=False) as ann:
        write = ann.tasks.insert(title="Spec")
        waiting = asyncio.ensure_future(_awaited(write))
        await idle()
        await ann.patches.close_doc("d")
        with pytest.raises(PatchesError, match="stays pending"):
            await waiting


@virtual_time
async def test_too_many_unsent_writes_are_refused() -> None:
    async with client_of(server_of(), connect=False) as ann:
        for number in range(10_000):
            ann.tasks.insert(id=f"t{number}", title="t")
        with pytest.raises(QueueFullError):
            ann.tasks.insert(title="one more")
        assert len(ann.tasks) == 10_000


# ---- offline and restarts ------------------------------------------------------------------------


async def test_scenario_18_writes_made_offline_arrive_once_and_in_order(tmp_path: Path) -> None:
    server, file, ids = server_of(), tmp_path / "client.db", list[str]()
    for run in range(3):
        async with client_of(server, store=file, connect=False, seed=run) as ann:
            assert len(ann.tasks) == run * 20
            for number in range(20):
                ids.append(ann.tasks.insert(id=f"t{run}-{number}", title="t").id)
            if run:
                ids.append(ann.tasks.update("t0-0", votes=run).id)
            await ann.doc.flush()
    async with client_of(server, store=file, connect=False, seed=9) as ann:
        assert [write.id for write in ann.doc.writes] == ids
        await ann.sync.connect()
        await ann.sync.settled(30)
        assert server.executed == ids
        assert len(ann.tasks) == 60
        assert ann.tasks["t0-0"]["votes"] == 2


@virtual_time
async def test_scenario_19_a_lost_answer_is_asked_again_and_has_one_effect() -> None:
    server = server_of(ONE)
    async with client_of(server) as ann:
        commit = ann.connection.replies.pop("commitChanges")
        write = ann.tasks.update("a", votes=4)
        call = await ann.connection.next_call("commitChanges")
        commit(call)  # done, and nobody hears of it
        ann.connection.drop()
        ann.connection.replies["commitChanges"] = commit
        ann.connection.restore()
        await write
        assert server.executed == [write.id]
        assert ann.tasks["a"]["votes"] == 4


async def test_a_write_that_is_discarded_while_it_is_stored_reaches_nobody(tmp_path: Path) -> None:
    server = server_of()
    async with client_of(server, store=tmp_path / "client.db") as ann:
        write = ann.tasks.insert(title="Spec")
        storing = asyncio.ensure_future(ann.doc.flush())
        await asyncio.sleep(0)  # its transaction has begun, in a thread
        await asyncio.sleep(0)
        write.discard()
        await storing
        await ann.sync.settled(10)
        assert dict(ann.tasks) == {}
        assert not ann.doc.has_pending
        assert ann.doc.writes == ()
    async with client_of(server, store=tmp_path / "client.db", connect=False) as ann:
        assert ann.doc.writes == ()


@virtual_time
async def test_a_write_of_another_task_does_not_join_a_transaction() -> None:
    server = server_of(ONE)
    async with client_of(server) as ann:

        async def beside() -> Write:
            return ann.tasks.update("a", votes=8)

        with ann.doc.transaction() as write:
            ann.tasks.update("a", votes=5, title="both")
            other = await asyncio.ensure_future(beside())
            ann.tasks.update("a", votes=6)
            assert ann.tasks["a"] == task("a", "both", votes=8), "the later write is on top"
        assert other.id != write.id
        await write
        await other
        assert [change_id in server.ids for change_id in (write.id, other.id)] == [True, True]

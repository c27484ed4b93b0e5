"""The races whose outcome lies in the OT algorithm, through the coordinator and the real one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from patches.algorithms.ot import OTAlgorithm, PendingQueue, QueuePosition, StoredSnapshot
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.client.patches import Patches
from patches.documents.document import Document
from patches.errors import (
    ChangeRefusedError,
    NetworkError,
    StaleSubmissionError,
    StatusError,
    StorageError,
    UnstoredPendingError,
)
from patches.model.change import Change, QuarantinedChange, Snapshot
from patches.model.history import NO_HISTORY, History
from patches.model.json_values import Json, Op
from patches.net.connection import CommitAnswer
from patches.runtime import Runtime
from patches.sync import PatchesSync, SyncedDoc
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.virtual_time import idle, virtual_time
from tests.support.ot_scene import lose


class Scene:
    """One OT document that is open, and a server that is the test."""

    def __init__(self, patches: Patches, sync: PatchesSync, connection: FakeConnection) -> None:
        self.patches, self.sync, self.connection = patches, sync, connection
        self.errors: list[Exception] = []
        sync.on_error(lambda error, _context: self.errors.append(error))

    @property
    def store(self) -> OTMemoryStore:
        algorithm = self.patches.algorithms["ot"]
        assert isinstance(algorithm, OTAlgorithm)
        assert isinstance(algorithm.store, OTMemoryStore)
        return algorithm.store

    @property
    def entry(self) -> SyncedDoc:
        return self.sync.synced["d"]

    async def opened_at(self, rev: int, state: Json) -> Document:
        doc = await self.patches.open_doc("d")
        (await self.connection.next_call("getDoc")).answer(Snapshot(state=state, rev=rev))
        await idle()
        return doc

    def broadcast(self, *changes: Change) -> None:
        self.connection.on_changes_committed.emit("d", list(changes))


@asynccontextmanager
async def ot_scene() -> AsyncIterator[Scene]:
    connection = FakeConnection()
    runtime = Runtime(random=random.Random(3), wall_ms=lambda: 1_000_000)
    async with Patches(runtime=runtime) as patches, PatchesSync(patches, connection) as sync:
        yield Scene(patches, sync, connection)


def put(key: str, value: Json = 1) -> Op:
    return {"op": "replace", "path": f"/{key}", "value": value}


async def stored(doc: Document, *ops: Op) -> None:
    doc.apply(list(ops))
    await doc.flush()
    await idle()


@virtual_time
async def test_a_root_replace_of_the_first_fetch_stays_at_0_whatever_is_broadcast() -> None:
    async with ot_scene() as scene:
        doc = await scene.patches.open_doc("d")
        load = await scene.connection.next_call("getDoc")
        await stored(doc, {"op": "replace", "path": "", "value": {"mine": True}})
        scene.broadcast(committed(1))
        load.answer(Snapshot(state={"theirs": True}, rev=3))
        await idle()
        scene.broadcast(committed(4))
        push = await scene.connection.next_call("commitChanges")
        for _ in range(2):
            assert [(change.base_rev, change.rev) for change in push.changes] == [(0, 1)]
            push.fail(StatusError(500, "busy"))
            await idle()
            assert scene.entry.status == "error"
            push = await scene.connection.next_call("commitChanges")  # the ladder's
        assert doc.state == {"mine": True}
        assert (await scene.store.load_queue("d")).committed_rev == 0
        push.fail(ChangeRefusedError(push.changes[0].id, "Document d already exists"))
        (await scene.connection.next_call("getChangesSince")).answer(
            [committed(2), committed(3), committed(4)]
        )
        await idle()
        assert doc.state == {"r1": 1, "r2": 2, "r3": 3, "r4": 4}
        (entry,) = await scene.patches.list_quarantined_changes("d")
        assert entry.change.ops == [{"op": "replace", "path": "", "value": {"mine": True}}]


@virtual_time
async def test_an_edit_still_being_stored_when_the_first_fetch_is_answered_stays_at_0() -> None:
    async with ot_scene() as scene:
        doc = await scene.patches.open_doc("d")
        load = await scene.connection.next_call("getDoc")
        save, gate = scene.store.save_pending_edits, asyncio.Event()

        async def slow(*arguments: Any) -> Any:  # as `save_pending_edits`
            await gate.wait()
            return await save(*arguments)

        scene.store.save_pending_edits = slow  # type: ignore[method-assign, assignment]  # arranged
        doc.apply([{"op": "replace", "path": "", "value": {"one": 1}}])
        await idle()
        doc.apply([put("two", 2)])  # not even on its way to the store
        load.answer(Snapshot(state={"theirs": True}, rev=3))
        await idle()
        gate.set()
        push = await scene.connection.next_call("commitChanges")
        assert [(change.base_rev, change.rev) for change in push.changes] == [(0, 1), (0, 2)]
        push.fail(NetworkError("lost"))


@virtual_time
async def test_broadcasts_are_parked_over_the_base_0_upload_and_the_reload_it_needs() -> None:
    async with ot_scene() as scene:
        doc = await scene.patches.open_doc("d")
        load = await scene.connection.next_call("getDoc")
        await stored(doc, put("mine"))
        load.answer(Snapshot(state={"theirs": 1}, rev=3))
        push = await scene.connection.next_call("commitChanges")
        scene.broadcast(committed(4))
        await idle()
        push.answer(CommitAnswer([], doc_reload_required=True))
        reload = await scene.connection.next_call("getDoc")
        scene.broadcast(committed(6))
        await idle()
        own = push.changes[0].replace(base_rev=4, rev=5, committed_at=1)
        reload.answer(Snapshot(state={"theirs": 1}, rev=3, changes=[committed(4), own]))
        tail = await scene.connection.next_call("getChangesSince")
        tail.answer([committed(rev) for rev in (1, 2, 3, 4)] + [own, committed(6)])
        await scene.sync.settled(1)
        await idle()
        assert doc.state == {"theirs": 1, "mine": 1, "r4": 4, "r6": 6}
        assert scene.entry == SyncedDoc(6, False, "synced")
        assert scene.connection.count("commitChanges") == 1
        assert scene.errors == []


@virtual_time
async def test_a_reload_rebases_over_the_whole_envelope_and_not_from_its_version_on() -> None:
    """Version 1 <= here 2 < head 4: only revisions 3 and 4 may move the pending edit."""
    async with ot_scene() as scene:
        doc = await scene.opened_at(2, {"list": ["b", "c"]})
        await stored(doc, {"op": "remove", "path": "/list/1"})  # "c"
        push = await scene.connection.next_call("commitChanges")
        push.fail(StaleSubmissionError("ahead"))
        log = [
            committed(rev, [{"op": "add", "path": "/list/0", "value": value}])
            for rev, value in ((2, "b"), (3, "y"), (4, "x"))
        ]
        (await scene.connection.next_call("getDoc")).answer(
            Snapshot(state={"list": ["c"]}, rev=1, changes=log)
        )
        tail = await scene.connection.next_call("getChangesSince")
        assert tail.args[1] == 2
        tail.answer(log[1:])
        push = await scene.connection.next_call("commitChanges")
        assert [(change.base_rev, change.rev) for change in push.changes] == [(4, 5)]
        assert push.changes[0].ops == [{"op": "remove", "path": "/list/3"}]
        assert doc.state == {"list": ["x", "y", "b"]}
        push.commit(5)
        await scene.sync.settled(1)


@virtual_time
async def test_an_edit_made_between_the_store_and_the_view_of_a_reload_survives() -> None:
    async with ot_scene() as scene:
        doc = await scene.opened_at(1, {})
        await stored(doc, put("one"))
        push = await scene.connection.next_call("commitChanges")
        push.answer(CommitAnswer([], doc_reload_required=True))
        reload = await scene.connection.next_call("getDoc")
        install_doc = scene.store.install_doc

        async def slow(
            doc_id: str,
            snapshot: Snapshot,
            rebased_pending: Sequence[Change],
            read: PendingQueue,
            history: History = NO_HISTORY,
            aside: Sequence[QuarantinedChange] = (),
            committed_ids: Collection[str] = (),
        ) -> Any:
            result = await install_doc(
                doc_id, snapshot, rebased_pending, read, history, aside, committed_ids
            )
            doc.apply([put("two", 2)])
            await idle()
            return result

        scene.store.install_doc = slow  # type: ignore[method-assign]  # arranged
        own = push.changes[0].replace(base_rev=2, rev=3, committed_at=1)
        reload.answer(Snapshot(state={"theirs": 1}, rev=2, changes=[own]))
        (await scene.connection.next_call("getChangesSince")).answer([committed(2, []), own])
        push = await scene.connection.next_call("commitChanges")
        assert [change.ops for change in push.changes] == [[put("two", 2)]]
        assert [(change.base_rev, change.rev) for change in push.changes] == [(3, 4)]
        assert doc.state == {"theirs": 1, "one": 1, "two": 2}
        push.commit(4)
        await scene.sync.settled(1)


@virtual_time
async def test_an_edit_of_a_document_read_before_its_first_fetch_stands_on_that() -> None:
    async with ot_scene() as scene:
        await scene.patches.track_docs(["d"])
        load = await scene.connection.next_call("getDoc")
        get_doc, reads = scene.store.get_doc, 0

        async def slow(doc_id: str) -> StoredSnapshot | None:
            nonlocal reads
            reads += 1
            snapshot = await get_doc(doc_id)
            if reads == 1:
                load.answer(Snapshot(state={"theirs": 1}, rev=1))
                await idle()
            return snapshot

        scene.store.get_doc = slow  # type: ignore[method-assign]  # arranged
        doc = await scene.patches.open_doc("d")
        await stored(doc, put("mine"))
        assert doc.state == {"theirs": 1, "mine": 1}
        push = await scene.connection.next_call("commitChanges")
        assert [(change.base_rev, change.rev) for change in push.changes] == [(1, 2)]
        push.commit(2)
        await scene.sync.settled(1)
        assert scene.errors == []


@pytest.mark.parametrize("is_lost", [False, True], ids=["stored", "tried again"])
def test_an_edit_being_stored_while_a_change_is_received_stands_behind_it(is_lost: bool) -> None:
    @virtual_time
    async def run() -> None:
        async with ot_scene() as scene:
            doc = await scene.opened_at(1, {"list": ["a", "b"]})
            save, gate = scene.store.save_pending_edits, asyncio.Event()

            async def slow(*arguments: Any) -> Any:  # as `save_pending_edits`
                await gate.wait()
                scene.store.save_pending_edits = save  # type: ignore[method-assign]  # once
                if is_lost:
                    raise StorageError("busy")
                return await save(*arguments)

            scene.store.save_pending_edits = slow  # type: ignore[method-assign, assignment]  # arranged
            doc.apply([{"op": "remove", "path": "/list/1"}])
            doc.apply([{"op": "add", "path": "/list/1", "value": "c"}])
            await idle()
            scene.broadcast(committed(2, [{"op": "add", "path": "/list/0", "value": "theirs"}]))
            await idle()
            gate.set()
            push = await scene.connection.next_call("commitChanges")
            assert [change.ops[0]["path"] for change in push.changes] == ["/list/2"] * len(
                push.changes
            )
            assert {change.base_rev for change in push.changes} == {2}
            push.commit(3)
            if len(push.changes) == 1:
                (await scene.connection.next_call("commitChanges")).commit(4)
            await scene.sync.settled(60)
            assert doc.state == {"list": ["theirs", "a", "c"]}
            assert scene.entry == SyncedDoc(4, False, "synced")

    run()


@virtual_time
async def test_the_end_of_the_queue_that_the_store_lost_is_sent() -> None:
    async with ot_scene() as scene:
        doc = await scene.opened_at(1, {})
        scene.connection.drop()
        await stored(doc, put("kept"))
        await stored(doc, put("lost"))
        lost = (await scene.store.load_queue("d")).pending[-1]
        lose(scene.store, lost.id, doc_id="d")
        scene.connection.restore()
        push = await scene.connection.next_call("commitChanges")
        assert [change.ops for change in push.changes] == [[put("kept")], [put("lost")]]
        push.commit(2)
        await scene.sync.settled(1)
        assert scene.errors == []


@virtual_time
async def test_what_the_queue_has_passed_is_withheld_and_told_once() -> None:
    async with ot_scene() as scene:
        doc = await scene.opened_at(1, {})
        scene.connection.drop()
        await stored(doc, put("lost"))
        await stored(doc, put("kept"))
        lost, kept = (await scene.store.load_queue("d")).pending
        lose(scene.store, lost.id, doc_id="d")
        scene.connection.restore()
        for _ in range(3):
            push = await scene.connection.next_call("commitChanges")
            assert [change.id for change in push.changes] == [kept.id]
            scene.connection.drop()
            await idle()
            scene.connection.restore()
        (error,) = scene.errors
        assert isinstance(error, UnstoredPendingError)
        assert error.change_ids == (lost.id,)


@virtual_time
async def test_a_store_that_cannot_tell_withholds_nothing() -> None:
    async with ot_scene() as scene:
        doc = await scene.opened_at(1, {})
        scene.connection.drop()
        await stored(doc, put("mine"))
        load_position, failures = scene.store.load_position, [OSError("disk")]

        async def failing(doc_id: str) -> QueuePosition:
            if failures:
                raise failures.pop()
            return await load_position(doc_id)

        scene.store.load_position = failing  # type: ignore[method-assign]  # arranged
        scene.connection.restore()
        push = await scene.connection.next_call("commitChanges")  # by the ladder
        assert [change.ops for change in push.changes] == [[put("mine")]]
        push.commit(2)
        await scene.sync.settled(1)
        assert scene.errors == []


@virtual_time
async def test_work_that_the_store_lost_is_handed_over_by_a_deletion_without_an_alarm() -> None:
    async with ot_scene() as scene:
        scene.connection.replies["unsubscribe"] = []
        doc = await scene.opened_at(1, {})
        scene.connection.drop()
        await stored(doc, put("lost"))
        await stored(doc, put("kept"))
        lost, kept = (await scene.store.load_queue("d")).pending
        lose(scene.store, lost.id, doc_id="d")
        handed: list[str] = []
        scene.sync.on_remote_doc_deleted(
            lambda _doc_id, pending: handed.extend(change.id for change in pending)
        )
        scene.connection.on_doc_deleted.emit("d")
        await idle()
        assert handed == [lost.id, kept.id]
        assert scene.errors == []
        assert "d" not in scene.sync.synced


@virtual_time
async def test_one_load_of_an_ot_document_leaves_out_all_that_cannot_be_applied() -> None:
    async with ot_scene() as scene:
        errors: list[str | None] = []
        scene.sync.on_error(lambda _error, context: errors.append(context.change_id))
        doc = await scene.patches.open_doc("d")
        bad: list[Mapping[str, Json]] = [{"op": "replace", "path": "/s/x", "value": 1}]
        tail = [committed(rev, bad if rev % 2 else None) for rev in range(1, 81)]
        (await scene.connection.next_call("getDoc")).answer(
            Snapshot(state={"s": 1}, rev=0, changes=tail)
        )
        await idle()
        assert doc.state == {"s": 1, **{f"r{rev}": rev for rev in range(2, 81, 2)}}
        assert scene.entry == SyncedDoc(80, False, "synced")
        assert errors == [f"other{rev}" for rev in range(1, 81, 2)]
        scene.broadcast(committed(81))
        await idle()
        assert doc.state["r81"] == 81
        assert len(errors) == 40

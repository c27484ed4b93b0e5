"""What a commit leaves behind (`docs/internals/sync.md` 6 and 13)."""

from __future__ import annotations

from patches.documents.document import Document
from patches.errors import StaleSubmissionError
from patches.model.change import Change, Snapshot
from patches.net.connection import CommitAnswer
from patches.options import DocOptions
from patches.sync import SyncedDoc
from patches.testing.fake_connection import committed
from patches.testing.virtual_time import idle, virtual_time
from tests.support.small_algorithm import SmallAlgorithm
from tests.support.sync_scene import sync_scene


@virtual_time
async def test_batches_go_out_in_order_one_after_the_other() -> None:
    async with sync_scene(max_payload_bytes=400) as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        for number in range(6):
            await scene.edit(doc, **{f"k{number}": "x" * 50})
        ids = [change.id for change in scene.algorithm.records["d"].pending]
        scene.connection.restore()
        sent: list[str] = []
        rev = 2
        while len(sent) < len(ids):
            push = await scene.connection.next_call("commitChanges")
            assert 1 <= len(push.changes) <= 2
            sent += [change.id for change in push.changes]
            push.commit(rev)
            rev += len(push.changes)
        await scene.sync.settled(1)
        assert sent == ids


@virtual_time
async def test_a_sent_change_that_came_to_nothing_is_dropped_and_shown_so() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, mine=1)
        push = await scene.connection.next_call("commitChanges")
        push.answer(CommitAnswer([committed(2)]))
        await scene.sync.settled(1)
        assert doc.state == {"r2": 2}
        assert scene.entry() == SyncedDoc(2, False, "synced")
        assert scene.connection.count("commitChanges") == 1


class Collapsing(SmallAlgorithm):
    """Its pending work comes to nothing when it is to be sent."""

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        self.records[doc_id].pending.clear()
        return []


@virtual_time
async def test_work_that_collapses_to_nothing_sends_nothing_and_ends_synced() -> None:
    async with sync_scene(algorithm=Collapsing()) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        await scene.sync.settled(1)
        assert scene.connection.count("commitChanges") == 0
        assert scene.entry() == SyncedDoc(1, False, "synced")


class Sharing(SmallAlgorithm):
    """Another process on its store confirms what is pending just before a batch is made, and adds
    to it just after, some times in a row.
    """

    times = 3

    async def next_batch(
        self, doc_id: str, doc: Document | None, options: DocOptions
    ) -> list[Change]:
        if not self.times:
            return await super().next_batch(doc_id, doc, options)
        self.times -= 1
        pending = self.records[doc_id].pending
        kept = list(pending)
        pending.clear()
        batch = await super().next_batch(doc_id, doc, options)
        pending += kept
        return batch


@virtual_time
async def test_work_that_another_process_adds_after_an_empty_batch_is_sent() -> None:
    async with sync_scene(algorithm=Sharing()) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        (await scene.connection.next_call("commitChanges")).commit(2)
        await scene.sync.settled(1)
        assert scene.entry() == SyncedDoc(2, False, "synced")


class NotDraining(SmallAlgorithm):
    """Keeps what was committed in its queue."""

    async def receive_answer(self, *args: object) -> list[Change]:
        return []


@virtual_time
async def test_a_commit_that_does_not_drain_is_not_repeated() -> None:
    async with sync_scene(algorithm=NotDraining()) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, a=1)
        (await scene.connection.next_call("commitChanges")).commit(2)
        await idle()
        assert scene.connection.count("commitChanges") == 1
        assert scene.entry().has_pending
        await scene.edit(doc, b=1)  # something new: it is worth another try
        (await scene.connection.next_call("commitChanges")).commit(3)
        await idle()
        assert scene.connection.count("commitChanges") == 2


@virtual_time
async def test_a_reload_required_keeps_what_was_minted_during_the_fetch() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(0)
        await scene.edit(doc, one=1)
        push = await scene.connection.next_call("commitChanges")
        (one,) = push.changes
        push.answer(CommitAnswer([], doc_reload_required=True))
        reload = await scene.connection.next_call("getDoc")
        await scene.edit(doc, two=2)
        own = one.replace(rev=3, base_rev=2)
        reload.answer(Snapshot(state={"theirs": 1}, rev=2, changes=[own]))
        (await scene.connection.next_call("getChangesSince")).answer(
            [committed(1), committed(2), own]
        )
        push = await scene.connection.next_call("commitChanges")
        (two,) = push.changes
        assert two.ops == [{"op": "replace", "path": "/two", "value": 2}]
        push.commit(4)
        await scene.sync.settled(1)
        assert doc.state == {"theirs": 1, "one": 1, "two": 2}
        assert scene.algorithm.resolved == [one.id]


@virtual_time
async def test_a_reload_required_is_remembered_over_a_lost_connection() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(0)
        await scene.edit(doc, one=1)
        push = await scene.connection.next_call("commitChanges")
        own = push.changes[0].replace(rev=3, base_rev=2)
        push.answer(CommitAnswer([], doc_reload_required=True))
        await scene.connection.next_call("getDoc")
        scene.connection.drop()
        await idle()
        scene.connection.restore()
        (await scene.connection.next_call("getDoc")).answer(
            Snapshot(state={}, rev=2, changes=[own])
        )
        (await scene.connection.next_call("getChangesSince")).answer([own])
        await scene.sync.settled(1)
        assert scene.connection.count("commitChanges") == 1
        assert doc.state == {"one": 1}


@virtual_time
async def test_nothing_computed_before_a_reload_is_sent_after_it() -> None:
    async with sync_scene(max_payload_bytes=200) as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        await scene.edit(doc, one="x" * 50)
        await scene.edit(doc, two="x" * 50)
        scene.connection.restore()
        push = await scene.connection.next_call("commitChanges")
        assert len(push.changes) == 1
        push.fail(StaleSubmissionError("ahead"))
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={}, rev=7))
        (await scene.connection.next_call("getChangesSince")).answer([])
        for rev in (8, 9):
            push = await scene.connection.next_call("commitChanges")
            assert [change.base_rev for change in push.changes] == [rev - 1]
            push.commit(rev)
        await scene.sync.settled(1)


@virtual_time
async def test_nothing_computed_before_a_required_reload_is_sent_after_it() -> None:
    async with sync_scene(max_payload_bytes=200) as scene:
        doc = await scene.opened_at(0)
        scene.connection.drop()
        await scene.edit(doc, one="x" * 50)
        await scene.edit(doc, two="x" * 50)
        scene.connection.restore()
        push = await scene.connection.next_call("commitChanges")
        (one,) = push.changes
        push.answer(CommitAnswer([], doc_reload_required=True))
        own = one.replace(rev=8, base_rev=7)
        (await scene.connection.next_call("getDoc")).answer(
            Snapshot(state={}, rev=7, changes=[own])
        )
        (await scene.connection.next_call("getChangesSince")).answer([own])
        push = await scene.connection.next_call("commitChanges")
        assert [(change.base_rev, list(change.ops[0].values())[1]) for change in push.changes] == [
            (8, "/two")
        ]
        push.commit(9)
        await scene.sync.settled(1)
        assert doc.state == {"one": "x" * 50, "two": "x" * 50}


@virtual_time
async def test_what_the_store_holds_is_sent_also_without_an_open_document() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.connection.drop()
        await scene.edit(doc, a=1)
        await scene.patches.close_doc("d")
        scene.connection.restore()
        (await scene.connection.next_call("commitChanges")).commit(2)
        await scene.sync.settled(1)
        assert scene.entry() == SyncedDoc(2, False, "synced")


@virtual_time
async def test_an_edit_during_the_answer_s_storage_is_not_forgotten() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, one=1)
        push = await scene.connection.next_call("commitChanges")
        has_pending = scene.algorithm.has_pending

        async def slow(doc_id: str) -> bool:
            answer = await has_pending(doc_id)
            scene.algorithm.has_pending = has_pending  # type: ignore[method-assign]  # once
            await scene.edit(doc, two=2)  # between the store's answer and its use
            return answer

        scene.algorithm.has_pending = slow  # type: ignore[method-assign]  # arranged
        push.commit(2)
        (await scene.connection.next_call("commitChanges")).commit(3)
        await scene.sync.settled(1)
        assert doc.state == {"one": 1, "two": 2}

"""`OTClientStoreContract`: what every OT client store must pass.

    class TestMyStore(OTClientStoreContract):
        @pytest.fixture
        async def store(self) -> AsyncIterator[OTClientStore]:
            yield MyStore(...)

A store that several processes can share overrides `other` too, with a second store on the same
data. Documents and ids are made up in the tests; the store starts empty.
"""

from __future__ import annotations

from patches.algorithms.histories import version_after_install
from patches.algorithms.ot import (
    CONFLICT,
    OTClientStore,
    PendingQueue,
)
from patches.model.change import QuarantinedChange, Snapshot
from patches.model.history import NO_HISTORY
from patches.testing.contracts.ot_client_records import OTClientRecordsContract
from patches.testing.contracts.ot_client_steps import (
    DOC,
    commit,
    committed,
    committed_rev,
    drop,
    ids,
    install,
    kept,
    pending,
    quarantine,
    queued,
    receive,
    save,
    state_at,
)


class OTClientStoreContract(OTClientRecordsContract):
    """Every OT client store passes these. Subclass it and give a `store` fixture."""

    # ---- pending changes -------------------------------------------------------------------------

    async def test_pending_changes_are_numbered_after_everything_there_is(
        self, store: OTClientStore
    ) -> None:
        await commit(store, 1, 2)
        saved = await save(store, pending("a", rev=9), pending("b", rev=9))
        assert ids(saved) == [("a", 3), ("b", 4)]
        assert ids(await save(store, pending("c"))) == [("c", 5)]
        assert ids(await queued(store)) == [("a", 3), ("b", 4), ("c", 5)]

    async def test_a_pending_change_comes_back_as_it_was(self, store: OTClientStore) -> None:
        change = pending(
            "a",
            base_rev=7,
            ops=[{"op": "add", "path": "/x", "value": [None, True, 1, 1.5, "é😀\ud83d"]}],
            batch_id="b1",
            client_id="c1",
            metadata={"user": {"name": "Ada"}, "later": None},
        )
        await save(store, change)
        (stored,) = await queued(store)
        assert stored == change.replace(rev=1)

    async def test_two_processes_that_add_at_once_both_keep_their_changes(
        self, store: OTClientStore, other: OTClientStore
    ) -> None:
        assert ids(await save(store, pending("a", rev=1))) == [("a", 1)]
        assert ids(await save(other, pending("b", rev=1))) == [("b", 2)]
        assert ids(await queued(store)) == [("a", 1), ("b", 2)]

    async def test_edits_saved_together_are_those_saved_in_turn(self, store: OTClientStore) -> None:
        await save(store, pending("a"), pending("piece"))
        position = await store.load_position(DOC)
        saved = await store.save_pending_edits(DOC, [[pending("b")], [pending("c")]], position)
        assert saved != CONFLICT
        assert [ids(changes) for changes in saved] == [[("b", 3)], [("c", 4)]]
        assert ids(await queued(store)) == [("a", 1), ("piece", 2), ("b", 3), ("c", 4)]
        assert await store.load_position(DOC) == position.appended(2)

    async def test_saving_behind_another_queue_is_a_conflict(
        self, store: OTClientStore, other: OTClientStore
    ) -> None:
        position = await store.load_position(DOC)
        await save(other, pending("a"))
        assert await store.save_pending_edits(DOC, [[pending("b")]], position) == CONFLICT
        position = await store.load_position(DOC)
        await commit(other, 1)
        assert await store.save_pending_edits(DOC, [[pending("b")]], position) == CONFLICT
        assert ids(await queued(store)) == [("a", 1)]

    async def test_what_was_appended_is_read_alone(
        self, store: OTClientStore, other: OTClientStore
    ) -> None:
        await save(store, pending("a"))
        position = await store.load_position(DOC)
        assert await store.load_appended(DOC, position) == []
        await save(other, pending("b"), pending("c"))
        appended = await store.load_appended(DOC, position)
        assert appended is not None
        assert ids(appended) == [("b", 2), ("c", 3)]
        await drop(other, "a")
        assert await store.load_appended(DOC, position) is None

    async def test_a_document_that_is_known_again_has_no_position_of_before(
        self, store: OTClientStore
    ) -> None:
        await store.track_docs([DOC])
        positions = [await store.load_position(DOC)]
        await store.untrack_docs([DOC])
        await store.track_docs([DOC])
        positions.append(await store.load_position(DOC))
        await store.delete_doc(DOC)
        await store.track_docs([DOC])
        positions.append(await store.load_position(DOC))
        await save(store, pending("a"))
        await store.untrack_docs([DOC])
        unknown = await store.load_position(DOC)
        assert len({*positions, unknown}) == 4
        assert await store.save_pending_edits(DOC, [[pending("a")]], unknown) != CONFLICT
        assert await store.load_position(DOC) == unknown.appended(1)

    async def test_a_document_is_read_with_its_position(self, store: OTClientStore) -> None:
        await commit(store, 1)
        await save(store, pending("a"))
        snapshot = await store.get_doc(DOC)
        queue = await store.load_queue(DOC)
        assert snapshot is not None
        assert snapshot.position == queue.position == await store.load_position(DOC)

    async def test_a_queue_is_read_with_its_committed_revision(self, store: OTClientStore) -> None:
        await commit(store, 1)
        await save(store, pending("a"))
        queue = await store.load_queue(DOC)
        assert (queue.committed_rev, ids(queue.pending), queue.tail_rev) == (1, [("a", 2)], 2)

    async def test_documents_do_not_mix(self, store: OTClientStore) -> None:
        await save(store, pending("a"), doc_id="d1")
        await save(store, pending("b"), doc_id="d1/x")
        await receive(store, [committed(1)], [], doc_id="d1")
        assert ids(await queued(store, "d1/x")) == [("b", 1)]
        assert await committed_rev(store, "d1/x") == 0

    # ---- committed changes -----------------------------------------------------------------------

    async def test_a_document_is_its_committed_state_and_its_pending_changes(
        self, store: OTClientStore
    ) -> None:
        await commit(store, 1, 2)
        await save(store, pending("a", base_rev=2))
        snapshot = await store.get_doc(DOC)
        assert snapshot is not None
        assert (snapshot.state, snapshot.rev) == (state_at(2), 2)
        assert ids(snapshot.changes) == [("a", 3)]

    async def test_server_changes_and_the_rebased_queue_are_stored_together(
        self, store: OTClientStore
    ) -> None:
        await save(store, pending("a"), pending("b"))
        read = await store.load_queue(DOC)
        rebased = [pending("b", base_rev=1, rev=2)]
        assert await store.apply_server_changes(DOC, [committed(1)], rebased, read) is None
        queue = await store.load_queue(DOC)
        assert queue == PendingQueue(1, rebased, queue.version)
        assert queue.position == read.position.replaced(1, rebased)

    async def test_changes_that_are_stored_already_are_skipped(self, store: OTClientStore) -> None:
        await commit(store, 1, 2)
        await commit(store, 2, 3)
        await commit(store, 1)
        assert ids(await kept(store)) == [("s1", 1), ("s2", 2), ("s3", 3)]
        assert await committed_rev(store) == 3

    async def test_a_queue_that_has_grown_since_is_a_conflict(
        self, store: OTClientStore, other: OTClientStore
    ) -> None:
        await save(store, pending("a"))
        read = await store.load_queue(DOC)
        await save(other, pending("b"))
        assert await store.apply_server_changes(DOC, [committed(1)], [], read) == CONFLICT
        assert await committed_rev(store) == 0
        assert ids(await queued(store)) == [("a", 1), ("b", 2)]

    async def test_a_committed_revision_that_has_moved_since_is_a_conflict(
        self, store: OTClientStore, other: OTClientStore
    ) -> None:
        await save(store, pending("a"), pending("b"))
        read = await store.load_queue(DOC)
        # One confirmed, one left: the queue ends at the same revision as before.
        await receive(other, [committed(1)], [pending("b", base_rev=1, rev=2)])
        assert await store.apply_server_changes(DOC, [committed(1)], [], read) == CONFLICT
        snapshot = Snapshot(state={}, rev=9)
        assert await store.install_doc(DOC, snapshot, [], read) == CONFLICT
        assert ids(await queued(store)) == [("b", 2)]
        assert await committed_rev(store) == 1

    async def test_a_change_that_was_quarantined_since_is_a_conflict(
        self, store: OTClientStore, other: OTClientStore
    ) -> None:
        changes = await save(store, pending("a"), pending("b"))
        read = await store.load_queue(DOC)
        left = [changes[1].replace(rev=1)]
        await quarantine(other, changes[0], *left)
        assert await store.apply_server_changes(DOC, [], changes, read) == CONFLICT
        assert ids(await queued(store)) == [("b", 1)]
        again = await store.load_queue(DOC)
        assert await store.apply_server_changes(DOC, [committed(1)], left, again) is None

    async def test_a_change_that_has_left_the_queue_is_a_conflict(
        self, store: OTClientStore, other: OTClientStore
    ) -> None:
        await save(store, pending("a"), pending("b"))
        read = await store.load_queue(DOC)
        await drop(other, "a")
        assert await store.apply_server_changes(DOC, [committed(1)], [], read) == CONFLICT

    async def test_a_snapshot_replaces_the_committed_part(self, store: OTClientStore) -> None:
        await commit(store, 1, 2, 3)
        (change,) = await save(store, pending("a"))
        await install(
            store,
            Snapshot(state=state_at(5), rev=5, changes=[committed(6), committed(7)]),
            [change.replace(rev=8)],
        )
        snapshot = await store.get_doc(DOC)
        assert snapshot is not None
        assert (snapshot.state, snapshot.rev) == (state_at(7), 7)
        assert ids(snapshot.changes) == [("a", 8)]
        assert await committed_rev(store) == 7

    async def test_installing_a_snapshot_replaces_the_queue_too(self, store: OTClientStore) -> None:
        await save(store, pending("a"), pending("b"))
        read = await store.load_queue(DOC)
        left = [pending("b", base_rev=5, rev=6)]
        assert await store.install_doc(DOC, Snapshot(state={"x": 1}, rev=5), left, read) is None
        assert await store.get_doc(DOC) == Snapshot(state={"x": 1}, rev=5, changes=left)

    async def test_a_snapshot_puts_what_cannot_stay_into_quarantine(
        self, store: OTClientStore
    ) -> None:
        gone, _ = await save(store, pending("a"), pending("b"))
        read = await store.load_queue(DOC)
        entry = QuarantinedChange(
            doc_id=DOC, change_id="a", change=gone, reason="why", quarantined_at=7
        )
        left = [pending("b", base_rev=5, rev=6)]
        snapshot = Snapshot(state={}, rev=5)
        assert await store.install_doc(DOC, snapshot, left, read, NO_HISTORY, [entry]) is None
        assert await store.list_quarantined_changes(DOC) == [entry]
        assert ids(await queued(store)) == [("b", 6)]
        again = await store.install_doc(DOC, snapshot, left, read, NO_HISTORY, [entry])
        assert again == CONFLICT
        read = await store.load_queue(DOC)  # it was committed after all
        assert await store.install_doc(DOC, snapshot, left, read, committed_ids={"a"}) is None
        assert await store.list_quarantined_changes(DOC) == []

    async def test_an_edit_that_was_never_queued_goes_into_quarantine(
        self, store: OTClientStore
    ) -> None:
        await commit(store, 1)
        entry = QuarantinedChange(
            doc_id=DOC, change_id="a", change=pending("a"), reason="why", quarantined_at=7
        )
        for _ in range(2):  # a call that seemed to fail is made again
            await store.quarantine_edit(entry)
        assert await store.list_quarantined_changes(DOC) == [entry]
        assert await queued(store) == []

    async def test_a_position_tells_of_an_installation(
        self, store: OTClientStore, other: OTClientStore
    ) -> None:
        await commit(store, 1, 2)
        before = await store.load_position(DOC)
        await commit(other, 3)
        await save(other, pending("a"))
        assert (await store.load_position(DOC)).is_of_same_install(before)
        read = await other.load_queue(DOC)
        assert await other.install_doc(DOC, Snapshot(state={}, rev=3), [], read) is None
        after = await store.load_position(DOC)
        assert not after.is_of_same_install(before)
        assert after.version == version_after_install(read.version)

    async def test_a_queue_is_read_with_what_was_committed_since(
        self, store: OTClientStore
    ) -> None:
        await commit(store, 1, 2)
        await save(store, pending("a"))
        assert ids(await kept(store)) == [("s1", 1), ("s2", 2)]
        assert ids(await kept(store, after=1)) == [("s2", 2)]
        assert await kept(store, after=2) == []

    async def test_a_long_log_is_folded_and_reads_the_same(self, store: OTClientStore) -> None:
        for first in range(1, 1_350, 150):
            await commit(store, *range(first, first + 150))
        snapshot = await store.get_doc(DOC)
        assert snapshot is not None
        assert (snapshot.state, snapshot.rev) == (state_at(1_350), 1_350)
        assert len(await kept(store)) < 1_350
        await commit(store, 1_350, 1_351)
        snapshot = await store.get_doc(DOC)
        assert snapshot is not None
        assert snapshot.state == state_at(1_351)

    async def test_a_committed_change_that_cannot_be_applied_is_left_out_of_the_state(
        self, store: OTClientStore
    ) -> None:
        await commit(store, 1)
        bad = committed(
            2,
            ops=[{"op": "remove", "path": "/list/7"}, {"op": "add", "path": "/r1/x/y", "value": 1}],
        )
        await receive(store, [bad, committed(3)], [])
        snapshot = await store.get_doc(DOC)
        assert snapshot is not None
        assert (snapshot.state, snapshot.rev) == ({"r1": 1, "r3": 3}, 3)

    async def test_an_awkward_state_comes_back_as_it_was(self, store: OTClientStore) -> None:
        state = {"": None, "a/b~c": [1, 1.5, True, False], "emoji": "😀", "half": "\ud83d"}
        await install(store, Snapshot(state=state, rev=3), doc_id="awkward \ud83d id")
        snapshot = await store.get_doc("awkward \ud83d id")
        assert snapshot is not None
        assert snapshot.state == state
        assert [doc.doc_id for doc in await store.list_docs()] == ["awkward \ud83d id"]

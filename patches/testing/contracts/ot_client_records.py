"""The contract of an OT client store: which documents there are, and its quarantine."""

from __future__ import annotations

import pytest

from patches.algorithms.ot import CONFLICT, OTClientStore
from patches.model.change import QuarantinedChange, Snapshot, TrackedDoc
from patches.testing.contracts.ot_client_steps import (
    DOC,
    commit,
    committed_rev,
    ids,
    install,
    kept,
    pending,
    quarantine,
    queued,
    requeue,
    save,
    state_at,
)


class OTClientRecordsContract:
    """A part of `OTClientStoreContract`."""

    @pytest.fixture
    def other(self, store: OTClientStore) -> OTClientStore:
        """A second process's store on the same data."""
        return store

    # ---- tracking --------------------------------------------------------------------------------

    async def test_an_unknown_document_has_nothing(self, store: OTClientStore) -> None:
        assert await store.get_doc(DOC) is None
        assert await committed_rev(store) == 0
        assert await queued(store) == []
        assert await kept(store) == []

    async def test_a_tracked_document_starts_empty_at_revision_0(
        self, store: OTClientStore
    ) -> None:
        await store.track_docs([DOC, "other"])
        assert await store.list_docs() == [
            TrackedDoc(doc_id=DOC, committed_rev=0),
            TrackedDoc(doc_id="other", committed_rev=0),
        ]
        assert await store.get_doc(DOC) == Snapshot(state=None, rev=0)

    async def test_tracking_again_changes_nothing(self, store: OTClientStore) -> None:
        await store.track_docs([DOC])
        await commit(store, 1)
        await store.track_docs([DOC])
        assert await committed_rev(store) == 1

    async def test_untracking_removes_all_but_the_quarantine(self, store: OTClientStore) -> None:
        await save(store, pending("bad"))
        await commit(store, 1)
        await quarantine(store, pending("bad"))
        await store.untrack_docs([DOC])
        assert await store.list_docs(True) == []
        assert await store.get_doc(DOC) is None
        assert [entry.change_id for entry in await store.list_quarantined_changes()] == ["bad"]

    async def test_a_list_has_the_last_committed_revision_also_after_a_snapshot(
        self, store: OTClientStore
    ) -> None:
        await install(store, Snapshot(state=state_at(1), rev=1))
        await commit(store, 2)
        assert await store.list_docs() == [TrackedDoc(doc_id=DOC, committed_rev=2)]

    async def test_a_deleted_document_leaves_a_record_until_it_is_confirmed(
        self, store: OTClientStore
    ) -> None:
        await save(store, pending("a"), pending("bad"))
        await commit(store, 1)
        await quarantine(store, pending("bad"))
        await store.delete_doc(DOC)
        assert await store.get_doc(DOC) is None
        assert await store.list_docs() == []
        assert await store.list_docs(True) == [
            TrackedDoc(doc_id=DOC, committed_rev=0, deleted=True)
        ]
        assert await store.list_quarantined_changes(DOC) == []
        assert await queued(store) == []
        await store.confirm_delete_doc(DOC)
        assert await store.list_docs(True) == []

    async def test_confirming_a_deletion_leaves_a_living_document(
        self, store: OTClientStore
    ) -> None:
        await store.track_docs([DOC])
        await store.confirm_delete_doc(DOC)
        assert await store.get_doc(DOC) is not None

    async def test_tracking_or_editing_a_deleted_document_starts_it_again(
        self, store: OTClientStore
    ) -> None:
        await commit(store, 1, 2)
        await store.delete_doc(DOC)
        await store.track_docs([DOC])
        assert await store.get_doc(DOC) == Snapshot(state=None, rev=0)
        await store.delete_doc(DOC)
        assert ids(await save(store, pending("a"))) == [("a", 1)]
        assert not (await store.list_docs())[0].deleted

    # ---- quarantine ------------------------------------------------------------------------------

    async def test_a_quarantined_change_leaves_the_queue_in_the_same_step(
        self, store: OTClientStore
    ) -> None:
        saved = await save(store, pending("bad"), pending("good"))
        read = await store.load_queue(DOC)
        left = [saved[1].replace(rev=1)]
        entry = await store.quarantine_pending_change(DOC, saved[0], "refused", left, read)
        assert isinstance(entry, QuarantinedChange)
        assert (entry.doc_id, entry.change_id, entry.reason) == (DOC, "bad", "refused")
        assert await queued(store) == left
        assert await store.list_quarantined_changes(DOC) == [entry]
        assert await store.list_quarantined_changes("another") == []

    async def test_a_change_that_is_not_pending_is_not_quarantined(
        self, store: OTClientStore
    ) -> None:
        await save(store, pending("a"))
        assert await quarantine(store, pending("gone")) is None
        assert ids(await queued(store)) == [("a", 1)]
        assert await store.list_quarantined_changes() == []

    async def test_quarantining_from_an_old_queue_is_a_conflict(
        self, store: OTClientStore, other: OTClientStore
    ) -> None:
        (bad,) = await save(store, pending("bad"))
        read = await store.load_queue(DOC)
        await save(other, pending("new"))
        result = await store.quarantine_pending_change(DOC, bad, "r", [], read)
        assert result == CONFLICT
        assert ids(await queued(store)) == [("bad", 1), ("new", 2)]
        assert await store.list_quarantined_changes() == []

    async def test_a_quarantined_change_is_discarded(self, store: OTClientStore) -> None:
        (bad,) = await save(store, pending("bad"))
        await quarantine(store, bad)
        await store.discard_quarantined_change(DOC, "unknown")
        await store.discard_quarantined_change(DOC, "bad")
        assert await store.list_quarantined_changes() == []

    async def test_a_quarantined_change_goes_back_into_the_queue_once(
        self, store: OTClientStore
    ) -> None:
        saved = await save(store, pending("bad"), pending("good"))
        await quarantine(store, saved[0], saved[1])
        again = await requeue(store, "bad", pending("again", rev=1))
        assert again is not None
        assert ids(again) == [("again", 3)]
        assert await store.list_quarantined_changes() == []
        assert await requeue(store, "bad", pending("twice")) is None
        assert ids(await queued(store)) == [("good", 2), ("again", 3)]

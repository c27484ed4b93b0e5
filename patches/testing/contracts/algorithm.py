"""The contract of `patches.algorithms.base.Algorithm`: what each method returns and leaves behind.

Every algorithm passes it, one of your own too. It drives the algorithm as `Patches` and
`PatchesSync` do, with a document that is open and one that is not, and a server whose committed
changes the suite makes up.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from patches.algorithms.base import Algorithm
from patches.errors import MissingChangesError, StatusError
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op
from patches.testing.contracts.algorithm_client import DOC, Client


class AlgorithmContract:
    """Subclass it and give an `algorithm` fixture: a new one, with a store of its own.

    Override `ops` if your committed operations need more than `op`, `path` and `value`; `ops_of`
    and `state_of` if your documents are no objects of plain members.
    """

    def ops_of(self, name: str, value: Json) -> list[Op]:
        """An edit that sets the member `name`."""
        return [{"op": "replace", "path": f"/{name}", "value": value}]

    def state_of(self, **values: Json) -> Json:
        """A state with these members."""
        return values

    def ops(self, *ops: Op, rev: int) -> list[Op]:
        """Operations as a server sends them in a change committed at `rev`."""
        return list(ops)

    def theirs(self, rev: int, **values: Json) -> Change:
        """A change that somebody else committed at `rev`; by default it sets `/rN` to N."""
        written = values or {f"r{rev}": rev}
        ops = [op for name, value in written.items() for op in self.ops_of(name, value)]
        return Change(
            id=f"theirs{rev}",
            ops=self.ops(*ops, rev=rev),
            base_rev=rev - 1,
            rev=rev,
            created_at=1,
            committed_at=1,
        )

    def committed_from(self, sent: Sequence[Change], rev: int) -> list[Change]:
        """`sent` as the server commits it, the first change at `rev`."""
        return [
            change.replace(
                ops=self.ops(*change.ops, rev=rev + place),
                rev=rev + place,
                base_rev=rev + place - 1,
                committed_at=1,
            )
            for place, change in enumerate(sent)
        ]

    @pytest.fixture(params=["open", "closed"])
    async def client(self, request: pytest.FixtureRequest, algorithm: Algorithm) -> Client:
        """A tracked document, new here."""
        await algorithm.track_docs([DOC])
        doc = None
        if request.param == "open":
            doc = algorithm.create_doc(DOC, await algorithm.load_doc(DOC))
        return Client(self, algorithm, doc)

    # ---- receiving -------------------------------------------------------------------------------

    async def test_applying_returns_the_newly_committed_changes(self, client: Client) -> None:
        assert await client.receive(self.theirs(1), self.theirs(2)) == [
            self.theirs(1),
            self.theirs(2),
        ]
        assert await client.rev() == 2
        assert await client.shown() == client.suite.state_of(r1=1, r2=2)

    async def test_pending_changes_are_not_among_them(self, client: Client) -> None:
        await client.receive(self.theirs(1))
        for name in "abc":
            await client.edit(name)
        assert [change.rev for change in await client.receive(self.theirs(2))] == [2]
        assert await client.rev() == 2
        assert await client.has_pending()
        assert await client.shown() == client.suite.state_of(r1=1, r2=2, a=1, b=1, c=1)

    async def test_what_is_known_is_not_returned_again(self, client: Client) -> None:
        await client.receive(self.theirs(1), self.theirs(2))
        assert await client.receive(self.theirs(2)) == []
        assert await client.receive(self.theirs(1), self.theirs(2)) == []
        overlapping = await client.receive(self.theirs(2), self.theirs(3), self.theirs(4))
        assert [change.rev for change in overlapping] == [3, 4]
        assert await client.rev() == 4

    async def test_no_changes_are_no_news(self, client: Client) -> None:
        assert await client.receive() == []
        assert await client.rev() == 0

    async def test_a_gap_stores_nothing(self, client: Client) -> None:
        await client.receive(self.theirs(1))
        await client.edit("mine")
        with pytest.raises(MissingChangesError):
            await client.receive(self.theirs(3))
        assert await client.rev() == 1
        assert await client.has_pending()
        assert await client.shown() == client.suite.state_of(r1=1, mine=1)

    async def test_an_unsaved_edit_stays_on_top(self, client: Client) -> None:
        if client.doc is None:
            return
        await client.receive(self.theirs(1))
        ops = client.doc.take_ops(client.suite.ops_of("mine", 1))
        await client.receive(self.theirs(2))
        assert client.doc.state == client.suite.state_of(r1=1, r2=2, mine=1)
        await client.algorithm.handle_doc_change(DOC, ops, client.doc, {}, "mine")
        assert await client.shown() == client.suite.state_of(r1=1, r2=2, mine=1)
        assert await client.rev() == 2

    # ---- local edits and sending -----------------------------------------------------------------

    async def test_an_edit_is_stored_and_returned(self, client: Client) -> None:
        assert not await client.has_pending()
        stored = await client.edit("a")
        assert stored
        assert not any(change.committed_at for change in stored)
        assert await client.has_pending()
        assert await client.shown() == client.suite.state_of(a=1)
        assert await client.rev() == 0

    async def test_an_edit_without_operations_stores_nothing(self, client: Client) -> None:
        assert await client.algorithm.handle_doc_change(DOC, [], client.doc, {}, "none") == []
        assert not await client.has_pending()

    async def test_nothing_to_send_is_an_empty_batch(self, client: Client) -> None:
        assert await client.batch() == []

    async def test_a_batch_keeps_its_ids_until_it_is_answered(self, client: Client) -> None:
        await client.edit("a")
        sent = await client.batch()
        assert sent
        await client.edit("b")
        again = await client.batch()
        assert [change.id for change in again][: len(sent)] == [change.id for change in sent]

    async def test_an_answer_confirms_what_was_sent(self, client: Client) -> None:
        await client.receive(self.theirs(1))
        await client.edit("a")
        new = await client.push(2)
        assert [change.rev for change in new] == [2]
        assert all(change.committed_at for change in new)
        assert not await client.has_pending()
        assert await client.batch() == []
        assert await client.rev() == 2
        assert await client.shown() == client.suite.state_of(r1=1, a=1)

    async def test_an_answer_brings_what_was_missed_first(self, client: Client) -> None:
        await client.receive(self.theirs(1))
        await client.edit("a")
        sent = await client.batch()
        own = self.committed_from(sent, 4)
        answer = [self.theirs(2), self.theirs(3), *own]
        assert [change.rev for change in await client.answer(sent, answer)] == [2, 3, 4]
        assert await client.rev() == 4
        assert not await client.has_pending()
        assert await client.shown() == client.suite.state_of(r1=1, r2=2, r3=3, a=1)

    async def test_an_edit_made_meanwhile_is_sent_next(self, client: Client) -> None:
        await client.edit("a")
        sent = await client.batch()
        await client.edit("b")
        new = await client.answer(sent, self.committed_from(sent, 1))
        assert [change.rev for change in new] == [1]
        assert await client.has_pending()
        assert [change.rev for change in await client.push(2)] == [2]
        assert not await client.has_pending()
        assert await client.shown() == client.suite.state_of(a=1, b=1)

    async def test_an_answer_told_before_by_a_broadcast_is_no_news(self, client: Client) -> None:
        await client.receive(self.theirs(1))
        await client.edit("a")
        sent = await client.batch()
        own = self.committed_from(sent, 2)
        first = await client.answer(sent, own)
        assert [change.rev for change in first] == [2]
        assert await client.receive(*own) == []
        assert await client.rev() == 2

    async def test_unconfirmed_work_is_listed(self, client: Client) -> None:
        assert await client.algorithm.list_pending(DOC, client.doc) == []
        await client.edit("a")
        await client.edit("b")
        pending = await client.algorithm.list_pending(DOC, client.doc)
        paths = {op["path"] for change in pending for op in change.ops}
        assert paths == {op["path"] for name in "ab" for op in client.suite.ops_of(name, 1)}

    # ---- reload ----------------------------------------------------------------------------------

    async def test_a_snapshot_replaces_the_committed_part_and_keeps_work(
        self, client: Client
    ) -> None:
        await client.receive(self.theirs(1))
        await client.edit("mine")
        await client.install(Snapshot(state=client.suite.state_of(new=1), rev=5), tail=())
        assert await client.rev() == 5
        assert await client.has_pending()
        assert await client.shown() == client.suite.state_of(new=1, mine=1)
        assert [change.rev for change in await client.push(6)] == [6]
        assert [change.rev for change in await client.receive(self.theirs(7))] == [7]

    async def test_resolved_changes_leave_the_queue(self, client: Client) -> None:
        await client.receive(self.theirs(1))
        await client.edit("mine")
        sent = await client.batch()
        await client.install(Snapshot(state=client.suite.state_of(mine=1), rev=5), resolved=sent)
        assert not await client.has_pending()
        assert await client.shown() == client.suite.state_of(mine=1)

    # ---- tracking --------------------------------------------------------------------------------

    async def test_tracked_documents_are_listed_with_their_revision(self, client: Client) -> None:
        await client.receive(self.theirs(1), self.theirs(2))
        (record,) = await client.algorithm.list_docs()
        assert (record.doc_id, record.committed_rev, record.deleted) == (DOC, 2, False)
        assert record.algorithm == client.algorithm.name

    async def test_an_untracked_document_leaves_nothing(self, client: Client) -> None:
        await client.edit("a")
        await client.algorithm.untrack_docs([DOC])
        assert await client.algorithm.list_docs(include_deleted=True) == []
        assert await client.algorithm.load_doc(DOC) is None
        assert await client.algorithm.get_committed_rev(DOC) == 0
        assert not await client.algorithm.has_pending(DOC)

    async def test_a_deleted_document_is_a_tombstone_until_confirmed(self, client: Client) -> None:
        await client.receive(self.theirs(1))
        await client.edit("a")
        algorithm = client.algorithm
        await algorithm.delete_doc(DOC)
        assert await algorithm.list_docs() == []
        assert [doc.deleted for doc in await algorithm.list_docs(include_deleted=True)] == [True]
        assert await algorithm.load_doc(DOC) is None
        assert not await algorithm.has_pending(DOC)
        await algorithm.confirm_delete_doc(DOC)
        assert await algorithm.list_docs(include_deleted=True) == []

    async def test_a_deleted_document_that_is_tracked_again_begins_anew(
        self, client: Client
    ) -> None:
        await client.receive(self.theirs(1))
        await client.edit("a")
        algorithm = client.algorithm
        await algorithm.delete_doc(DOC)
        await algorithm.track_docs([DOC])
        assert [doc.deleted for doc in await algorithm.list_docs(include_deleted=True)] == [False]
        assert await algorithm.get_committed_rev(DOC) == 0
        assert not await algorithm.has_pending(DOC)

    # ---- quarantine ------------------------------------------------------------------------------

    async def test_an_ejected_change_is_kept_with_its_reason(self, client: Client) -> None:
        await client.receive(self.theirs(1))
        await client.edit("bad")
        (sent,) = await client.batch()
        entry = await client.algorithm.eject_pending_change(DOC, sent.id, "too odd", client.doc)
        assert entry is not None
        assert (entry.doc_id, entry.change_id, entry.reason) == (DOC, sent.id, "too odd")
        assert entry.change.ops
        assert not await client.has_pending()
        assert await client.batch() == []
        assert await client.shown() == client.suite.state_of(r1=1)
        assert await client.algorithm.list_quarantined_changes(DOC) == [entry]
        assert await client.algorithm.list_quarantined_changes() == [entry]
        await client.algorithm.discard_quarantined_change(DOC, sent.id)
        await client.algorithm.discard_quarantined_change(DOC, sent.id)
        assert await client.algorithm.list_quarantined_changes(DOC) == []

    async def test_an_unknown_change_cannot_be_ejected(self, client: Client) -> None:
        await client.edit("a")
        ejected = await client.algorithm.eject_pending_change(DOC, "unknown", "?", client.doc)
        assert ejected is None
        assert await client.has_pending()

    async def test_a_refusal_that_cannot_be_mended_changes_nothing(self, client: Client) -> None:
        await client.edit("a")
        (sent,) = await client.batch()
        error = StatusError(400, "no", {"changeId": sent.id, "scope": "change"})
        assert not await client.algorithm.mend_refused_change(DOC, sent.id, error, client.doc)
        assert not await client.algorithm.mend_refused_change(DOC, "unknown", error, client.doc)
        assert [change.id for change in await client.batch()] == [sent.id]

    async def test_one_that_applies_is_not_ejected_as_unappliable(self, client: Client) -> None:
        await client.edit("a")
        (sent,) = await client.batch()
        assert await client.algorithm.verify_pending_change(DOC, sent.id)
        ejected = await client.algorithm.eject_pending_change(
            DOC, sent.id, "?", client.doc, only_if_unappliable=True
        )
        assert ejected is None
        assert await client.has_pending()

    async def test_the_others_go_on_without_an_ejected_change(self, client: Client) -> None:
        await client.receive(self.theirs(1))
        await client.edit("bad")
        (bad,) = await client.batch()
        await client.edit("good")
        await client.algorithm.eject_pending_change(DOC, bad.id, "no", client.doc)
        assert [change.rev for change in await client.push(2)] == [2]
        assert await client.shown() == client.suite.state_of(r1=1, good=1)

    async def test_a_retried_change_is_sent_under_its_own_id(self, client: Client) -> None:
        await client.receive(self.theirs(1))
        await client.edit("bad")
        (bad,) = await client.batch()
        await client.algorithm.eject_pending_change(DOC, bad.id, "no", client.doc)
        retried = await client.algorithm.retry_quarantined_change(DOC, bad.id, client.doc)
        assert [change.id for change in retried] == [bad.id]
        assert await client.algorithm.list_quarantined_changes(DOC) == []
        assert [change.id for change in await client.batch()] == [bad.id]
        await client.push(2)
        assert await client.shown() == client.suite.state_of(r1=1, bad=1)

    # ---- connections -----------------------------------------------------------------------------

    async def test_the_end_of_a_connection_changes_nothing_that_is_stored(
        self, client: Client
    ) -> None:
        await client.receive(self.theirs(1))
        await client.edit("mine")
        client.algorithm.connection_lost(DOC, client.doc)
        assert await client.rev() == 1
        assert await client.has_pending()
        assert await client.shown() == self.state_of(r1=1, mine=1)

"""The coordinator's revision is the store's and the document's, after each thing that happens."""

from __future__ import annotations

import pytest

from patches import Patches
from patches.documents.document import Document
from patches.model.change import Change, Snapshot
from patches.net.connection import CommitAnswer
from patches.sync import PatchesSync, SyncedDoc
from patches.testing.fake_connection import Call, FakeConnection, committed
from patches.testing.fixtures import ServerFixture
from patches.testing.virtual_time import idle, virtual_time


async def test_work_that_comes_to_nothing_hides_no_later_change() -> None:
    """Several edits wait behind others' changes and come to nothing: what is committed while the
    client is away still arrives, and each committed change is told once.
    """
    async with ServerFixture() as server:
        ann, bob = await server.client("ann"), await server.client("bob")
        anns, bobs = await ann.open_doc("d"), await bob.open_doc("d")
        anns.set({"o": {"x": 0}})
        await server.settled()
        told: list[tuple[int, str]] = []
        bob.patches.on_server_commit(
            lambda _doc_id, changes: told.extend((change.rev, change.id) for change in changes)
        )
        with bob.link.down():
            for value in range(5):
                bobs.apply([{"op": "replace", "path": "/o/x", "value": value + 1}])
                await bobs.flush()
            anns.change(lambda draft: draft.update(a=1))
            await ann.sync.settled(10)
            anns.change(lambda draft: draft.pop("o"))
            await ann.sync.settled(10)
        await server.settled()
        with bob.link.down():
            for value in range(3):
                anns.apply([{"op": "replace", "path": "/a", "value": value + 2}])
                await ann.sync.settled(10)
        await server.settled()
        assert bobs.state == anns.state == await server.state("d")
        rev = await server.rev("d")
        assert bob.sync.synced["d"] == SyncedDoc(rev, False, "synced")
        assert bobs.committed_rev == rev
        assert [change_rev for change_rev, _ in told] == sorted({rev for rev, _ in told})
        assert max(change_rev for change_rev, _ in told) == rev


@virtual_time
@pytest.mark.parametrize("is_open", [True, False])
async def test_pending_changes_are_not_taken_for_committed_ones(is_open: bool) -> None:
    connection = FakeConnection(getDoc=Snapshot(state={"o": 1}, rev=1))
    async with Patches() as patches, PatchesSync(patches, connection) as sync:
        told: list[int] = []
        patches.on_server_commit(lambda _, changes: told.extend(c.rev for c in changes))
        doc = await opened(patches, "d")
        push = await edited(doc, connection, count=5)
        if not is_open:
            await patches.close_doc("d")
        connection.on_changes_committed.emit("d", [committed(2)])
        await idle()
        push.fail(TimeoutError())
        await idle()
        assert sync.synced["d"].committed_rev == 2
        assert told == [2]
        assert await patches.algorithm_of("d").get_committed_rev("d") == 2


@virtual_time
async def test_a_broadcast_reloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = FakeConnection(getDoc=Snapshot(state={"o": 1}, rev=1))
    async with Patches() as patches, PatchesSync(patches, connection):
        doc = await opened(patches, "d")
        push = await edited(doc, connection, count=3)
        loads: list[str] = []
        algorithm = patches.algorithm_of("d")
        load_doc = algorithm.load_doc

        async def counted(doc_id: str) -> Snapshot | None:
            loads.append(doc_id)
            return await load_doc(doc_id)

        monkeypatch.setattr(algorithm, "load_doc", counted)
        push.answer(CommitAnswer([own(change, rev) for rev, change in enumerate(push.changes, 2)]))
        (await connection.next_call("commitChanges")).fail(TimeoutError())
        connection.on_changes_committed.emit("d", [committed(3)])
        await idle()
        assert doc.committed_rev == 3
        assert loads == []


@virtual_time
async def test_what_another_process_stored_counts_as_known() -> None:
    connection = FakeConnection(getDoc=Snapshot(state={"o": 1}, rev=1), getChangesSince=[])
    async with Patches() as patches, PatchesSync(patches, connection) as sync:
        await opened(patches, "d")
        await patches.close_doc("d")
        algorithm = patches.algorithm_of("d")
        await algorithm.apply_server_changes("d", [committed(2), committed(3)], None)
        connection.on_changes_committed.emit("d", [committed(2)])
        await idle()
        assert sync.synced["d"].committed_rev == 3


async def opened(patches: Patches, doc_id: str) -> Document:
    doc = await patches.open_doc(doc_id)
    await idle()
    assert doc.committed_rev == 1
    return doc


async def edited(doc: Document, connection: FakeConnection, *, count: int) -> Call:
    """Edit a few times; the first edit's commit is under way."""
    doc.change(lambda draft: draft.update(first=1))
    await doc.flush()
    push = await connection.next_call("commitChanges")
    for number in range(count - 1):
        doc.apply([{"op": "replace", "path": f"/n{number}", "value": 1}])
        await doc.flush()
    return push


def own(change: Change, rev: int) -> Change:
    return change.replace(rev=rev, base_rev=rev - 1, committed_at=1)

"""What an algorithm with a wire of its own needs of the coordinator, shown with a third one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from patches.documents.document import Document
from patches.errors import StatusError
from patches.model.change import Change, Snapshot
from patches.net import CommitAnswer
from patches.sync import SyncedDoc
from patches.testing.clock import FakeClock
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.fixtures import ClientFixture, ServerFixture
from patches.testing.virtual_time import idle, virtual_time
from patches_server.documents.services import Services
from tests.support.small_algorithm import SmallAlgorithm
from tests.support.small_server import SmallServer
from tests.support.sync_scene import sync_scene


@virtual_time
async def test_the_algorithm_gives_the_options_of_its_calls() -> None:
    async with sync_scene() as scene:
        scene.algorithm.options = {"token": "t1"}
        doc = await scene.open()
        load = await scene.connection.next_call("getDoc")
        assert load.args == ("d", {"token": "t1"})
        load.answer(Snapshot(state={}, rev=1))
        await idle()
        scene.algorithm.options = {"token": "t2"}
        scene.broadcast()
        pull = await scene.connection.next_call("getChangesSince")
        assert pull.args == ("d", 1, {"token": "t2"})
        pull.answer([])
        await scene.edit(doc, a=1)
        push = await scene.connection.next_call("commitChanges")
        assert push.args[2] == {"token": "t2"}
        push.commit(2)


@virtual_time
async def test_a_snapshot_keeps_what_only_the_algorithm_understands() -> None:
    snapshot = Snapshot.from_wire(
        {"state": {}, "rev": 3, "changes": [], "token": "t", "view": "partial"}
    )
    assert snapshot.metadata == {"token": "t", "view": "partial"}
    assert snapshot.to_wire()["token"] == "t"


@virtual_time
async def test_a_409_for_the_document_from_a_catch_up_reloads_and_keeps_the_work() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.broadcast()
        pull = await scene.connection.next_call("getChangesSince")
        await scene.edit(doc, mine=1)
        pull.fail(StatusError(409, "token", {"scope": "doc"}))
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"new": 1}, rev=9))
        (await scene.connection.next_call("getChangesSince")).answer([])
        (await scene.connection.next_call("commitChanges")).commit(10)
        await scene.sync.settled(1)
        assert doc.state == {"new": 1, "mine": 1}
        assert scene.entry() == SyncedDoc(10, False, "synced")


@virtual_time
async def test_a_notification_for_a_tracked_document_goes_to_its_algorithm_in_order() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.connection.on_notification.emit("rowsCame", {"docId": "d", "rows": []})
        scene.broadcast(committed(2))
        scene.connection.on_notification.emit("rowsWent", {"docId": "d"})
        await idle()
        assert scene.algorithm.notices == [("d", "rowsCame"), ("d", "rowsWent")]
        assert scene.entry().committed_rev == 2


@virtual_time
async def test_a_notification_that_the_algorithm_cannot_take_is_reported() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.algorithm.fail("handle_notification", ValueError("odd"))
        scene.connection.replies["getChangesSince"] = []
        scene.connection.on_notification.emit("odd", {"docId": "d"})
        await idle()
        assert [(str(error), doc_id) for error, doc_id in scene.errors] == [("odd", "d")]


@virtual_time
async def test_other_methods_are_called_through_the_connection() -> None:
    async with sync_scene(FakeConnection(openRows=lambda call: [1, 2])) as scene:
        assert await scene.sync.connection.call("openRows", "d", {"id": "all"}) == [1, 2]


class HeadGated(SmallAlgorithm):
    """What an answer does not hold was not committed, and is sent again as it is."""

    async def receive_answer(
        self,
        doc_id: str,
        sent: Sequence[Change],
        committed: Sequence[Change],
        doc: Document | None,
    ) -> list[Change]:
        return await self.apply_server_changes(doc_id, committed, doc)


@virtual_time
async def test_a_commit_that_only_told_what_was_missed_is_made_again() -> None:
    async with sync_scene(algorithm=HeadGated()) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, mine=1)
        for rev in (2, 3):  # somebody else was faster, twice
            push = await scene.connection.next_call("commitChanges")
            push.answer(CommitAnswer([committed(rev)]))
        (await scene.connection.next_call("commitChanges")).commit(4)
        await scene.sync.settled(1)
        assert scene.entry() == SyncedDoc(4, False, "synced")


@virtual_time
async def test_a_commit_that_told_nothing_and_stored_nothing_is_not_made_for_ever() -> None:
    async with sync_scene(algorithm=HeadGated()) as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, mine=1)
        (await scene.connection.next_call("commitChanges")).answer(CommitAnswer([]))
        await idle()
        assert not scene.connection.waiting
        assert scene.entry().has_pending


@virtual_time
async def test_an_algorithm_can_call_the_server_and_have_a_document_fetched_whole() -> None:
    async with sync_scene(FakeConnection(openRows=lambda call: list(call.args))) as scene:
        doc = await scene.opened_at(1)
        assert scene.algorithm.host is not None
        assert await scene.algorithm.host.call("openRows", "d", {"id": "all"}) == [
            "d",
            {"id": "all"},
        ]
        scene.sync.set_online(False)
        scene.algorithm.host.reload("d")
        scene.algorithm.host.reload("not tracked")
        await scene.edit(doc, mine=1)
        scene.sync.set_online(True)
        (await scene.connection.next_call("getDoc")).answer(Snapshot(state={"new": 1}, rev=9))
        (await scene.connection.next_call("getChangesSince")).answer([])
        (await scene.connection.next_call("commitChanges")).commit(10)
        await scene.sync.settled(1)
        assert doc.state == {"new": 1, "mine": 1}


class Listening(SmallAlgorithm):
    """Notes when a connection has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: list[tuple[str, bool]] = []

    def connection_lost(self, doc_id: str, doc: Document | None) -> None:
        self.lost.append((doc_id, doc is not None))


@virtual_time
async def test_the_algorithm_is_told_of_each_document_whose_connection_has_ended() -> None:
    algorithm = Listening()
    async with sync_scene(algorithm=algorithm) as scene:
        await scene.opened_at(1)
        assert algorithm.lost == []
        scene.connection.drop()
        assert algorithm.lost == [("d", True)]


@virtual_time
async def test_an_algorithm_can_have_unsent_work_sent_at_once() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        await scene.edit(doc, mine=1)
        push = await scene.connection.next_call("commitChanges")
        push.fail(StatusError(503, "later"))
        await idle()
        assert not scene.connection.waiting, "it waits before it tries again"
        assert scene.algorithm.host is not None
        scene.algorithm.host.work_changed("d")
        (await scene.connection.next_call("commitChanges")).commit(2)
        await scene.sync.settled(1)
        assert scene.entry() == SyncedDoc(2, False, "synced")


# ---- end to end: the algorithm, the coordinator, the wire, the hub and a document server ---------


class TokenAlgorithm(SmallAlgorithm):
    """Sends back the token that came with the snapshot."""

    async def install_snapshot(
        self, doc_id: str, snapshot: Snapshot, *rest: Any, **more: Any
    ) -> None:
        self.options = {"token": snapshot.metadata["token"]}
        await super().install_snapshot(doc_id, snapshot, *rest, **more)


class Stage:
    """A server with small documents beside its others, and clients that have the algorithm."""

    def __init__(self) -> None:
        self.documents = SmallServer()
        services = {"small": Services(self.documents)}
        self.clock = FakeClock()
        self.server = ServerFixture(
            {"services": services, "routes": {"small/*": "small"}}, clock=self.clock
        )

    async def client(self, principal: str) -> tuple[ClientFixture, TokenAlgorithm, Document]:
        algorithm = TokenAlgorithm()
        client = await self.server.client(principal, principal=principal, algorithms=[algorithm])
        doc = await client.open_doc("small/d", algorithm="small")
        with self.clock.running():
            await client.sync.settled(60)
        return client, algorithm, doc


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    async with stage.server:
        yield stage
    stage.clock.uninstall()


async def test_the_options_of_each_call_reach_the_document_server(stage: Stage) -> None:
    _, _, anns = await stage.client("ann")
    _, _, bobs = await stage.client("bob")
    anns.set({"a": 1})
    await stage.server.settled()
    assert bobs.state == {"a": 1}
    assert ("getDoc", {}) in stage.documents.calls
    assert ("commitChanges", {"token": "first"}) in stage.documents.calls


async def test_a_stale_token_reloads_and_keeps_the_work(stage: Stage) -> None:
    ann, algorithm, anns = await stage.client("ann")
    anns.set({"a": 1})
    await stage.server.settled()
    with ann.link.down():
        stage.documents.token = "second"
        anns.set({"a": 1, "b": 2})
        await anns.flush()
    await stage.server.settled(60)
    assert algorithm.options == {"token": "second"}
    assert anns.state == {"a": 1, "b": 2}
    assert await stage.server.rev("small/d") == 2
    assert anns.sync_status == "synced"


async def test_every_subscriber_gets_its_own_view_of_a_commit(stage: Stage) -> None:
    def sight(principal: object, changes: Sequence[Change]) -> Sequence[Change]:
        if principal != "bob":
            return changes
        return [
            change.replace(ops=[op for op in change.ops if op["path"] != "/secret"])
            for change in changes
        ]

    stage.documents.sight = sight
    _, _, anns = await stage.client("ann")
    _, _, bobs = await stage.client("bob")
    _, _, carols = await stage.client("carol")
    anns.set({"secret": 1, "open": 2})
    await stage.server.settled()
    assert carols.state == {"secret": 1, "open": 2}
    assert bobs.state == {"open": 2}
    assert bobs.committed_rev == carols.committed_rev == 1


async def test_no_changes_in_a_broadcast_mean_look_again(stage: Stage) -> None:
    _, _, anns = await stage.client("ann")
    _, _, bobs = await stage.client("bob")
    anns.set({"a": 1})
    await stage.server.settled()
    told: list[int] = []

    def nothing_at_first(principal: object, changes: Sequence[Change]) -> Sequence[Change]:
        told.append(len(changes))
        return [] if len(told) <= 1 else changes

    stage.documents.sight = nothing_at_first
    stage.documents.calls.clear()
    anns.set({"a": 2})
    with stage.clock.running():
        await stage.server.clients[0].sync.settled(60)
        await stage.server.clients[1].reach(bobs, 2)
    assert stage.documents.calls == [
        ("commitChanges", {"token": "first"}),
        ("getChangesSince", {"token": "first"}),
    ]
    assert bobs.state == {"a": 2}


async def test_who_may_see_nothing_is_told_nothing(stage: Stage) -> None:
    _, _, anns = await stage.client("ann")
    _, _, bobs = await stage.client("bob")
    stage.documents.sight = lambda principal, changes: changes if principal == "ann" else None
    stage.documents.calls.clear()
    anns.set({"a": 1})
    with stage.clock.running():
        await stage.server.clients[0].sync.settled(60)
    await idle(200)
    assert [method for method, _ in stage.documents.calls] == ["commitChanges"]
    assert bobs.state == {}


async def test_notifications_of_a_document_server_reach_the_algorithm(stage: Stage) -> None:
    _, anns, _ = await stage.client("ann")
    _, bobs, _ = await stage.client("bob")
    first = next(iter(stage.server.app.sessions))
    stage.documents.on_notification.emit("small/d", "rowsCame", {"rows": []}, None)
    stage.documents.on_notification.emit("small/d", "rowsWent", {}, first)
    stage.documents.on_notification.emit("small/other", "rowsCame", {}, None)
    await idle(200)
    assert anns.notices == [("small/d", "rowsCame"), ("small/d", "rowsWent")]
    assert bobs.notices == [("small/d", "rowsCame")]


async def test_a_method_of_a_document_server_is_called_with_what_was_sent(stage: Stage) -> None:
    ann, _, doc = await stage.client("ann")
    doc.set({"a": 1})
    await stage.server.settled()
    answer = await ann.sync.connection.call("countChanges", "small/d", "all", {"deep": True})
    assert answer == {"changes": 1, "kinds": ["all", {"deep": True}]}


async def test_a_document_server_hears_which_connection_has_ended(stage: Stage) -> None:
    ann, _, _ = await stage.client("ann")
    await stage.client("bob")
    connection_id, _ = stage.server.app.sessions
    assert stage.documents.ended == []
    await ann.sync.disconnect()
    await idle(200)
    assert stage.documents.ended == [connection_id]


async def test_the_other_algorithms_of_the_server_are_not_disturbed(stage: Stage) -> None:
    ann, _, small = await stage.client("ann")
    plain = await ann.open_doc("notes/a")
    table = await ann.open_doc("lww/a", algorithm="lww")
    for doc in (small, plain, table):
        doc.set({"a": 1})
    await stage.server.settled()
    assert await stage.server.state("notes/a") == await stage.server.state("lww/a") == {"a": 1}
    assert small.state == {"a": 1}

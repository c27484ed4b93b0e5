"""The server ends a subscription: who may read goes on, who may not sees that."""

from __future__ import annotations

import asyncio

from patches import Patches
from patches.errors import ForbiddenError
from patches.model.change import Snapshot
from patches.sync import PatchesSync
from patches.testing.fake_connection import FakeConnection, committed
from patches.testing.fixtures import ServerFixture
from patches.testing.virtual_time import idle, virtual_time
from tests.support.sync_scene import sync_scene


def ended(connection: FakeConnection, code: int) -> None:
    connection.on_notification.emit(
        "subscriptionEnded", {"docId": "d", "code": code, "message": "no"}
    )


@virtual_time
async def test_who_may_still_read_subscribes_again_and_fetches_what_was_missed() -> None:
    async with sync_scene() as scene:
        doc = await scene.opened_at(1)
        scene.connection.replies["getChangesSince"] = [committed(2)]
        ended(scene.connection, 403)
        await idle()
        assert doc.state == {"r2": 2}
        assert scene.connection.methods[-2:] == ["subscribe", "getChangesSince"]
        scene.broadcast(committed(3))
        await idle()
        assert scene.entry().committed_rev == 3
        assert scene.errors == []
        assert scene.algorithm.notices == []


@virtual_time
async def test_who_may_not_read_any_more_sees_an_error_at_once() -> None:
    async with sync_scene() as scene:
        await scene.opened_at(1)
        scene.connection.replies["subscribe"] = []
        scene.connection.replies["getChangesSince"] = ForbiddenError("READ_FORBIDDEN:d")
        ended(scene.connection, 403)
        await idle()
        assert scene.entry().status == "error"
        assert [(type(error), doc_id) for error, doc_id in scene.errors] == [(ForbiddenError, "d")]


@virtual_time
async def test_a_subscription_that_nobody_could_decide_on_is_asked_for_again() -> None:
    connection = FakeConnection(getDoc=Snapshot(state={}, rev=1), getChangesSince=[])
    answers: list[list[str]] = [[], [], ["d"]]

    def subscribe(call: object) -> list[str]:
        answer = answers.pop(0)
        if not answer:
            ended(connection, 503)
        return answer

    connection.replies["subscribe"] = subscribe
    async with Patches() as patches, PatchesSync(patches, connection) as sync:
        await patches.open_doc("d")
        await sync.settled(1)
        connection.replies["getChangesSince"] = [committed(2)]
        await asyncio.sleep(10)
        assert answers == []
        assert sync.synced["d"].committed_rev == 2
        connection.replies["unsubscribe"] = []


async def test_taking_a_right_away_and_giving_it_back() -> None:
    allowed = {"ann", "bob"}

    async def can_access(principal: str, *_: object) -> bool:
        return principal in allowed

    async with ServerFixture({"auth": can_access}) as server:
        ann = await server.client("ann", principal="ann")
        bob = await server.client("bob", principal="bob")
        anns, bobs = await ann.open_doc("d"), await bob.open_doc("d")
        anns.set({"a": 1})
        await server.settled()
        server.app.revoke(doc_id="d")
        anns.set({"a": 2})
        await server.settled()
        assert bobs.state == {"a": 2}
        refused = asyncio.Event()
        bob.sync.on_error(lambda _error, _context: refused.set())
        allowed.remove("bob")
        server.app.revoke(doc_id="d")
        await asyncio.wait_for(refused.wait(), 5)
        assert isinstance(bob.sync.synced["d"].error, ForbiddenError)
        anns.set({"a": 3})
        await ann.sync.settled(5)
        assert bobs.state == {"a": 2}


async def test_who_may_read_again_hears_of_what_comes_after_its_next_commit() -> None:
    allowed = {"ann", "bob"}

    async def can_access(principal: str, *_: object) -> bool:
        return principal in allowed

    async with ServerFixture({"auth": can_access}) as server:
        ann = await server.client("ann", principal="ann")
        bob = await server.client("bob", principal="bob")
        anns, bobs = await ann.open_doc("d"), await bob.open_doc("d")
        anns.set({"a": 1})
        await server.settled()
        refused = asyncio.Event()
        bob.sync.on_error(lambda _error, _context: refused.set())
        allowed.remove("bob")
        server.app.revoke(doc_id="d")
        await asyncio.wait_for(refused.wait(), 5)
        allowed.add("bob")
        synced = asyncio.Event()
        bob.sync.on_synced_change(
            lambda docs: synced.set() if docs["d"].status == "synced" else None
        )
        bobs.change(lambda draft: draft.update(b=1))
        await asyncio.wait_for(synced.wait(), 5)
        await bob.sync.settled(5)
        anns.change(lambda draft: draft.update(a=2))
        await server.settled()
        assert bobs.state == {"a": 2, "b": 1}

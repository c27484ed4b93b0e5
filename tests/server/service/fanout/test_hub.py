"""Subscriptions and fan-out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from patches.errors import DocDeletedError
from patches.limits import Limits
from patches.model.change import Change
from patches_server.auth.access import Principal
from patches_server.documents.services import Services
from patches_server.lww import LWWServer
from patches_server.stores.memory.backend import MemoryBackend

CHANGE = {"id": "c1", "ops": [{"op": "replace", "path": "/a", "value": 1}]}


async def test_a_commit_reaches_every_subscriber_but_the_one_that_made_it(connect: Any) -> None:
    author, reader, stranger = connect(), connect(), connect()
    for peer in (author, reader):
        assert await peer.result("subscribe", "d") == ["d"]
    result = await author.result("commitChanges", "d", [CHANGE])
    params = await reader.notification("changesCommitted")
    assert params == {"docId": "d", "changes": result["changes"]}
    assert author.unread("changesCommitted") == stranger.unread() == []


async def test_all_subscribers_get_the_same_bytes(connect: Any) -> None:
    author, readers = connect(), [connect() for _ in range(3)]
    for reader in readers:
        await reader.result("subscribe", ["d"])
    await author.result("commitChanges", "d", [CHANGE])
    frames = [reader.session.outbox.get_nowait() for reader in readers]
    assert frames[0] is frames[1] is frames[2]


async def test_options_go_out_with_the_changes_only_if_there_were_any(connect: Any) -> None:
    author, reader = connect(), connect()
    await reader.result("subscribe", "d")
    await author.result("commitChanges", "d", [CHANGE], {"forceCommit": True})
    assert (await reader.notification("changesCommitted"))["options"] == {"forceCommit": True}


async def test_subscribe_takes_an_id_or_a_list_and_leaves_out_what_is_no_id(connect: Any) -> None:
    peer = connect()
    assert await peer.result("subscribe", "a") == ["a"]
    assert await peer.result("subscribe", ["a", "b", "", 7, "x\0y", None]) == ["a", "b"]
    assert await peer.result("subscribe", []) == []
    assert (await peer.error("subscribe"))["code"] == 400


async def test_unsubscribe_returns_what_was_subscribed(connect: Any) -> None:
    peer, author = connect(), connect()
    await peer.result("subscribe", ["d", "e"])
    assert await peer.result("unsubscribe", ["d", "never"]) == ["d"]
    await author.result("commitChanges", "d", [CHANGE])
    assert peer.unread() == []


async def test_subscribing_to_a_deleted_document_announces_that_first(connect: Any) -> None:
    peer, other = connect(), connect()
    await other.result("deleteDoc", "gone")
    await peer.start("subscribe", ["gone", "there"])
    assert await peer.next() == {
        "jsonrpc": "2.0",
        "method": "docDeleted",
        "params": {"docId": "gone"},
    }
    assert (await peer.next())["result"] == ["there"]


async def test_a_deletion_reaches_the_other_subscribers(connect: Any) -> None:
    one, two = connect(), connect()
    for peer in (one, two):
        await peer.result("subscribe", "d")
    await one.result("deleteDoc", "d")
    assert await two.notification("docDeleted") == {"docId": "d"}
    assert one.unread("docDeleted") == []


async def test_a_provider_that_says_410_counts_as_deleted(serve: Any) -> None:
    async def deleted(_p: object, doc_id: str, *_: object) -> bool:
        raise DocDeletedError(doc_id, deleted_at=1, last_rev=2)

    peer = (await serve(auth=deleted))()
    await peer.start("subscribe", "d")
    assert (await peer.next())["method"] == "docDeleted"
    assert (await peer.next())["result"] == []


async def test_refused_ids_are_left_out(serve: Any) -> None:
    def only_mine(_p: object, doc_id: str, kind: str, method: str, _params: object) -> bool:
        assert (kind, method) == ("read", "subscribe")
        if doc_id == "broken":
            raise RuntimeError("no database")
        return doc_id == "mine"

    peer = (await serve(auth=only_mine))()
    assert await peer.result("subscribe", ["mine", "yours", "broken"]) == ["mine"]


async def test_a_subscription_ends_with_its_connection(connect: Any) -> None:
    peer, author = connect(), connect()
    await peer.result("subscribe", [f"d{number}" for number in range(100)])
    peer.session.end()
    assert len(connect.server.hub) == 0
    await author.result("commitChanges", "d1", [CHANGE])


async def test_a_check_that_ends_after_the_connection_leaves_no_subscription(serve: Any) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> bool:
        asked.set()
        await go_on.wait()
        return True

    connect = await serve(auth=slow)
    peer = connect()
    await peer.start("subscribe", "d")
    await asked.wait()
    peer.session.end()
    go_on.set()
    await connect.server.close()
    assert len(connect.server.hub) == 0


class Rights:
    """A provider whose answer can be changed."""

    def __init__(self) -> None:
        self.allowed = True
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, *_: object) -> bool:
        self.asked += 1
        await self.gate.wait()
        return self.allowed


async def test_old_rights_are_asked_again_and_what_is_due_waits_in_order(serve: Any) -> None:
    rights = Rights()
    connect = await serve(auth=rights, reauth_s=0.0)
    author, reader = connect(), connect()
    await reader.result("subscribe", "d")
    await author.result("commitChanges", "d", [CHANGE])
    assert (await reader.notification("changesCommitted"))["changes"][0]["rev"] == 1
    rights.gate.clear()
    connect.server.hub.publish("d", [_change(2)], None, None)
    connect.server.hub.publish("d", [_change(3)], None, None)
    await asyncio.sleep(0)
    assert reader.unread() == []
    rights.gate.set()
    revs = [(await reader.notification("changesCommitted"))["changes"][0]["rev"] for _ in range(2)]
    assert revs == [2, 3]


async def test_a_right_that_was_lost_ends_the_subscription_before_anything_is_sent(
    serve: Any,
) -> None:
    rights = Rights()
    connect = await serve(auth=rights, reauth_s=0.0)
    reader = connect()
    await reader.result("subscribe", "d")
    rights.allowed = False
    connect.server.hub.publish("d", [_change(1)], None, None)
    await connect.server.close()
    assert reader.unread() == []
    assert len(connect.server.hub) == 0


async def test_fresh_rights_are_not_asked_again(serve: Any) -> None:
    rights = Rights()
    connect = await serve(auth=rights)
    reader = connect()
    await reader.result("subscribe", "d")
    connect.server.hub.publish("d", [_change(1)], None, None)
    await reader.notification("changesCommitted")
    assert rights.asked == 1


async def test_revoking_asks_the_rights_of_one_principal_again(serve: Any) -> None:
    rights = Rights()
    connect = await serve(auth=rights)
    ann, bob = connect(Principal(id="ann")), connect(Principal(id="bob"))
    for peer in (ann, bob):
        await peer.result("subscribe", ["d", "e"])
    rights.gate.clear()
    connect.server.revoke(principal="ann", doc_id="d")
    connect.server.revoke(principal="ann", doc_id="d")
    for doc_id in ("d", "e"):
        connect.server.hub.publish(doc_id, [_change(1)], None, None)
    assert [frame["params"]["docId"] for frame in ann.unread()] == ["e"]
    assert [frame["params"]["docId"] for frame in bob.unread()] == ["d", "e"]
    rights.gate.set()
    assert [(await ann.next())["params"]["docId"] for _ in range(2)] == ["e", "d"]
    assert len(connect.server.hub) == 4
    connect.server.revoke(principal=Principal(id="ann"))
    assert ann.session.outbox.closing.code == 4401
    assert bob.session.outbox.closing is None


async def test_a_right_that_is_revoked_while_it_is_asked_for_is_asked_for_again(
    serve: Any,
) -> None:
    right = {"read": True}
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def can_access(*_: object) -> bool:
        held = right["read"]
        asked.set()
        await go_on.wait()
        return held

    connect = await serve(auth=can_access)
    reader = connect(Principal(id="ann"))
    await reader.start("subscribe", "d")
    await asked.wait()
    right["read"] = False
    connect.server.revoke(principal="ann", doc_id="d")
    go_on.set()
    assert (await reader.answer(1))["result"] == []
    assert len(connect.server.hub) == 0


async def test_a_deletion_is_not_told_to_who_lost_the_right_while_the_store_was_asked(
    serve: Any, documents: Any
) -> None:
    right = {"read": True}
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def get_tombstone(doc_id: str) -> Any:
        asked.set()
        await go_on.wait()
        return documents.deleted.get(doc_id)

    async def can_access(*_: object) -> bool:
        return right["read"]

    connect = await serve(auth=can_access, get_tombstone=get_tombstone)
    await connect().result("deleteDoc", "d")
    reader = connect(Principal(id="ann"))
    await reader.start("subscribe", "d")
    await asked.wait()
    right["read"] = False
    connect.server.revoke(principal="ann", doc_id="d")
    go_on.set()
    assert (await reader.answer(1))["result"] == []
    assert reader.unread("docDeleted") == []


async def test_too_many_subscriptions_add_nothing(serve: Any) -> None:
    connect = await serve(limits=Limits(max_subscriptions=3, max_ids_per_call=5))
    peer = connect()
    await peer.result("subscribe", ["a", "b"])
    assert (await peer.error("subscribe", ["c", "d"]))["code"] == 429
    assert await peer.result("subscribe", ["a", "c"]) == ["a", "c"]
    assert (await peer.error("subscribe", list("abcdef")))["code"] == 400
    assert len(connect.server.hub) == 3


async def test_a_document_server_may_say_what_each_subscriber_sees(
    serve: Any, documents: Any
) -> None:
    async def view(doc_id: str, changes: Sequence[Change], context: Any) -> Any:
        if context.principal == "blind":
            return None
        return changes if context.principal == "ann" else []

    documents.view, documents.has_views = view, True
    connect = await serve()
    author, ann, other, blind = connect(), connect("ann"), connect("other"), connect("blind")
    for peer in (ann, other, blind):
        await peer.result("subscribe", "d")
    await author.result("commitChanges", "d", [CHANGE])
    assert len((await ann.notification("changesCommitted"))["changes"]) == 1
    assert (await other.notification("changesCommitted"))["changes"] == []
    assert blind.unread() == []


async def test_a_method_of_a_document_server_is_called_with_its_rights(
    serve: Any, documents: Any
) -> None:
    async def count(doc_id: str, *params: Any) -> dict[str, Any]:
        return {"doc": doc_id, "params": list(params)}

    documents.remote_methods = {"countThings": ("read", count)}
    kinds: list[tuple[str, str]] = []

    def can(_p: object, _d: str, kind: str, method: str, _params: object) -> bool:
        kinds.append((kind, method))
        return True

    peer = (await serve(auth=can))()
    assert await peer.result("countThings", "d", 1, [2]) == {"doc": "d", "params": [1, [2]]}
    assert kinds == [("read", "countThings")]
    documents.remote_methods = {"getDoc": ("read", count)}
    with pytest.raises(
        ValueError, match=r"^A handler for method 'getDoc' is already registered\.$"
    ):
        await serve()


def _change(rev: int) -> Change:
    return Change(id=f"c{rev}", ops=[], base_rev=rev - 1, rev=rev, created_at=1)


#: Older than anything there.
LOST: dict[str, Any] = {
    "id": "old",
    "ops": [{"op": "replace", "path": "/a", "value": 0, "ts": 1}],
}


async def test_what_follows_an_answer_that_stored_nothing_is_told_a_moment_later(
    serve: Any,
) -> None:
    # The original's client would apply a broadcast in the same packet first, and the answer's
    # older rows over it.
    connect = await serve(services={"ot": Services(LWWServer(MemoryBackend()))})
    sender, other, reader = connect(), connect(), connect()
    for peer in (sender, reader):
        await peer.result("subscribe", "d")
    await other.result("commitChanges", "d", [CHANGE])
    assert await sender.notification("changesCommitted")
    await sender.result("commitChanges", "d", [LOST])
    await other.result("commitChanges", "d", [{**CHANGE, "id": "c2"}])
    await other.result("deleteDoc", "d")
    assert sender.unread() == []
    assert [frame["method"] for frame in reader.unread()][-2:] == ["changesCommitted", "docDeleted"]
    assert (await sender.notification("changesCommitted"))["changes"][0]["id"] == "c2"
    assert await sender.notification("docDeleted") == {"docId": "d"}


async def test_who_leaves_while_it_rests_is_told_nothing_more(serve: Any) -> None:
    connect = await serve(services={"ot": Services(LWWServer(MemoryBackend()))})
    sender, other = connect(), connect()
    await other.result("commitChanges", "d", [CHANGE])
    await sender.result("subscribe", "d")
    await sender.result("commitChanges", "d", [LOST])
    await other.result("commitChanges", "d", [{**CHANGE, "id": "c2"}])
    await sender.result("unsubscribe", "d")
    await sender.result("subscribe", "d")
    await other.result("commitChanges", "d", [{**CHANGE, "id": "c3"}])
    assert (await sender.notification("changesCommitted"))["changes"][0]["id"] == "c3"


async def test_a_rest_ends_with_the_next_call_about_the_document(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = await serve(services={"ot": Services(LWWServer(MemoryBackend()))})
    sender, other = connect(), connect()
    await other.result("commitChanges", "d", [CHANGE])
    await sender.result("subscribe", ["d", "e"])
    monkeypatch.setattr(sender.session.outbox, "when_taken", lambda _: None)  # nobody can tell
    await sender.result("commitChanges", "d", [LOST])
    await other.result("commitChanges", "d", [{**CHANGE, "id": "c2"}])
    await sender.result("subscribe", "d")  # made at any time: it tells nothing
    await sender.result("getChangesSince", "e", 0)
    assert (await sender.error("listVersions", "d", 7))["code"] == 400  # likewise
    assert sender.unread() == []
    assert len(await sender.result("getChangesSince", "d", 1)) == 1
    assert [frame["params"]["changes"][0]["id"] for frame in sender.unread()] == ["c2"]


async def test_a_second_answer_that_stored_nothing_has_a_rest_of_its_own(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patches_server.service.fanout.answers_first._TO_APPLY_S", 0)
    connect = await serve(services={"ot": Services(LWWServer(MemoryBackend()))})
    sender, other = connect(), connect()
    taken: list[Any] = []
    await other.result("commitChanges", "d", [CHANGE])
    await sender.result("subscribe", "d")
    monkeypatch.setattr(sender.session.outbox, "when_taken", taken.append)
    first = await sender.start("commitChanges", "d", [LOST])
    second = await sender.start("commitChanges", "d", [{**LOST, "id": "old too"}])
    for request_id in (first, second):
        await sender.answer(request_id)
    await other.result("commitChanges", "d", [{**CHANGE, "id": "c2"}])
    taken[0]()
    for _ in range(5):
        await asyncio.sleep(0)
    assert sender.unread() == []
    taken[1]()
    assert (await sender.notification("changesCommitted"))["changes"][0]["id"] == "c2"


async def test_a_peer_that_never_takes_its_answer_does_not_make_the_server_hold_everything(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patches_server.service.fanout.held_broadcasts.MAX_EVENTS", 3)
    connect = await serve(services={"ot": Services(LWWServer(MemoryBackend()))})
    sender, other = connect(), connect()
    await other.result("commitChanges", "d", [CHANGE])
    await sender.result("subscribe", "d")
    monkeypatch.setattr(sender.session.outbox, "when_taken", lambda _: None)
    await sender.result("commitChanges", "d", [LOST])
    for number in range(3):
        connect.server.hub.publish("d", [_change(number)], None, None)
    assert sender.unread() == []
    connect.server.hub.publish("d", [_change(3)], None, None)
    assert [frame["params"]["changes"][0]["rev"] for frame in sender.unread()] == [0, 1, 2, 3]


async def test_what_is_held_while_a_right_is_asked_is_no_more_than_an_outbox_may_hold(
    serve: Any,
) -> None:
    rights = Rights()
    limits = Limits(max_response_buffer_bytes=1_000)
    connect = await serve(auth=rights, reauth_s=0.0, limits=limits)
    reader = connect()
    await reader.result("subscribe", "d")
    rights.gate.clear()
    for number in range(100):
        connect.server.hub.publish("d", [_change(number)], None, None)
    assert reader.session.outbox.closing.code == 1011
    rights.gate.set()
    await connect.server.close()
    assert reader.unread() == []

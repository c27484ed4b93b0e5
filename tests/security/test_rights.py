"""Threats to rights (`docs/internals/reliability.md` 4.1)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from patches.errors import StatusError
from patches.limits import Limits
from patches.runtime import Millis, Runtime
from patches_server.auth.access import Principal, allow_all
from patches_server.cli.main import _auth, main
from patches_server.documents.records import Branch

OP = {"op": "replace", "path": "/a", "value": 1}
CHANGE = {"id": "c1", "ops": [OP]}


def only(*doc_ids: str, kinds: tuple[str, ...] = ("read", "write")) -> Any:
    """A provider that allows these documents alone."""

    async def can_access(_p: object, doc_id: str, kind: str, *_: object) -> bool:
        return doc_id in doc_ids and kind in kinds

    return can_access


async def test_t06_who_may_read_may_not_write(serve: Any) -> None:
    peer = (await serve(auth=only("d", kinds=("read",))))()
    for method, params in (
        ("commitChanges", ["d", [CHANGE]]),
        ("deleteDoc", ["d"]),
        ("undeleteDoc", ["d"]),
        ("createVersion", ["d", {}]),
        ("updateVersion", ["d", "v", {}]),
        ("createBranch", ["d", 1]),
    ):
        error = await peer.error(method, *params)
        assert (error["code"], error["message"]) == (403, "WRITE_FORBIDDEN:d"), method
    assert await peer.result("getChangesSince", "d", 0) == []
    assert await peer.result("subscribe", ["d", "other"]) == ["d"]


async def test_t07_a_branch_is_judged_on_its_source(serve: Any) -> None:
    connect = await serve(auth=only("source"))
    writer = connect()
    await writer.result("commitChanges", "source", [CHANGE])
    branch = await writer.result("createBranch", "source", 1)
    rights = {"source": False, branch: True, "nowhere": True}

    async def only_the_branch(_p: object, doc_id: str, *_: object) -> bool:
        return rights[doc_id]

    connect.server.access._can_access = only_the_branch
    for method, params in (
        ("mergeBranch", [branch]),
        ("deleteBranch", [branch]),
        ("updateBranch", [branch, {"name": "x"}]),
    ):
        assert (await writer.error(method, *params))["message"] == f"WRITE_FORBIDDEN:{branch}"
    assert (await writer.error("mergeBranch", "nowhere"))["code"] == 404


async def test_t07_a_stranger_cannot_tell_a_branch_from_what_is_none(serve: Any) -> None:
    connect = await serve(auth=only("source"))
    writer = connect()
    await writer.result("commitChanges", "source", [CHANGE])
    branch, closed = [await writer.result("createBranch", "source", 1) for _ in range(2)]
    await writer.result("deleteBranch", closed)
    assert (await writer.error("mergeBranch", closed))["code"] == 404
    connect.server.access._can_access = only("mine")
    for method in ("mergeBranch", "deleteBranch", "updateBranch"):
        for name in (branch, closed, "nowhere"):
            error = await writer.error(method, name)
            assert error == {"code": 403, "message": f"WRITE_FORBIDDEN:{name}"}


async def test_t06_who_may_not_read_gets_no_content_by_writing(serve: Any) -> None:
    connect = await serve(auth=only("d", "b"))
    await connect().result("commitChanges", "d", [CHANGE])
    branch = await connect().result("createBranch", "d", 1)
    connect.server.access._can_access = only("d", "b", kinds=("write",))
    peer = connect()
    late = {**CHANGE, "id": "late", "baseRev": 1}
    for method, params in (
        ("commitChanges", ["d", [late]]),
        ("createBranch", ["d", 1, {"id": "b"}]),
        ("mergeBranch", [branch]),
    ):
        error = await peer.error(method, *params)
        assert error == {"code": 403, "message": f"READ_FORBIDDEN:{params[0]}"}
    await peer.result("deleteDoc", "d")


async def test_t07_a_document_is_no_branch_of_itself(serve: Any) -> None:
    connect = await serve(auth=only("x"))
    peer = connect()
    error = await peer.error("createBranch", "x", 0, {"id": "x", "contentStartRev": 1})
    assert "a branch of itself" in error["message"]
    await peer.result("commitChanges", "x", [CHANGE])
    # A record of an older server: it leads nowhere, and nobody is kept from the document by it.
    branches = connect.server.router.branch_manager()._branches
    for doc_id, source in (("y", "z"), ("z", "y"), ("x", "x")):
        record = Branch(
            id=doc_id,
            doc_id=source,
            branched_at_rev=0,
            content_start_rev=1,
            created_at=1,
            modified_at=1,
        )
        await branches.create_branch(record)
    connect.server.access._can_access = only("x", "y")
    assert len((await peer.result("getDoc", "x"))["changes"]) == 1
    assert (await peer.result("getDoc", "y"))["rev"] == 0


async def test_t09_nothing_is_allowed_without_a_provider(serve: Any) -> None:
    peer = (await serve(auth=None))()
    assert (await peer.error("getDoc", "d"))["code"] == 403
    assert (await peer.error("commitChanges", "d", [CHANGE]))["code"] == 403
    assert await peer.result("subscribe", ["d"]) == []


@pytest.mark.parametrize(
    "name", ["__init__", "__class__", "store", "on", "getdoc", "GetDoc", "", "x" * 10_000]
)
async def test_t10_only_exact_names_of_methods_lead_anywhere(connect: Any, name: str) -> None:
    error = await connect().error(name, "d")
    assert error["code"] == -32000
    assert error["message"].startswith("Unknown method '")
    assert len(error["message"]) < 100


async def test_t11_privileged_options_are_dropped(connect: Any) -> None:
    peer, other = connect(), connect()
    await other.result("subscribe", "d")
    await peer.result("commitChanges", "d", [CHANGE])
    replaced = {"id": "c2", "ops": [{"op": "replace", "path": "", "value": {}}], "baseRev": 1}
    error = await peer.error("commitChanges", "d", [replaced], {"allowRootReplace": True})
    assert error["data"] == {"changeId": "c2", "scope": "change"}
    forged = {"id": "c3", "ops": [OP], "baseRev": 1, "rev": 9, "committedAt": 5}
    options = {"historicalImport": True, "maxChangesPerVersion": 1}
    [change] = (await peer.result("commitChanges", "d", [forged], options))["changes"]
    assert change["rev"] == 2
    assert change["committedAt"] > 1_000_000
    assert all("options" not in frame["params"] for frame in other.unread("changesCommitted"))
    await peer.result("deleteDoc", "d", {"skipTombstone": True})
    assert (await peer.error("commitChanges", "d", [CHANGE]))["code"] == 410


async def test_t12_the_server_sets_who_when_and_where(connect: Any) -> None:
    peer = connect()
    forged = {**CHANGE, "clientId": "somebody else", "committedAt": 9e15 // 1, "rev": 77}
    [change] = (await peer.result("commitChanges", "d", [forged]))["changes"]
    assert change["clientId"] == peer.id
    assert change["rev"] == 1
    assert change["committedAt"] < 9e15


@pytest.mark.parametrize(
    "doc_id", ["", "a\0b", "\n", "\x9f", "\ud83d", "x" * 513, 7, None, [], {}, True], ids=repr
)
async def test_t13_strange_ids_are_refused(connect: Any, doc_id: Any) -> None:
    peer = connect()
    for method, params in (("getDoc", []), ("commitChanges", [[CHANGE]]), ("deleteDoc", [])):
        error = await peer.error(method, doc_id, *params)
        assert error["code"] == 400
        assert error["message"].startswith("INVALID_REQUEST: docId")
    assert await peer.result("subscribe", [doc_id]) == []


@pytest.mark.parametrize(
    "doc_id", ["../x", "/etc/passwd", "a b", "日本", "'; DROP TABLE ot_changes; --", "%", "_"]
)
async def test_t13_t15_legal_ids_are_only_ids(connect: Any, doc_id: str) -> None:
    peer = connect()
    await peer.result("commitChanges", doc_id, [CHANGE])
    assert len(await peer.result("getChangesSince", doc_id, 0)) == 1
    assert await peer.result("getChangesSince", "another", 0) == []


async def test_t14_ids_that_look_alike_are_different(connect: Any) -> None:
    peer = connect()
    await peer.result("commitChanges", "Café", [CHANGE])
    for other in ("café", "Cafe\u0301", "Café "):
        assert await peer.result("getChangesSince", other, 0) == []


async def test_t04_an_expired_sign_in_does_nothing_more(serve: Any) -> None:
    now: list[Millis] = [1_000]
    connect = await serve(runtime=Runtime(wall_ms=lambda: now[0]))
    peer = connect(Principal(id="ann", expires_at=100_000))
    await peer.result("commitChanges", "d", [CHANGE])
    now[0] = 100_000
    assert (await peer.error("commitChanges", "d", [{**CHANGE, "id": "c2"}]))["code"] == 401
    assert peer.session.outbox.closing is not None
    assert len(await connect().result("getChangesSince", "d", 0)) == 1


async def test_t04_who_was_signed_out_does_nothing_more(serve: Any) -> None:
    connect = await serve()
    ann, bob = connect(Principal(id="ann")), connect(Principal(id="bob"))
    for peer in (ann, bob):
        assert await peer.result("subscribe", ["d"]) == ["d"]
    connect.server.revoke(principal="ann")
    closing = ann.session.outbox.closing
    assert closing is not None
    assert closing.code == 4401
    await ann.start("commitChanges", "d", [CHANGE])
    await bob.result("commitChanges", "d", [{**CHANGE, "id": "c2"}])
    assert ann.unread() == []
    assert [each["id"] for each in await bob.result("getChangesSince", "d", 0)] == ["c2"]


async def test_t05_a_lost_right_ends_the_broadcasts(serve: Any) -> None:
    rights = {"ann": True, "bob": True}

    async def can_access(principal: Any, *_: object) -> bool:
        return rights[principal.id]

    connect = await serve(auth=can_access, reauth_s=0.0)
    ann, bob = connect(Principal(id="ann")), connect(Principal(id="bob"))
    await ann.result("subscribe", ["d"])
    await bob.result("commitChanges", "d", [CHANGE])
    assert (await ann.notification("changesCommitted"))["docId"] == "d"
    rights["ann"] = False
    await bob.result("commitChanges", "d", [{**CHANGE, "id": "c2"}])
    await bob.result("getDoc", "d")
    await bob.result("commitChanges", "d", [{**CHANGE, "id": "c3"}])
    assert ann.unread("changesCommitted") == []
    assert await ann.notification("subscriptionEnded") == {
        "docId": "d",
        "code": 403,
        "message": "READ_FORBIDDEN:d",
    }
    assert len(connect.server.hub) == 0


async def test_t05_a_lost_right_ends_presence_in_the_documents_room(serve: Any) -> None:
    rights = {"ann": True, "bob": True}

    async def can_access(principal: Any, *_: object) -> bool:
        return rights[principal.id]

    connect = await serve(auth=can_access, reauth_s=0.0, relay=True)
    ann, bob = connect(Principal(id="ann")), connect(Principal(id="bob"))
    for peer in (ann, bob):
        assert await peer.result("subscribe", ["d"]) == ["d"]
    await bob.call("peer-signal", ann.id, "here", "d")
    assert (await ann.notification("signal"))["data"] == "here"
    rights["ann"] = False
    await bob.call("peer-signal", ann.id, "still here", "d")
    await bob.result("unsubscribe", ["d"])
    await connect.server.close()
    assert ann.unread("signal") == []
    assert len(connect.server.hub) == 0


async def test_t05_revoking_a_document_ends_its_broadcasts_at_once(serve: Any) -> None:
    readable = {"ann": {"d", "e"}, "bob": {"d", "e"}, "eve": {"d", "e"}}

    async def can_access(principal: Any, doc_id: str, *_: object) -> bool:
        await asyncio.sleep(0)
        return doc_id in readable[principal.id]

    connect = await serve(auth=can_access)
    ann, bob, eve = (connect(Principal(id=name)) for name in readable)
    for peer in (ann, eve):
        await peer.result("subscribe", ["d", "e"])
    readable["ann"] = {"e"}
    connect.server.revoke(doc_id="d")
    for doc_id in ("d", "e"):
        await bob.result("commitChanges", doc_id, [CHANGE])
    ended = {"docId": "d", "code": 403, "message": "READ_FORBIDDEN:d"}
    assert await ann.notification("subscriptionEnded") == ended
    assert (await ann.notification("changesCommitted"))["docId"] == "e"
    assert [(await eve.notification("changesCommitted"))["docId"] for _ in "de"] == ["d", "e"]
    assert ann.unread() == eve.unread() == []
    assert len(connect.server.hub) == 3
    assert (await ann.error("getChangesSince", "d", 0))["code"] == 403


async def test_t05_a_subscription_that_nobody_could_decide_on_is_named(serve: Any) -> None:
    async def can_access(_p: object, doc_id: str, *_: object) -> bool:
        if doc_id == "hangs":
            await asyncio.Event().wait()
        return doc_id == "mine"

    peer = (await serve(auth=can_access, limits=Limits(hook_timeout_s=0.01)))()
    assert await peer.result("subscribe", ["mine", "hangs", "theirs"]) == ["mine"]
    assert peer.unread() == [
        {
            "jsonrpc": "2.0",
            "method": "subscriptionEnded",
            "params": {"docId": "hangs", "code": 503, "message": "authorization timed out"},
        }
    ]


async def test_t07_a_branch_may_not_take_the_name_of_a_document_of_others(serve: Any) -> None:
    for prefix in ("", "lww/"):
        mine, theirs = f"{prefix}mine", f"{prefix}theirs"
        connect = await serve(auth=only(mine))
        writer = connect()
        await writer.result("commitChanges", mine, [CHANGE])
        for name in (theirs, f"{theirs}/not there yet"):
            error = await writer.error("createBranch", mine, 1, {"id": name})
            assert error["message"] == f"WRITE_FORBIDDEN:{name}"
        assert await writer.result("listBranches", mine) == []
        assert isinstance(await writer.result("createBranch", mine, 1), str)


@pytest.mark.parametrize(
    ("hook", "code"),
    [
        (lambda *_: 1, 403),
        (lambda *_: "yes", 403),
        (lambda *_: None, 403),
        (lambda *_: 1 / 0, 403),
        (lambda *_: asyncio.Event().wait(), 503),
        (lambda *_: _raise(StatusError(402, "pay first")), 402),
    ],
    ids=["1", "text", "nothing", "raises", "hangs", "says why"],
)
async def test_t08_anything_but_true_is_a_refusal(serve: Any, hook: Any, code: int) -> None:
    connect = await serve(auth=hook, limits=Limits(hook_timeout_s=0.01))
    peer = connect()
    error = await peer.error("commitChanges", "d", [CHANGE])
    assert error["code"] == code
    assert "division" not in str(error)
    assert await peer.result("subscribe", ["d"]) == []
    assert connect.server.router.services["ot"].documents.store._logs == {}


async def test_t30_what_is_forbidden_is_not_told_from_what_is_not_there(serve: Any) -> None:
    connect = await serve(auth=only("mine"), hide_existence=True)
    other = (await serve(auth=only(), hide_existence=True))()
    peer = connect()
    await peer.result("commitChanges", "mine", [CHANGE])
    branch = await peer.result("createBranch", "mine", 1)
    connect.server.access._can_access = only()
    for method in ("mergeBranch", "deleteBranch", "updateBranch"):
        there, absent = await peer.error(method, branch), await peer.error(method, "nowhere")
        assert there == {"code": 403, "message": f"WRITE_FORBIDDEN:{branch}"}
        assert absent == {"code": 403, "message": "WRITE_FORBIDDEN:nowhere"}
    for method in ("getDoc", "commitChanges", "deleteDoc"):
        params: list[Any] = [[]] if method == "commitChanges" else []
        answers = [await each.error(method, "mine", *params) for each in (peer, other)]
        assert answers[0] == answers[1]


def _raise(error: Exception) -> None:
    raise error


def test_t09_the_command_demands_a_choice_where_others_can_reach_it(capsys: Any) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        assert main(["--host", host, "--store", "memory:"]) == 1
        assert "--auth" in capsys.readouterr().err
    assert _auth(None, "127.0.0.1", Path("none")) is allow_all
    assert _auth("allow-all", "0.0.0.0", Path("none")) is allow_all


async def test_t04_who_is_revoked_loses_every_subscription_at_once(serve: Any) -> None:
    connect = await serve(auth=only("d", "e"))
    ann, bob = connect(Principal(id="ann")), connect(Principal(id="bob"))
    for peer in (ann, bob):
        assert await peer.result("subscribe", ["d", "e"]) == ["d", "e"]
    connect.server.revoke(principal=Principal(id="ann"))
    assert len(connect.server.hub) == 2
    await connect(Principal(id="carol")).result("commitChanges", "e", [CHANGE])
    assert (await bob.notification("changesCommitted"))["docId"] == "e"
    assert ann.unread() == []


async def test_t05_t08_a_right_that_cannot_be_asked_is_none_and_the_reader_comes_back(
    serve: Any,
) -> None:
    hangs = False

    async def can_access(*_: object) -> bool:
        if hangs:
            await asyncio.Event().wait()
        return True

    connect = await serve(auth=can_access, reauth_s=0.0, limits=Limits(hook_timeout_s=0.01))
    reader, server = connect(), connect.server
    await reader.result("subscribe", ["d"])
    hangs = True
    await server.router.services["ot"].documents.change("d", lambda patch: patch.add("/a", 1))
    async with asyncio.timeout(5):
        while (frame := await reader.session.outbox.get()) is not None:
            assert b"changesCommitted" not in frame
    assert reader.session.outbox.closing.code == 1011
    assert len(server.hub) == 0

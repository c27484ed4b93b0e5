"""Threats to rights (`spec/reliability.md` 4.1)."""

from __future__ import annotations

from typing import Any

import pytest

from patches.runtime import Millis, Runtime
from patches_server.auth import Principal

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
    rights = {"source": False, branch: True}

    async def only_the_branch(_p: object, doc_id: str, *_: object) -> bool:
        return rights[doc_id]

    connect.server.access._can_access = only_the_branch
    for method, params in (
        ("mergeBranch", [branch]),
        ("deleteBranch", [branch]),
        ("updateBranch", [branch, {"name": "x"}]),
    ):
        assert (await writer.error(method, *params))["message"] == "WRITE_FORBIDDEN:source"
    assert (await writer.error("mergeBranch", "nowhere"))["code"] == 404


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

"""Every limit is enforced or explained, and can be switched off where that is safe."""

from __future__ import annotations

import asyncio
import math
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from patches import Patches, PatchesSync
from patches.errors import InvalidRequestError, PatchesError
from patches.limits import Limits
from patches.testing.local_server import LocalServer
from patches_server.algorithms import services_on
from patches_server.auth.access import allow_all
from patches_server.http.app import create_app
from patches_server.service.server import PatchesServer
from patches_server.stores.memory.backend import MemoryBackend
from tests.support.raw_peer import Peers

Begin: TypeAlias = Callable[[Limits], Awaitable[Peers]]

OP: Final = {"op": "replace", "path": "/a", "value": 1}
#: What cannot be switched off, because nothing would be left that is safe.
STARRED: Final = {
    *("max_frame_bytes", "max_depth", "max_path_segments", "max_value_depth"),
    *("max_doc_id_bytes", "max_change_id_bytes", "max_doc_depth"),
}
#: Not limits by themselves: the bursts of rates, a switch.
OTHERS: Final = {"requests_burst", "commit_bytes_burst", "compress"}
OPTIONAL: Final = {
    name
    for name, kind in typing.get_type_hints(Limits).items()
    if types.NoneType in typing.get_args(kind)
}


@pytest.fixture
async def begin() -> AsyncIterator[Begin]:
    """Makes a server of OT and LWW documents in memory with the limits given."""
    async with AsyncExitStack() as servers:

        async def begun(limits: Limits) -> Peers:
            server = PatchesServer(
                services_on(MemoryBackend(), limits=limits),
                auth=allow_all,
                limits=limits,
                relay=True,
                drain_s=1.0,
            )
            return Peers(await servers.enter_async_context(server))

        yield begun


def commit(*ops: Any, count: int = 1, **extra: Any) -> list[Any]:
    return [{"id": f"change-{n}", "ops": list(ops or (OP,)), **extra} for n in range(count)]


def test_the_starred_limits_are_those_that_have_no_none() -> None:
    assert {field.name for field in fields(Limits)} == STARRED | OTHERS | OPTIONAL
    assert not OPTIONAL & STARRED


@pytest.mark.parametrize("name", sorted({field.name for field in fields(Limits)} - {"compress"}))
def test_what_is_no_limit_is_refused(name: str) -> None:
    wrong: list[Any] = [-1, math.nan, math.inf, "5", True]
    if name != "yield_every_ms":
        wrong.append(0)  # would let nothing through
    if name not in OPTIONAL:
        wrong.append(None)
    for value in wrong:
        with pytest.raises(InvalidRequestError, match=f"limits: {name} cannot be"):
            Limits(**{name: value})


def test_every_limit_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    assert [field.name for field in fields(Limits) if f"`{field.name}`" not in page] == []


async def test_none_switches_everything_off_that_can_be(aiohttp_client: Any, begin: Begin) -> None:
    nothing: dict[str, Any] = dict.fromkeys(OPTIONAL)
    off = Limits(**nothing)
    connect = await begin(off)
    peer, other = connect(), connect()
    assert len(await peer.result("subscribe", [f"d{n}" for n in range(10_001)])) == 10_001
    many = commit(*[OP] * 20_001)
    assert "changes" in await peer.result("commitChanges", "d", many)
    assert "changes" in await peer.result("commitChanges", "lww/d", commit(note="x" * 20_000))
    long = {**OP, "path": "/" + "x" * 5_000}
    assert "changes" in await peer.result("commitChanges", "e", commit(long))
    for _ in range(50):
        params = [other.id, "x" * 20_000]
        await peer.send({"jsonrpc": "2.0", "method": "peer-signal", "params": params})
    assert len(other.unread("signal")) == 50
    client = await aiohttp_client(create_app(auth=allow_all, limits=off, relay=False))
    async with client.ws_connect("/ws") as ws:
        await ws.send_json({"id": 1, "method": "getDoc", "params": ["d"]})
        assert (await ws.receive_json(timeout=5))["result"]["rev"] == 0


DEEP: Final = {**OP, "value": {"a": {"b": {"c": 1}}}}
TEXT: Final = {"op": "@txt", "path": "/t", "value": [{"insert": "longer"}]}


@pytest.mark.parametrize("doc_id", ["plan", "lww/plan"])
@pytest.mark.parametrize(
    ("limits", "changes", "code", "scope"),
    [
        (Limits(max_commit_bytes=500), commit(note="x" * 500), 413, None),
        (Limits(max_change_bytes=500), commit(note="x" * 500), 413, "change"),
        (Limits(max_changes_per_commit=1), commit(count=2), 413, None),
        (Limits(max_ops_per_change=1), commit(OP, OP), 413, "change"),
        (Limits(max_path_segments=1), commit({**OP, "path": "/a/b"}), 400, "change"),
        (Limits(max_path_bytes=3), commit({**OP, "path": "/abc"}), 400, "change"),
        (Limits(max_value_depth=2), commit(DEEP), 400, "change"),
        (Limits(max_change_id_bytes=7), commit(), 400, None),
        (Limits(max_change_id_bytes=8), commit(batchId="123456789"), 400, "change"),
        (Limits(max_doc_id_bytes=3), commit(), 400, None),
        (Limits(max_metadata_bytes=100), commit(note="x" * 100), 413, "change"),
        (Limits(max_text_op_len=5), commit(TEXT), 413, "change"),
        (Limits(), commit({**OP, "value": 2**53}), 400, "change"),
    ],
)
async def test_over_a_limit_of_input_nothing_is_stored(
    begin: Begin, limits: Limits, changes: Any, code: int, scope: str | None, doc_id: str
) -> None:
    connect = await begin(limits)
    peer = connect()
    error = await peer.error("commitChanges", doc_id, changes)
    assert error["code"] == code
    data = error.get("data") or {}
    assert data.get("scope") == scope
    assert ("changeId" in data) == (scope == "change")
    for services in connect.server.router.services.values():
        assert (await services.documents.get_doc(doc_id)).changes == []


async def test_a_document_is_bounded_in_depth_and_size(begin: Begin) -> None:
    peer = (await begin(Limits(max_doc_depth=3)))()
    error = await peer.error("commitChanges", "d", commit(DEEP))
    assert error["data"]["scope"] == "change"
    peer = (await begin(Limits(max_doc_bytes=1_000)))()
    error = await peer.error("commitChanges", "d", commit({**OP, "value": "x" * 2_000}))
    assert (error["code"], error["data"]["limit"]) == (413, "max_doc_bytes")
    assert (error["data"]["scope"], error["data"]["final"]) == ("change", True)


async def test_work_on_old_revisions_is_bounded(begin: Begin) -> None:
    peer = (await begin(Limits(max_transform_steps=3)))()
    for number in range(4):
        change = {"id": f"c{number}", "ops": [OP], "baseRev": number}
        await peer.result("commitChanges", "d", [change])
    late = [{"id": "late", "ops": [OP], "baseRev": 1}]
    assert "changes" in await peer.result("commitChanges", "d", late)
    later = [{"id": "later", "ops": [OP, OP], "baseRev": 1}]
    error = await peer.error("commitChanges", "d", later)
    assert (error["code"], error["data"]) == (409, {"scope": "doc"})


async def test_ids_subscriptions_and_frames_are_bounded(begin: Begin) -> None:
    connect = await begin(Limits(max_ids_per_call=3, max_subscriptions=4, max_depth=10))
    peer = connect()
    assert (await peer.error("subscribe", ["a", "b", "c", "d"]))["code"] == 400
    assert len(await peer.result("subscribe", ["a", "b", "c"])) == 3
    assert (await peer.error("subscribe", ["d", "e"]))["code"] == 429
    assert len(await peer.result("subscribe", ["d", "a"])) == 2
    deep: Any = 1
    for _ in range(12):
        deep = [deep]
    assert (await peer.error("getDoc", "d", deep))["code"] == 400


async def test_requests_are_bounded_by_the_second_notifications_too(begin: Begin) -> None:
    connect = await begin(Limits(requests_per_s=0.1, requests_burst=3))
    peer, other = connect(), connect()
    for _ in range(2):
        await peer.send({"jsonrpc": "2.0", "method": "anything", "params": {}})
    await peer.result("getDoc", "d")
    error = await peer.error("getDoc", "d")
    assert error["code"] == 429
    assert 5_000 < error["data"]["retryAfterMs"] <= 10_000
    assert "rev" in await other.result("getDoc", "d")


async def test_bytes_of_commits_are_bounded_by_the_second(begin: Begin) -> None:
    peer = (await begin(Limits(commit_bytes_per_s=100.0, commit_bytes_burst=400)))()
    await peer.result("commitChanges", "d", commit({**OP, "value": "x" * 250}))
    error = await peer.error("commitChanges", "d", commit({**OP, "value": "x" * 250}))
    assert error["code"] == 429
    assert 1_000 < error["data"]["retryAfterMs"] < 10_000
    assert "rev" in await peer.result("getDoc", "d")


async def test_large_frames_of_any_kind_count_as_commits_before_they_are_parsed(
    begin: Begin,
) -> None:
    peer = (await begin(Limits(commit_bytes_per_s=100.0, commit_bytes_burst=150_000)))()
    await peer.notification("peer-welcome")
    large = "x" * 100_000
    assert "rev" in await peer.result("getDoc", "d", {"note": large})
    await peer.send(f'{{"method":"anything","params":["{large}"]}}')  # no call, and no answer
    assert (await peer.next())["error"]["code"] == 429
    for frame in (
        f'{{"id":"first","method":"getDoc","params":["{large}"]}}',
        f'{{"method":"getDoc","params":["{large}", {{"id":7}}],"id":"first"}}',
        f'["{large}',
    ):
        await peer.send(frame)
        answer = await peer.next()
        assert answer["id"] == (None if frame[0] == "[" else "first")
        assert answer["error"]["code"] == 429
        assert answer["error"]["data"]["retryAfterMs"] > 1_000
    assert "rev" in await peer.result("getDoc", "d")


async def test_long_catch_ups_are_loaded_a_few_at_a_time_and_whole(begin: Begin) -> None:
    connect = await begin(Limits(max_catchup_changes=3, max_concurrent_snapshots=1))
    peers = [connect() for _ in range(5)]
    await peers[0].result("commitChanges", "d", commit(count=5, baseRev=0))
    store = connect.server.router.services["ot"].documents.store  # type: ignore[attr-defined]  # inside
    inside, most, load = 0, 0, store.list_changes

    async def counted(doc_id: str, **options: Any) -> Any:
        nonlocal inside, most
        if options.get("limit") is not None:
            return await load(doc_id, **options)
        inside, most = inside + 1, max(most, inside + 1)
        await asyncio.sleep(0)
        try:
            return await load(doc_id, **options)
        finally:
            inside -= 1

    store.list_changes = counted
    assert len(await peers[0].result("getChangesSince", "d", 2)) == 3
    assert most == 0, "as many as are allowed do not wait"
    started = [await peer.start("getChangesSince", "d", 0) for peer in peers]
    for peer, request_id in zip(peers, started, strict=True):
        assert len((await peer.answer(request_id))["result"]) == 5
    assert most == 1


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_a_document_that_grew_too_large_can_shrink_again(algorithm: str) -> None:
    limits = Limits(max_doc_bytes=10_000)
    async with (
        LocalServer(limits=limits, routes={"*": algorithm}) as server,
        Patches() as patches,
        PatchesSync(patches, server.connection()) as sync,
    ):
        doc = await patches.open_doc("d", algorithm=algorithm)
        doc.change(lambda draft: draft.update(kept="x" * 9_000))
        await sync.settled(10)
        doc.change(lambda draft: draft.update(more="y" * 5_000))
        with suppress(PatchesError):
            await sync.settled(10)
        [entry] = await patches.list_quarantined_changes("d")
        assert "at most 10000 are allowed" in entry.reason
        doc.change(lambda draft: draft.update(kept="x"))
        await sync.settled(10)
        doc.change(lambda draft: draft.update(more="z" * 5_000))
        await sync.settled(10)
        assert doc.state == {"kept": "x", "more": "z" * 5_000}
        assert not doc.has_pending

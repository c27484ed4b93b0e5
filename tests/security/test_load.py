"""Threats by load and time (`docs/internals/reliability.md` 4.3)."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from typing import Any

import aiohttp
import pytest

from patches.limits import Limits
from patches.model import codec
from patches.testing.virtual_time import virtual_time
from patches_server.algorithms import services_on
from patches_server.auth.access import allow_all
from patches_server.cli.logs import OncePerMinute
from patches_server.http.app import SERVER, create_app
from patches_server.service.server import PatchesServer
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend

_ids = itertools.count(1)


def change(change_id: str, value: Any = 1, **fields: Any) -> dict[str, Any]:
    return {"id": change_id, "ops": [{"op": "replace", "path": "/a", "value": value}], **fields}


async def call(ws: Any, method: str, *params: Any) -> Any:
    request_id = next(_ids)
    frame = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": list(params)}
    await ws.send_str(codec.encode_text(frame))
    while (answer := await ws.receive_json(timeout=10)).get("id") != request_id:
        pass
    return answer


async def blocks(server: Any) -> int:
    """Objects in memory when nothing is under way."""
    while server._under_way:  # noqa: ASYNC110  # nothing else runs
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    gc.collect()
    return sys.getallocatedblocks()


async def test_t16_a_huge_frame_ends_only_its_own_connection(aiohttp_client: Any) -> None:
    client = await aiohttp_client(
        create_app(auth=allow_all, limits=Limits(max_frame_bytes=100_000), relay=False)
    )
    async with client.ws_connect("/ws") as honest, client.ws_connect("/ws") as hostile:
        await hostile.send_str("[" + "1," * 100_000)
        message = await hostile.receive(timeout=10)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
        assert "result" in await call(honest, "getDoc", "d")


async def test_t32_a_slow_reader_is_dropped_and_nobody_waits_for_it(aiohttp_client: Any) -> None:
    limits = Limits(max_response_buffer_bytes=200_000)
    app = create_app(auth=allow_all, limits=limits, relay=False)
    client = await aiohttp_client(app)
    slow = await client.ws_connect("/ws", max_msg_size=0)
    await call(slow, "subscribe", "d")
    transport = slow._conn.transport
    transport.pause_reading()  # from here on it takes nothing
    async with client.ws_connect("/ws") as reader, client.ws_connect("/ws") as author:
        await call(reader, "subscribe", "d")
        for number in range(200):
            if len(app[SERVER].sessions) == 2:
                break
            answer = await call(author, "commitChanges", "d", [change(f"c{number}", "x" * 100_000)])
            assert "result" in answer
            told = await reader.receive_json(timeout=10)
            assert told["params"]["changes"][0]["id"] == f"c{number}"
        async with asyncio.timeout(10):
            while len(app[SERVER].sessions) > 2:  # noqa: ASYNC110  # it is closing
                await asyncio.sleep(0.01)
    assert len(app[SERVER].hub) <= 1
    transport.resume_reading()
    await slow.close()


async def test_t34_subscriptions_leave_nothing_behind(serve: Any) -> None:
    connect = await serve(limits=Limits(requests_per_s=None))
    for _ in range(100):
        peer = connect()
        await peer.result("subscribe", [f"d{number}" for number in range(1_000)])
        peer.session.end()
    peer = connect()
    for _ in range(50):
        await peer.result("subscribe", ["a", "b"])
        await peer.result("unsubscribe", ["a", "b"])
    assert len(connect.server.hub) == 0
    assert connect.server.hub._table == {}
    assert len(connect.server.sessions) == 1


async def test_t37_t38_a_change_id_is_committed_once(connect: Any) -> None:
    for doc_id in ("d", "lww/d"):
        one, two = connect(), connect()
        wire = {"id": "c1", "ops": [{"op": "@inc", "path": "/n", "value": 1}], "createdAt": 5}
        both = [await peer.start("commitChanges", doc_id, [wire]) for peer in (one, two)]
        for peer, request_id in zip((one, two), both, strict=True):
            assert "result" in await peer.answer(request_id)
        await one.result("commitChanges", doc_id, [wire])
        since = await one.result("getChangesSince", doc_id, 0)
        assert len(since) == 1
        assert since[0]["rev"] == 1


async def test_t39_times_from_the_future_are_lowered(connect: Any) -> None:
    peer = connect()
    far = 4_000_000_000_000_000
    [stored] = (await peer.result("commitChanges", "d", [change("c1", createdAt=far)]))["changes"]
    assert stored["createdAt"] <= stored["committedAt"] < far
    ops = [{"op": "replace", "path": "/a", "value": 1, "ts": far}]
    answer = await peer.result("commitChanges", "lww/d", [{"id": "c2", "ops": ops}])
    assert answer["changes"][0]["ops"][0]["ts"] < far


async def test_t40_presence_is_bounded_and_signed_by_the_server(serve: Any) -> None:
    connect = await serve(relay=True, limits=Limits(presence_per_s=2.0, max_presence_bytes=1_000))
    spammer, victim = connect(), connect()
    for number in range(100):
        params = [victim.id, {"from": "admin", "n": number}]
        await spammer.send({"jsonrpc": "2.0", "method": "peer-signal", "params": params})
    params = [victim.id, "x" * 2_000]
    await spammer.send({"jsonrpc": "2.0", "method": "peer-signal", "params": params})
    heard = victim.unread("signal")
    assert len(heard) == 2
    assert {frame["params"]["from"] for frame in heard} == {spammer.id}
    spammer.session.end()
    assert len(victim.unread("peer-disconnected")) == 1


async def test_t31_no_log_line_is_long_or_broken_by_an_id(connect: Any, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, logger="patches_server")
    peer = connect()
    doc_id = "x" * 250 + "\u2028" + "y" * 250
    ops = [{"op": "@txt", "path": "/n", "value": [{"insert": "x"}]}]
    await peer.result("commitChanges", doc_id, [change("c" * 128, 7)])
    await peer.result("commitChanges", doc_id, [{"id": "\u2028" * 40, "ops": ops}])
    broken = {"id": "b" * 128, "ops": [{"op": "add", "path": "/a/b", "value": 1}]}
    await peer.result("commitChanges", doc_id, [broken])
    await peer.result("createVersion", doc_id, {})
    messages = [record.getMessage() for record in caplog.records]
    assert any("cannot be applied" in message for message in messages)
    for message in messages:
        assert len(message) < 500
        assert len(message.splitlines()) == 1


async def test_t31_the_log_of_one_connection_has_one_line_of_a_kind_a_minute() -> None:
    log = logging.Logger("flooded")
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    kept = Kept()
    kept.addFilter(OncePerMinute())
    log.addHandler(kept)
    for connection in ("one", "two"):
        for number in range(1_000):
            log.warning("refused %d", number, extra={"connection": connection})
    assert lines == ["refused 0", "refused 0"]


async def test_t32_one_who_reads_nothing_costs_only_its_bound(serve: Any) -> None:
    connect = await serve(limits=Limits(max_response_buffer_bytes=100_000))
    slow, reader, author = connect(), connect(), connect()
    for peer in (slow, reader):
        await peer.result("subscribe", ["d"])
    for number in range(100):
        await author.result("commitChanges", "d", [change(f"c{number}", "x" * 10_000)])
        told = await reader.notification("changesCommitted")
        assert told["changes"][0]["id"] == f"c{number}"
        assert slow.session.outbox.queued_bytes < 120_000
    assert slow.session.outbox.closing.code == 1013
    assert slow.session.outbox.queued_bytes == 0


async def test_t34_ten_thousand_subscriptions_leave_no_memory(serve: Any) -> None:
    connect = await serve(limits=Limits(requests_per_s=None))
    names = [f"document-{number}" for number in range(10_000)]

    async def churn(times: int) -> int:
        for _ in range(times):
            peer = connect()
            assert len(await peer.result("subscribe", names)) == 10_000
            assert len(await peer.result("unsubscribe", names[:5_000])) == 5_000
            assert len(await peer.result("subscribe", names[:5_000])) == 5_000
            peer.session.end()
        return await blocks(connect.server)

    before = await churn(1)
    after = await churn(4)
    assert after - before < 1_000
    assert len(connect.server.hub) == 0


async def test_t35_documents_seen_once_leave_no_memory(serve: Any, tmp_path: Any) -> None:
    limits = Limits(requests_per_s=None, commit_bytes_per_s=None)
    connect = await serve(
        limits=limits, backend=SqliteBackend(tmp_path / "s.db", durability="relaxed")
    )
    services = connect.server.router.services
    recent = services["ot"].documents._committer._recent
    recent._max_docs = 50
    peer = connect()

    async def visit(start: int, count: int) -> None:
        for number in range(start, start + count):
            for doc_id in (f"d{number}", f"lww/d{number}"):
                await peer.result("getDoc", doc_id)
                if number % 4 == 0:
                    await peer.result("subscribe", doc_id)
                    await peer.result("commitChanges", doc_id, [change(f"c{number}")])
                    await peer.result("unsubscribe", doc_id)

    await visit(0, 200)
    before = await blocks(connect.server)
    await visit(1_000, 600)
    growth = await blocks(connect.server) - before
    assert growth < 1_200  # less than one object for each document
    assert len(recent) <= 50
    assert len(connect.server.router._recorded) <= 10_000
    assert all(len(each.documents._locks) == 0 for each in services.values())


async def test_t36_an_expensive_commit_holds_up_nobody_else(serve: Any) -> None:
    connect = await serve(limits=Limits(max_transform_steps=2_000_000))
    author, late, other = connect(), connect(), connect()

    def inserts(change_id: str, count: int, base_rev: int) -> dict[str, Any]:
        ops = [{"op": "add", "path": "/list/0", "value": number} for number in range(count)]
        return {"id": change_id, "ops": ops, "baseRev": base_rev}

    made = {"id": "c0", "ops": [{"op": "replace", "path": "/list", "value": []}], "baseRev": 0}
    await author.result("commitChanges", "d", [made])
    for number in range(40):
        await author.result("commitChanges", "d", [inserts(f"c{number + 1}", 25, number + 1)])
    dear = await late.start("commitChanges", "d", [inserts("dear", 80, 1)])
    for number in range(10):
        await other.result("commitChanges", "e", [change(f"e{number}")])
        assert late.unread() == [], "the other document is served meanwhile"
    assert "result" in await late.answer(dear)
    error = await late.error("commitChanges", "d", [inserts("dearer", 5_000, 1)])
    assert (error["code"], error["data"]) == (409, {"scope": "doc"})


@virtual_time
async def test_t41_many_connections_are_closed_one_after_another() -> None:
    backend = MemoryBackend()
    closed_at = []
    loop = asyncio.get_running_loop()
    async with PatchesServer(services_on(backend), auth=allow_all, relay=False) as server:
        for _ in range(2_000):
            session = server.connect().session

            def close(code: int, reason: str, session: Any = session) -> None:
                closed_at.append((code, loop.time()))
                session.end()

            session.close = close  # type: ignore[method-assign]  # as a transport would
    assert {code for code, _ in closed_at} == {1001}
    assert len(closed_at) == 2_000
    assert closed_at[-1][1] - closed_at[0][1] > 1.0
    assert max(Counter(at for _, at in closed_at).values()) < 150


async def test_t41_snapshots_are_loaded_a_few_at_a_time(serve: Any) -> None:
    connect = await serve(limits=Limits(max_concurrent_snapshots=2))
    documents = connect.server.router.services["ot"].documents
    now, most, load = 0, 0, documents.get_doc

    async def counted(doc_id: str, **options: Any) -> Any:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await asyncio.sleep(0)
        try:
            return await load(doc_id, **options)
        finally:
            now -= 1

    documents.get_doc = counted
    peers = [connect() for _ in range(20)]
    started = [await peer.start("getDoc", f"d{n}") for n, peer in enumerate(peers)]
    for peer, request_id in zip(peers, started, strict=True):
        assert "result" in await peer.answer(request_id)
    assert most == 2


async def test_t43_a_change_that_cannot_be_applied_hurts_nothing_else(connect: Any) -> None:
    peer = connect()
    await peer.result("commitChanges", "d", [change("c1", 7)])
    poison = {"id": "c2", "ops": [{"op": "add", "path": "/a/b/c", "value": 1}], "baseRev": 1}
    await peer.result("commitChanges", "d", [poison])
    await peer.result("commitChanges", "d", [change("c3", 8, baseRev=2)])
    version = await peer.result("createVersion", "d", {})
    assert await peer.result("getVersionState", "d", version) == {"a": 8}
    assert (await peer.result("getDoc", "d"))["state"] == {"a": 8}
    assert len(await peer.result("getChangesSince", "d", 0)) == 3


async def test_t44_a_corrupt_row_closes_its_document_alone(serve: Any, tmp_path: Any) -> None:
    connect = await serve(backend=SqliteBackend(tmp_path / "s.db"))
    peer = connect()
    for doc_id in ("bad", "good", "lww/bad", "lww/good"):
        await peer.result("commitChanges", doc_id, [change("c1"), change("c2", 2)])
    with closing(sqlite3.connect(tmp_path / "s.db")) as other, other:
        other.execute("UPDATE ot_changes SET change = '{}' WHERE doc_id = 'bad' AND rev = 1")
        other.execute(
            "UPDATE lww_rows SET crc = crc + 1, op = x'00' || op "
            "WHERE doc = (SELECT doc FROM lww_docs WHERE doc_id = 'lww/bad')"
        )
    for doc_id in ("bad", "lww/bad"):
        error = await peer.error("getDoc", doc_id)
        assert (error["code"], error["data"]["reason"]) == (503, "CORRUPT")
        assert "s.db" not in str(error)
    for doc_id in ("good", "lww/good"):
        assert len((await peer.result("getDoc", doc_id))["changes"]) >= 1


async def test_t45_large_answers_wait_for_the_peer_and_hold_up_nobody_else(serve: Any) -> None:
    connect = await serve(limits=Limits(max_response_buffer_bytes=100_000))
    author, slow = connect(), connect()
    await author.result("commitChanges", "d", [change("c1", "x" * 1_000_000)])
    asking = asyncio.ensure_future(_ask(slow, 100))
    await asyncio.sleep(0.05)
    assert slow.session.outbox.queued_bytes < 9_000_000, "few answers are made ahead"
    assert not asking.done(), "and it is not read on meanwhile"
    assert "result" in await author.call("getChangesSince", "d", 1)
    for _ in range(100):
        assert len((await slow.next())["result"]["changes"]) == 1
    await asking
    assert slow.session.outbox.closing is None
    assert slow.session.outbox.queued_bytes == 0


async def _ask(peer: Any, times: int) -> None:
    for _ in range(times):
        await peer.start("getDoc", "d")


async def test_who_asks_for_much_is_not_cut_off_over_the_broadcasts_that_come_meanwhile(
    serve: Any,
) -> None:
    connect = await serve(limits=Limits(max_response_buffer_bytes=100_000))
    author, reader = connect(), connect()
    await reader.result("subscribe", ["d", *(f"gone-{number}" for number in range(3))])
    await author.result("commitChanges", "d", [change("c1", "x" * 90_000)])
    await reader.start("getDoc", "d")
    await reader.start("getDoc", "d")
    await asyncio.sleep(0.05)
    await author.result("commitChanges", "d", [change("c2", "y" * 5_000)])
    assert reader.session.outbox.closing is None
    assert [len((await reader.notification("changesCommitted"))["changes"]) for _ in "12"] == [1, 1]


async def test_a_slow_reader_does_not_hold_up_the_end_of_the_server(serve: Any) -> None:
    connect = await serve(limits=Limits(max_response_buffer_bytes=1_000), drain_s=60)
    author, slow = connect(), connect()
    await author.result("commitChanges", "d", [change("c1", "x" * 10_000)])
    await _ask(slow, 10)
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await connect.server.close()
    codes = [frame["error"]["data"] for frame in slow.unread() if "error" in frame]
    assert codes == [{"reason": "CLOSING"}] * 9


async def test_a_lost_connection_does_not_wait_for_room(serve: Any) -> None:
    connect = await serve(limits=Limits(max_response_buffer_bytes=1_000))
    author, slow = connect(), connect()
    await author.result("commitChanges", "d", [change("c1", "x" * 10_000)])
    asking = asyncio.ensure_future(_ask(slow, 100))
    await asyncio.sleep(0.05)
    assert not asking.done()
    slow.session.end()
    async with asyncio.timeout(5):
        await asking
    assert connect.server.sessions.keys() == {author.id}


async def test_a_store_that_hangs_is_503_and_its_commit_is_still_told(serve: Any) -> None:
    connect = await serve(limits=Limits(store_timeout_s=0.01))
    peer, reader = connect(), connect()
    await reader.result("subscribe", ["d"])
    store = connect.server.router.services["ot"].documents.store
    gate, save = asyncio.Event(), store.save_changes

    async def slow(*args: Any, **kwargs: Any) -> None:
        await gate.wait()
        await save(*args, **kwargs)

    store.save_changes = slow
    error = await peer.error("commitChanges", "d", [change("c1", baseRev=0)])
    assert (error["code"], error["data"]) == (503, {"reason": "STORAGE"})
    gate.set()
    assert (await reader.notification("changesCommitted"))["changes"][0]["id"] == "c1"
    [echoed] = (await peer.result("commitChanges", "d", [change("c1", baseRev=0)]))["changes"]
    assert (echoed["id"], echoed["rev"]) == ("c1", 1)
    assert peer.unread() == [], "the late answer is not sent"


@pytest.mark.parametrize(("name", "save"), [("ot", "save_changes"), ("lww", "save_rows")])
async def test_the_repetition_of_a_commit_under_way_waits_for_it(
    serve: Any, name: str, save: str
) -> None:
    connect = await serve(limits=Limits(store_timeout_s=0.01))
    first, second, doc_id = connect(), connect(), f"{name}/d"
    store = connect.server.router.services[name].documents.store
    gate, saved, really = asyncio.Event(), [], getattr(store, save)

    async def slow(*args: Any, **kwargs: Any) -> None:
        saved.append(args[0])
        await gate.wait()
        await really(*args, **kwargs)

    setattr(store, save, slow)
    commit = [change("c1", baseRev=0), change("c2", baseRev=0)]
    assert (await first.error("commitChanges", doc_id, commit))["code"] == 503
    calls = [(peer, await peer.start("commitChanges", doc_id, commit)) for peer in (second, first)]
    await asyncio.sleep(0.05)  # several times as long as a call may wait
    assert [peer.unread() for peer, _ in calls] == [[], []]
    gate.set()
    for peer, call in calls:
        [*_, last] = (await peer.answer(call))["result"]["changes"]
        assert last["rev"] == (2 if name == "ot" else 1)
    assert len(saved) == 1


@pytest.mark.parametrize(("name", "save"), [("ot", "save_changes"), ("lww", "save_rows")])
async def test_a_call_that_waited_too_long_for_its_turn_is_not_begun_any_more(
    serve: Any, name: str, save: str
) -> None:
    connect = await serve(limits=Limits(store_timeout_s=0.01))
    first, second, doc_id = connect(), connect(), f"{name}/d"
    documents = connect.server.router.services[name].documents
    gate, really = asyncio.Event(), getattr(documents.store, save)

    async def slow(*args: Any, **kwargs: Any) -> None:
        await gate.wait()
        await really(*args, **kwargs)

    setattr(documents.store, save, slow)
    calls = [
        await peer.start("commitChanges", doc_id, [change(f"c{number}", baseRev=0)])
        for number, peer in enumerate((first, second))
    ]
    for peer, call in zip((first, second), calls, strict=True):
        assert (await peer.answer(call))["error"]["data"] == {"reason": "STORAGE"}
    gate.set()
    while connect.server._under_way:  # noqa: ASYNC110  # nothing else runs
        await asyncio.sleep(0)
    assert (await documents.get_doc(doc_id)).head == 1, "the first had begun"
    while "error" in (again := await second.call("commitChanges", doc_id, [change("c1")])):
        assert again["error"]["code"] == 503, "so little time may be too little here"
    assert again["result"]["changes"][-1]["rev"] == 2

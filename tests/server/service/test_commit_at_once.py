"""An ordinary commit is carried out in the turn in which it came, and looks like any other."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.aio.keyed_locks import KeyedLocks
from patches.aio.signals import Signal
from patches.model import codec
from patches.runtime import Runtime
from patches.testing.local_server import LocalServer
from patches_server.auth.access import allow_all
from patches_server.lww.stores.memory import LWWMemoryServerStore
from patches_server.lww.stores.sqlite import LWWSqliteServerStore
from patches_server.ot.stores.memory import OTMemoryServerStore
from patches_server.ot.stores.sqlite import OTSqliteServerStore
from patches_server.service.calls import Calls
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend
from patches_server.stores.sqlite.documents import put_epoch
from tests.support.raw_peer import RawPeer

COMMITS = 300


KINDS = {
    "ot": {"memory": OTMemoryServerStore, "sqlite": OTSqliteServerStore},
    "lww": {"memory": LWWMemoryServerStore, "sqlite": LWWSqliteServerStore},
}
PLACES = [(algorithm, place) for algorithm, places in KINDS.items() for place in places]


async def in_turn(work: Callable[[], Any]) -> Any:
    await asyncio.sleep(0)
    return work()


def a_server(
    algorithm: str = "ot",
    place: str = "memory",
    *,
    waits: bool = False,
    folder: Path | None = None,
    **options: Any,
) -> LocalServer:
    """`waits`: the store is of a class that does not say that it can do without."""
    runtime = Runtime(
        wall_ms=lambda: 1_700_000_000_000, random=random.Random(5), run_blocking=in_turn
    )
    store: Any = KINDS[algorithm][place]
    if waits:
        store = type("Waits", (store,), {})
    if place == "memory":
        memory = MemoryBackend(runtime=runtime)
        memory.stores[algorithm] = store(memory.documents, memory.versions, memory.branches)
        return LocalServer(memory, runtime=runtime, **options)
    assert folder is not None
    sqlite = SqliteBackend(folder / f"{waits}.db", runtime=runtime)
    sqlite.stores[algorithm] = store(
        sqlite.database, sqlite.versions, sqlite.branches, runtime=runtime
    )
    return LocalServer(sqlite, runtime=runtime, **options)


def commit(doc_id: str, rev: int, ops: list[Any], name: str = "c", **fields: Any) -> list[Any]:
    change = {"id": f"{name}{rev}", "ops": ops, "baseRev": rev - 1, "rev": rev, **fields}
    return [doc_id, [change]]


def one_op(rev: int) -> list[Any]:
    return [{"op": "replace", "path": f"/k{rev % 50}", "value": rev}]


async def rest(server: LocalServer) -> None:
    while server.server._under_way:  # noqa: ASYNC110  # nothing else runs
        await asyncio.sleep(0)


def text_and_counter(rev: int) -> list[Any]:
    insert: list[Any] = [{"insert": "x"}]
    at = max(0, rev - 10)
    return [
        {"op": "@txt", "path": "/body", "value": [{"retain": at}, *insert] if at else insert},
        {"op": "@inc", "path": "/n", "value": 1},
    ]


async def counted(
    auth: Any = allow_all, *, ops: Callable[[int], list[Any]] = one_op, behind: int = 0
) -> tuple[float, int]:
    """Python calls for each commit with one subscriber, and the tasks and timers of all.

    Each commit is made `behind` revisions before the head.
    """
    async with LocalServer(auth=auth) as server:
        author, reader = server.server.connect(), server.server.connect()
        for session in (author, reader):
            await session.receive('{"jsonrpc":"2.0","id":0,"method":"subscribe","params":["d"]}')

        def frame(rev: int) -> bytes:
            now = server.runtime.wall_ms()
            base_rev = rev - 1 - behind if rev > behind + 1 else rev - 1
            params = commit("d", rev, ops(rev), createdAt=now)
            params[1][0]["baseRev"] = base_rev
            request = {"jsonrpc": "2.0", "id": rev, "method": "commitChanges", "params": params}
            return codec.encode(request)

        for rev in range(1, 20):
            await author.receive(frame(rev))
            await rest(server)
        frames = [frame(rev) for rev in range(20, 20 + COMMITS)]
        loop, calls, made = asyncio.get_running_loop(), 0, 0

        def called(_frame: FrameType, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        def noted(method: Callable[..., Any]) -> Callable[..., Any]:
            def note(*args: Any, **kwargs: Any) -> Any:
                nonlocal made
                made += 1
                return method(*args, **kwargs)

            return note

        with pytest.MonkeyPatch.context() as patched:
            for name in ("create_task", "call_at"):
                patched.setattr(loop, name, noted(getattr(loop, name)))
            sys.setprofile(called)
            try:
                for each in frames:
                    await author.receive(each)
            finally:
                sys.setprofile(None)
        while reader.outbox.get_nowait() is not None:
            pass
        [*_, last] = [answer async for answer in answers(author)]
        assert last["id"] == 19 + COMMITS
        assert last["result"]["changes"][-1]["rev"] == 19 + COMMITS
        return calls / COMMITS, made


async def answers(session: Any) -> Any:
    while (frame := session.outbox.get_nowait()) is not None:
        yield codec.decode(frame)


@pytest.mark.parametrize(
    ("auth", "most"), [(allow_all, 140), (lambda *_: True, 150)], ids=["open", "a plain hook"]
)
async def test_a_commit_of_one_operation_costs_few_calls_and_no_task(auth: Any, most: int) -> None:
    calls, made = await counted(auth)
    assert calls <= most
    assert made <= 1, "the watch for documents at rest"


PATHS = ["/n", "/list/0", "/list", "/o/x", "/o", "/t", ""]


async def test_a_commit_that_is_behind_is_transformed_in_the_same_turn() -> None:
    calls, made = await counted(ops=text_and_counter, behind=3)
    assert calls <= 430
    assert made <= 1, "the watch for documents at rest"


def an_op(source: random.Random, step: int) -> dict[str, Any]:
    path = source.choice(PATHS)
    return source.choice(
        [
            {"op": "replace", "path": path, "value": step},
            {"op": "add", "path": path, "value": [step]},
            {"op": "remove", "path": path},
            {"op": "@inc", "path": "/n", "value": 1},
            {"op": "@txt", "path": "/t", "value": [{"insert": str(step)}]},
            {"op": "move", "from": "/o", "path": "/list/0"},
            {"op": "bad", "path": path},
        ]
    )


async def played(server: LocalServer, algorithm: str, seed: int) -> list[list[Any]]:
    """What each of three peers gets in a conversation of commits: live, behind, sent again,
    refused, in batches, with options."""
    source = random.Random(seed)
    sent: list[list[dict[str, Any]]] = []
    docs = [f"{algorithm}/d", f"{algorithm}/e"]
    documents = server.services[algorithm].documents
    async with server:
        if isinstance(server.backend, SqliteBackend):  # whose epoch would be random
            await server.backend.database.write(lambda conn: put_epoch(conn, "epoch"))
        peers = [RawPeer(server.server.connect()) for _ in range(3)]
        for peer in peers:
            await peer.result("subscribe", docs)
        got: list[list[Any]] = [[] for _ in peers]
        for step in range(60):
            doc_id = source.choice([docs[0], docs[0], docs[1]])
            mark = await documents.history_of(doc_id)
            assert mark is not None
            ops = [an_op(source, step) for _ in range(source.choice([1, 1, 1, 0, 3]))]
            change: dict[str, Any] = {"id": f"c{step}", "ops": ops}
            change["baseRev"] = max(0, mark.rev - source.choice([0, 0, 0, 1, 3, 40, -1]))
            if source.random() < 0.2:
                change["createdAt"] = 1_700_000_000_000 - source.choice([0, 10, 9_000_000])
            if source.random() < 0.05:
                change["batchId"] = "batch"
            changes = source.choice(sent) if sent and source.random() < 0.15 else [change]
            sent.append(changes)
            ours = {"token": mark.token, "algorithm": algorithm}
            known = {**ours, "last": [mark.rev, mark.change_id]} if mark.rev else ours
            strange = {**ours, "last": [max(1, mark.rev - 1), source.choice(["c1", "c2"])]}
            options = source.choice(
                [None, None, known, known, strange, {"forceCommit": True}, {"token": None}, 7]
            )
            await source.choice(peers).start("commitChanges", doc_id, changes, options)
            await rest(server)
            for each, peer in zip(got, peers, strict=True):
                while (frame := peer.session.outbox.get_nowait()) is not None:
                    each.append(frame)
        return got


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("algorithm", "place"), PLACES)
async def test_a_conversation_is_the_same_frame_for_frame_either_way(
    algorithm: str, place: str, seed: int, short_ways: list[bool], tmp_path: Path
) -> None:
    at_once = await played(a_server(algorithm, place, folder=tmp_path), algorithm, seed)
    taken, short_ways[:] = sum(short_ways), []
    server = a_server(algorithm, place, folder=tmp_path, waits=True)
    assert at_once == await played(server, algorithm, seed)
    assert taken
    assert not any(short_ways)


def set_number(number: int, draft: Any) -> None:
    draft.n = number


@pytest.mark.parametrize(("algorithm", "place"), PLACES)
async def test_our_own_client_is_served_the_short_way(
    algorithm: str, place: str, short_ways: list[bool], tmp_path: Path
) -> None:
    rules: dict[str, Any] = {"auth": lambda *_: True, "validate": lambda *_: None}
    server = a_server(algorithm, place, folder=tmp_path, **rules)
    async with server, Patches() as one, Patches() as other:
        connections = server.connection(), server.connection()
        async with PatchesSync(one, connections[0]), PatchesSync(other, connections[1]) as sync:
            docs = [
                await each.open_doc(f"{algorithm}/d", algorithm=algorithm) for each in (one, other)
            ]
            for number in range(20):
                docs[number % 2].change(partial(set_number, number))
                await docs[number % 2].flush()
                await asyncio.sleep(0.005)
            await sync.settled(5)
    assert sum(short_ways) >= len(short_ways) - 5 >= 5


@pytest.fixture
def short_ways(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each commit was carried out, or begun, at once."""
    taken: list[bool] = []
    really = Calls.commit_at_once

    def noted(self: Calls, *args: Any) -> Any:
        result = really(self, *args)
        taken.append(result is not None)
        return result

    monkeypatch.setattr(Calls, "commit_at_once", noted)
    return taken


async def test_a_store_that_wraps_another_is_not_written_past(short_ways: list[bool]) -> None:
    async with a_server(waits=True) as server:
        peer = RawPeer(server.server.connect())
        for rev in range(1, 4):
            await peer.result("commitChanges", *commit("d", rev, one_op(rev)))
    assert short_ways
    assert not any(short_ways)


async def test_an_async_hook_and_an_async_subscriber_are_waited_for(
    short_ways: list[bool],
) -> None:
    async def slowly(*_: object) -> bool:
        await asyncio.sleep(0)
        return True

    async with a_server(auth=slowly) as server:
        peer = RawPeer(server.server.connect())
        for rev in range(1, 4):
            await peer.result("commitChanges", *commit("d", rev, one_op(rev)))
    assert not any(short_ways)
    async with a_server() as server:
        server.services["ot"].documents.on_changes_committed(slowly)
        peer = RawPeer(server.server.connect())
        for rev in range(1, 4):
            await peer.result("commitChanges", *commit("d", rev, one_op(rev)))
    assert not any(short_ways)


async def test_a_hook_that_turns_out_to_be_async_is_asked_as_one(short_ways: list[bool]) -> None:
    async def slowly() -> bool:
        return True

    async with a_server(auth=lambda *_: slowly()) as server:
        peer = RawPeer(server.server.connect())
        for rev in range(1, 4):
            await peer.result("commitChanges", *commit("d", rev, one_op(rev)))
    assert not any(short_ways)


async def test_what_a_plain_hook_refuses_is_refused_as_ever() -> None:
    allowed = {"read", "write"}
    async with a_server(auth=lambda _p, _d, kind, *_: kind in allowed) as server:
        peer = RawPeer(server.server.connect())
        for rev in range(1, 4):
            await peer.result("commitChanges", *commit("d", rev, one_op(rev)))
        for kind in ("write", "read"):
            allowed.discard(kind)
            error = await peer.error("commitChanges", *commit("d", 4, one_op(4)))
            assert error == {"code": 403, "message": f"{kind.upper()}_FORBIDDEN:d"}
            allowed.add(kind)


async def test_a_commit_waits_for_one_that_is_under_way(short_ways: list[bool]) -> None:
    async with a_server() as server:
        first, second = (RawPeer(server.server.connect()) for _ in range(2))
        for rev in range(1, 3):
            await first.result("commitChanges", *commit("d", rev, one_op(rev)))
        short_ways.clear()
        documents: Any = server.services["ot"].documents
        async with documents._locks("d"):
            call = await second.start("commitChanges", *commit("d", 3, one_op(3)))
            await asyncio.sleep(0)
            assert second.unread("changesCommitted") == []
        assert (await second.answer(call))["result"]["changes"][0]["rev"] == 3
        assert short_ways == [False]


async def test_a_key_is_free_unless_it_is_held_or_waited_for() -> None:
    locks = KeyedLocks()
    async with locks("d"):
        assert not locks.is_free("d")
        assert locks.is_free("e")
    assert locks.is_free("d")


def test_a_signal_knows_whether_all_its_subscribers_are_plain() -> None:
    async def slowly() -> None:
        pass

    signal = Signal[[]]("on_something")
    signal(lambda: None)
    before = signal.is_plain
    unsubscribe = signal(slowly)
    during = signal.is_plain
    unsubscribe()
    assert (before, during, signal.is_plain) == (True, False, True)

"""Nobody waits long for the event loop (`docs/internals/reliability.md` T36, `yield_every_ms`).

What is counted are lines of Python between two turns of the loop: some 20,000 take a millisecond.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from patches.limits import Limits
from patches.model import codec
from patches.runtime import Runtime
from patches_server.algorithms import services_on
from patches_server.auth.access import allow_all
from patches_server.service.server import PatchesServer
from patches_server.stores.sqlite.backend import SqliteBackend
from tests.support.raw_peer import Peers
from tests.support.turns import TurnMeter

T = TypeVar("T")

MOST_LINES: Final = 60_000  # some 3 ms
MOST_FOR_ANSWER: Final = 10_000
MANY: Final = 5_000
KINDS: Final = pytest.mark.parametrize("prefix", ["", "lww/"], ids=["ot", "lww"])


def writes(change_id: str, count: int, **fields: Any) -> dict[str, Any]:
    ops = [{"op": "replace", "path": f"/a{place}", "value": place} for place in range(count)]
    return {"id": change_id, "ops": ops, **fields}


def one(change_id: str, value: Any, **fields: Any) -> dict[str, Any]:
    ops = [{"op": "replace", "path": "/a", "value": value}]
    return {"id": change_id, "ops": ops, **fields}


async def longest_turn(peer: Any, method: str, *params: Any) -> int:
    request = codec.encode({"id": "measured", "method": method, "params": list(params)})
    with TurnMeter() as meter:
        await peer.session.receive(request)
        while (answer := await peer.session.outbox.get()).find(b'"id":"measured"', 0, 60) < 0:
            pass
    assert b'"error":' not in answer[:60], answer[:300]
    return meter.longest


@pytest.fixture
def backend(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path / "s.db", durability="relaxed")


COMMITS: Final[dict[str, Callable[[], list[Any]]]] = {
    "many changes": lambda: [one(f"c{number}", number, baseRev=1) for number in range(MANY)],
    "many operations": lambda: [writes("c", MANY, baseRev=1)],
    "a large value": lambda: [one("c", [{"x": 1}] * 30_000, baseRev=1)],
    "deep inside": lambda: [one("c", {"a": {"b": [[1, 2]] * 30_000}}, baseRev=1)],
}


@KINDS
@pytest.mark.parametrize("kind", COMMITS)
async def test_t36_a_large_commit_does_not_hold_the_loop(
    serve: Any, backend: SqliteBackend, prefix: str, kind: str
) -> None:
    connect = await serve(backend=backend, validate=lambda *_: None)
    author, reader = connect(), connect()
    await author.result("commitChanges", f"{prefix}d", [one("first", 0, baseRev=0)])
    await reader.result("subscribe", f"{prefix}d")
    commit = COMMITS[kind]()
    assert await longest_turn(author, "commitChanges", f"{prefix}d", commit) < MOST_LINES
    assert (await reader.notification("changesCommitted"))["docId"] == f"{prefix}d"


@KINDS
async def test_t36_long_answers_do_not_hold_the_loop(
    serve: Any, backend: SqliteBackend, prefix: str
) -> None:
    peer = (await serve(backend=backend))()
    doc_id = f"{prefix}d"
    await peer.result("commitChanges", doc_id, [one("first", 0, baseRev=0)])
    many: list[dict[str, Any]] = [
        {"id": f"c{n}", "ops": [{"op": "add", "path": f"/b{n}", "value": 1}]} for n in range(MANY)
    ]
    await peer.result("commitChanges", doc_id, many)
    calls: list[tuple[str, list[Any]]] = [
        ("getChangesSince", [0]),
        ("getDoc", []),
        ("createVersion", [{}]),
        ("createBranch", [1, {"id": f"{prefix}branch"}]),
    ]
    for method, params in calls:
        assert await longest_turn(peer, method, doc_id, *params) < MOST_FOR_ANSWER, method
    more = [one("on the branch", 2), *({**each, "id": each["id"] + "b"} for each in many)]
    await peer.result("commitChanges", f"{prefix}branch", more)
    assert await longest_turn(peer, "mergeBranch", f"{prefix}branch") < MOST_LINES


async def test_t36_a_long_transform_does_not_hold_the_loop(
    serve: Any, backend: SqliteBackend
) -> None:
    peer = (await serve(backend=backend))()
    await peer.result("commitChanges", "d", [one("first", [], baseRev=0)])

    def inserts(name: str, count: int) -> list[Any]:
        op = {"op": "add", "path": "/a/0", "value": 1}
        return [{"id": f"{name}{n}", "ops": [op], "baseRev": 1} for n in range(count)]

    await peer.result("commitChanges", "d", inserts("c", 1_000))
    assert await longest_turn(peer, "commitChanges", "d", inserts("late", 200)) < MOST_LINES
    texts = [{"insert": "a", "attributes": {"n": n}} for n in range(3_000)]
    for name, base_rev in (("t", 1_201), ("late t", 1_201)):
        ops = [{"op": "@txt", "path": "/t", "value": [{"retain": 1}, *texts]}]
        commit = [{"id": name, "ops": ops, "baseRev": base_rev}]
        assert await longest_turn(peer, "commitChanges", "d", commit) < MOST_LINES


@pytest.mark.parametrize(
    "frame",
    [
        b'{"id":"measured","method":"getDoc","params":["d",%s]}' % (b"[" + b"[]," * 60_000 + b"0]"),
        b'{"method":"peer-signal","params":["x",%s]}' % (b"[" + b"{}," * 60_000 + b"0]"),
    ],
    ids=["a call", "a notification"],
)
async def test_t36_a_frame_of_many_small_parts_does_not_hold_the_loop(
    serve: Any, frame: bytes
) -> None:
    peer = (await serve(relay=True))()
    with TurnMeter() as meter:
        await peer.session.receive(frame)
    assert meter.longest < MOST_LINES
    assert "result" in await peer.call("getChangesSince", "d", 0)


async def test_yield_every_ms_none_lets_everything_run_at_once(
    serve: Any, backend: SqliteBackend
) -> None:
    peer = (await serve(backend=backend, limits=Limits(yield_every_ms=None)))()
    commit = COMMITS["many operations"]()
    await peer.result("commitChanges", "d", [one("first", 0, baseRev=0)])
    assert await longest_turn(peer, "commitChanges", "d", commit) > MOST_LINES


class FewThreads:
    """A `run_blocking` of as many threads as the smallest machine has, and some work that lasts."""

    def __init__(self) -> None:
        self.threads = asyncio.Semaphore(5)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.lasting = 0

    async def __call__(self, fn: Callable[[], T], /) -> T:
        async with self.threads:
            if "_in_thread" in getattr(fn, "__qualname__", ""):
                self.lasting += not self.go_on.is_set()
                await self.go_on.wait()
            return await asyncio.to_thread(fn)


async def test_t36_expensive_commits_leave_threads_to_the_stores_of_others(tmp_path: Path) -> None:

    threads = FewThreads()
    runtime = Runtime(run_blocking=threads)
    backend = SqliteBackend(tmp_path / "s.db", durability="relaxed", runtime=runtime)
    server = PatchesServer(
        services_on(backend, runtime=runtime), auth=allow_all, runtime=runtime, relay=False
    )
    op = {"op": "add", "path": "/a/0", "value": 1}
    async with server:
        connect = Peers(server)
        other, hostile = connect(), connect()
        doc_ids = [f"dear{number}" for number in range(8)]
        for doc_id in doc_ids:
            await hostile.result("commitChanges", doc_id, [one("first", [], baseRev=0)])
            committed = [{"id": f"c{n}", "ops": [op], "baseRev": 1} for n in range(450)]
            await hostile.result("commitChanges", doc_id, committed)
        threads.go_on.clear()
        late = [{"id": f"late{n}", "ops": [op], "baseRev": 1} for n in range(300)]
        dear = [await hostile.start("commitChanges", doc_id, late) for doc_id in doc_ids]
        for number in range(5):
            await other.result("commitChanges", "e", [one(f"e{number}", number)])
            assert len(await other.result("getChangesSince", "e", 0)) == number + 1
        async with asyncio.timeout(10):
            while threads.lasting < 2:  # noqa: ASYNC110  # their turn comes
                await asyncio.sleep(0)
        assert threads.lasting == 2
        assert hostile.unread() == []
        threads.go_on.set()
        for request_id in dear:
            assert "result" in await hostile.answer(request_id)
    await backend.close()

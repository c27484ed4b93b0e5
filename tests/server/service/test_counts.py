"""What the server does for a commit and for opening a document, and what it keeps: by counting.

Times differ from machine to machine; calls of Python and allocated bytes hardly do. Each limit is a
tenth above what was measured, as the line says. Calls into the standard library are not counted.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import patches
from patches.model import codec
from patches.testing.local_server import LocalServer
from patches_server.stores.url import open_backend

OURS = (str(Path(patches.__file__).parent), str(Path(patches.__file__).parent) + "_server")
DOCS = 40
ROUNDS = 5
PLACES = ["memory", "sqlite"]


def server_on(place: str, folder: Path) -> LocalServer:
    url = "memory:" if place == "memory" else f"sqlite:///{folder}/server.db"
    server = LocalServer()  # its runtime has no threads: all calls are made here
    return LocalServer(open_backend(url, runtime=server.runtime), runtime=server.runtime)


async def rest(server: LocalServer) -> None:
    while server.server._under_way:  # noqa: ASYNC110  # nothing else runs
        await asyncio.sleep(0)


async def calls_of(work: Callable[[], Awaitable[object]]) -> int:
    """The calls of our own functions that some work makes."""
    calls = 0

    def called(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        if event == "call":
            name = frame.f_code.co_filename
            calls += name == "<string>" or name.startswith(OURS)  # `<string>`: of dataclasses

    sys.setprofile(called)
    try:
        await work()
    finally:
        sys.setprofile(None)
    return calls


def request(number: int, method: str, *params: Any) -> bytes:
    return codec.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def commit(server: LocalServer, algorithm: str, doc: int, rev: int) -> bytes:
    now = server.runtime.wall_ms()
    op = {"op": "replace", "path": f"/k{rev % 5}", "value": rev}
    if algorithm == "lww":
        op["ts"] = now
    change = {"id": f"c{doc}-{rev}", "ops": [op], "baseRev": rev - 1, "rev": rev, "createdAt": now}
    options = {"algorithm": algorithm}
    return request(rev, "commitChanges", f"{algorithm}/{doc}", [change], options)


async def started(server: LocalServer, algorithm: str, rounds: int) -> Any:
    """A connection that has made some commits to each document; another is subscribed to all."""
    author, reader = server.server.connect(), server.server.connect()
    for session in (author, reader):
        ids = [f"{algorithm}/{doc}" for doc in range(DOCS)]
        await session.receive(request(0, "subscribe", ids))
    for rev in range(1, rounds + 1):
        for doc in range(DOCS):
            await author.receive(commit(server, algorithm, doc, rev))
        await rest(server)
    for session in (author, reader):
        while session.outbox.get_nowait() is not None:
            pass
    return author


@pytest.mark.parametrize(
    ("algorithm", "place", "most"),
    [
        ("ot", "memory", 146),  # 133
        ("ot", "sqlite", 176),  # 160
        ("lww", "memory", 236),  # 215
        ("lww", "sqlite", 329),  # 299
    ],
)
async def test_a_commit_of_one_operation_makes_few_calls(
    algorithm: str, place: str, most: int, tmp_path: Path
) -> None:
    async with server_on(place, tmp_path) as server:
        author = await started(server, algorithm, 3)
        frames = [
            [commit(server, algorithm, doc, 4 + number) for doc in range(DOCS)]
            for number in range(ROUNDS)
        ]

        async def work() -> None:
            for each in frames:
                for frame in each:
                    await author.receive(frame)
                await rest(server)

        calls = await calls_of(work) / (ROUNDS * DOCS)
    assert calls <= most


@pytest.mark.parametrize(("algorithm", "most"), [("ot", 3.4), ("lww", 3.4)])  # 3.05
async def test_a_delivery_makes_few_calls(algorithm: str, most: float) -> None:
    """What each further subscriber adds to a commit."""
    async with LocalServer() as server:
        author = await started(server, algorithm, 3)
        counts: list[float] = []
        rev = 4
        for more in (0, 20):
            readers = [server.server.connect() for _ in range(more)]
            for reader in readers:
                await reader.receive(request(0, "subscribe", f"{algorithm}/1"))
            await rest(server)
            frames = [commit(server, algorithm, 1, rev + number) for number in range(10)]
            rev += len(frames)

            async def work(frames: list[bytes] = frames) -> None:
                for frame in frames:
                    await author.receive(frame)
                    await rest(server)

            counts.append(await calls_of(work) / len(frames))
    assert (counts[1] - counts[0]) / 20 <= most


@pytest.mark.parametrize(
    ("algorithm", "place", "most"),
    [
        ("ot", "memory", 125),  # 114
        ("ot", "sqlite", 210),  # 191
        ("lww", "memory", 156),  # 142
        ("lww", "sqlite", 250),  # 228
    ],
)
async def test_opening_a_document_makes_few_calls(
    algorithm: str, place: str, most: int, tmp_path: Path
) -> None:
    """A document of 150 commits that somebody has opened before."""
    async with server_on(place, tmp_path) as server:
        author = server.server.connect()
        for rev in range(1, 151):
            await author.receive(commit(server, algorithm, 1, rev))
            await rest(server)
        options = {"token": None, "algorithm": algorithm}
        frames = [request(number, "getDoc", f"{algorithm}/1", options) for number in range(20)]

        async def work() -> None:
            for frame in frames:
                await author.receive(frame)
                await rest(server)

        await work()
        calls = await calls_of(work) / len(frames)
    assert calls <= most


async def allocated(work: Callable[[], Awaitable[object]]) -> int:
    """The bytes that some work leaves behind."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = await work()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        del kept
    finally:
        tracemalloc.stop()
    return after - before


async def test_an_idle_connection_keeps_little() -> None:
    """Without its socket: session, outbox, one subscription."""
    async with LocalServer() as server:

        async def connect(number: int) -> list[Any]:
            sessions = [server.server.connect() for _ in range(number)]
            for session in sessions:
                await session.receive(request(0, "subscribe", "d"))
            await rest(server)
            for session in sessions:
                while session.outbox.get_nowait() is not None:
                    pass
            return sessions

        warm = await connect(10)
        bytes_each = await allocated(lambda: connect(200)) / 200
        del warm
    assert bytes_each <= 7_300  # 6,640


@pytest.mark.parametrize(("algorithm", "most"), [("ot", 2_070), ("lww", 3_330)])
async def test_an_idle_document_keeps_little(algorithm: str, most: int) -> None:
    """In memory, with one change of some 150 bytes and one subscriber: 1,880 and 3,030."""
    async with LocalServer() as server:
        author = server.server.connect()

        async def make(first: int, number: int) -> None:
            for doc in range(first, first + number):
                await author.receive(request(0, "subscribe", f"{algorithm}/{doc}"))
                await author.receive(commit(server, algorithm, doc, 1))
                await rest(server)
                while author.outbox.get_nowait() is not None:
                    pass

        await make(0, 20)
        bytes_each = await allocated(lambda: make(20, 300)) / 300
    assert bytes_each <= most

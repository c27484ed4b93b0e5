"""Several real server processes on one real PostgreSQL, killed under load."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from patches import Patches, PatchesSync
from patches.testing.contracts.bus import until
from patches.testing.server_process import ServerProcess
from tests.support.postgres import MISSING, PostgresServer, binaries, running_postgres
from tests.support.redis import RedisServer

pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)
from patches.testing.postgres_rounds import PostgresKillRounds

ROUNDS = 10


@pytest.fixture
def _quiet() -> Iterator[None]:
    """Clients log that the server is gone, over and over."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def durable() -> Iterator[PostgresServer]:
    """A PostgreSQL that waits for the disk."""
    if binaries() is None:
        pytest.skip(MISSING)
    with running_postgres() as server:
        yield server


@pytest.fixture
async def durable_url(durable: PostgresServer) -> AsyncIterator[str]:
    url = await durable.create_database()
    yield url
    await durable.drop_database(url)


@pytest.mark.usefixtures("_quiet")
async def test_nothing_acknowledged_is_lost_or_doubled_by_kills_of_one_of_two(
    tmp_path: Path, durable_url: str
) -> None:
    """Scenarios 7, 8 and 12."""
    rounds = PostgresKillRounds(tmp_path, durable_url, clients=8, seed=4, load_s=0.3)
    async with rounds as play:
        for _ in range(ROUNDS):
            await play.round()
    assert play.figures.kills >= ROUNDS
    assert play.figures.acked > 10 * ROUNDS, "there was load"
    assert rounds.cuts > 0


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("bus", ["postgres", "redis"])
async def test_two_processes_serve_one_document_and_one_is_stopped(
    tmp_path: Path, durable_url: str, bus: str, redis: RedisServer
) -> None:
    """Scenarios 1, 3 and 29, over each bus."""
    choice = redis.url if bus == "redis" else bus
    options = ("--bus", choice)
    async with (
        ServerProcess(durable_url, options=options, log=tmp_path / "a.log") as first,
        ServerProcess(durable_url, options=options, log=tmp_path / "b.log") as second,
        Patches() as anns,
        Patches() as bobs,
        PatchesSync(anns, first.url) as ann_sync,
        PatchesSync(bobs, second.url) as bob_sync,
    ):
        await until(lambda: _health(first)["bus"] == _health(second)["bus"] == "ok")
        ann, bob = await anns.open_doc("d"), await bobs.open_doc("d")
        await bob_sync.settled(10)
        loop = asyncio.get_running_loop()
        waits = []
        for number in range(20):
            ann.change(lambda draft, number=number: draft.update({f"a{number}": number}))  # type: ignore[misc]
            began = loop.time()
            await until(lambda number=number: f"a{number}" in (bob.raw or {}))  # type: ignore[misc]
            waits.append(loop.time() - began)
        assert sorted(waits)[len(waits) // 2] < 0.5
        bob.change(lambda draft: draft.update(last=True))
        await until(lambda: "last" in ann.raw)
        assert ann.raw == bob.raw
        assert _health(first)["process"] != _health(second)["process"]
        await ann_sync.settled(10)


def _health(server: ServerProcess) -> dict[str, str]:
    address = server.url.replace("ws://", "http://").removesuffix("/ws") + "/healthz"
    with urllib.request.urlopen(address, timeout=5) as answer:
        found: dict[str, str] = json.load(answer)
    return found

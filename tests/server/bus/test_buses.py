"""Every bus passes the contract, and notices that it is dead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest

from patches.errors import InvalidRequestError
from patches.testing.contracts.bus import HintBusContract, listening, until
from patches_server.bus.bus import HintBus
from patches_server.bus.hints import Hint, decode_hints
from patches_server.bus.memory import MemoryBus, MemoryChannel
from patches_server.bus.none import NoBus
from patches_server.bus.url import open_bus
from tests.support.postgres import terminate_connections
from tests.support.redis import RedisServer

pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)
pytest.importorskip("redis", reason="redis is not installed: pip install patches-sync[redis]")
from patches_server.bus.postgres import PostgresBus
from patches_server.bus.redis import RedisBus
from patches_server.stores.postgres.database import PostgresDatabase

_prefixes = count()


class TestMemory(HintBusContract):
    @pytest.fixture
    def buses(self) -> Sequence[HintBus]:
        channel = MemoryChannel()
        return MemoryBus(channel), MemoryBus(channel)


class TestPostgres(HintBusContract):
    @pytest.fixture
    async def buses(self, postgres_url: str) -> Sequence[HintBus]:
        database = PostgresDatabase(postgres_url)
        return PostgresBus(database.connect), PostgresBus(database.connect)


class TestRedis(HintBusContract):
    @pytest.fixture
    def buses(self, redis: RedisServer) -> Sequence[HintBus]:
        prefix = f"test{next(_prefixes)}:"
        return RedisBus(redis.url, prefix=prefix), RedisBus(redis.url, prefix=prefix)


async def test_a_cut_listener_connects_again_and_says_that_there_was_a_gap(
    postgres_url: str,
) -> None:
    database = PostgresDatabase(postgres_url)
    async with listening([PostgresBus(database.connect), PostgresBus(database.connect)]) as both:
        first, second = both
        gaps = second.gaps
        await terminate_connections(postgres_url)
        await until(lambda: second.gaps > gaps and second.bus.healthy and first.bus.healthy)
        first.bus.publish(Hint(kind="d", process="p0", doc_id="after"))
        await until(lambda: any(hint.doc_id == "after" for hint in second.hints))


async def test_a_listener_that_hears_nothing_is_dead(postgres_url: str) -> None:
    """As through a pooler that shares connections between transactions."""
    database = PostgresDatabase(postgres_url)
    bus = PostgresBus(database.connect, beat_s=0.1, silent_s=0.3)
    async with listening([bus]) as (one,):
        gaps = one.gaps
        await bus._conn.execute("UNLISTEN *")
        await until(lambda: not bus.healthy)
        await until(lambda: bus.healthy and one.gaps > gaps)


async def test_a_redis_that_was_killed_is_back_by_itself(redis: RedisServer) -> None:
    buses = [RedisBus(redis.url, beat_s=0.2, silent_s=1.0, prefix="kill:") for _ in range(2)]
    async with listening(buses) as (first, second):
        await second.bus.follow("d")
        redis.kill()
        await until(lambda: not first.bus.healthy and not second.bus.healthy)
        first.bus.publish(Hint(kind="d", process="p0", doc_id="lost"))
        redis.start()
        await until(lambda: first.bus.healthy and second.bus.healthy)
        first.bus.publish(Hint(kind="d", process="p0", doc_id="d"))
        await until(lambda: any(hint.doc_id == "d" for hint in second.hints))


def test_what_is_no_hint_is_passed_over() -> None:
    lines = b'x\n[1]\n{"v":1}\n{"v":9,"k":"z","p":"p","d":"d"}\n{"v":1,"k":"d","p":"p","d":"e"}'
    found = list(decode_hints(lines))
    assert [(hint.kind, hint.doc_id, hint.token) for hint in found] == [
        ("c", "d", None),
        ("d", "e", None),
    ]


def test_a_hint_whose_changes_are_cut_off_has_none() -> None:
    whole = Hint(kind="c", process="p", doc_id="d", base=1, rev=2, changes=(b"{}", b"{}")).encode()
    (found,) = decode_hints(whole.rpartition(b"\n")[0])
    assert (found.rev, found.changes) == (2, ())


def test_a_bus_is_named_by_an_option() -> None:
    assert isinstance(open_bus(None, None), NoBus)
    assert isinstance(open_bus("none", None), NoBus)
    assert isinstance(open_bus("redis://localhost", None), RedisBus)
    for choice in ("postgres", "kafka://x"):
        with pytest.raises(InvalidRequestError):
            open_bus(choice, None)

"""Two servers on one PostgreSQL database, in one process: all of the real code but the sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from patches import Patches, PatchesSync
from patches.documents.document import Document
from patches.model import codec
from patches.model.change import ChangeInput
from patches.runtime import Runtime
from patches.testing.contracts.bus import until
from patches.testing.local_server import LocalServer
from patches_server.algorithms import services_on
from patches_server.auth.access import allow_all
from patches_server.bus.bus import HintBus
from patches_server.bus.hints import Hint
from patches_server.bus.memory import MemoryBus, MemoryChannel
from tests.support.raw_peer import RawPeer

pytest.importorskip(
    "asyncpg", reason="asyncpg is not installed: pip install patches-sync[postgres]"
)
from patches_server.bus.none import NoBus
from patches_server.stores.postgres.backend import PostgresBackend
from patches_server.stores.postgres.identity import new_epoch
from patches_server.stores.postgres.migrations import on_one_connection


@dataclass
class Person:
    """A client and the document that it has open."""

    patches: Patches
    sync: PatchesSync
    doc: Document[Any]


@dataclass
class Stage:
    """Two processes, and what carries hints between them."""

    url: str
    channel: MemoryChannel
    first: LocalServer
    second: LocalServer
    stack: AsyncExitStack

    async def person(self, server: LocalServer, doc_id: str, algorithm: str = "ot") -> Person:
        patches = await self.stack.enter_async_context(Patches())
        sync = await self.stack.enter_async_context(PatchesSync(patches, server.connection()))
        doc = await patches.open_doc(doc_id, algorithm=algorithm)
        await sync.settled(10)
        return Person(patches, sync, doc)


@asynccontextmanager
async def staged(
    url: str,
    *,
    bus: Callable[[MemoryChannel], HintBus] = MemoryBus,
    auth: Any = allow_all,
    poll_s: float = 10.0,
) -> AsyncIterator[Stage]:
    channel = MemoryChannel()
    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(2):
            backend = PostgresBackend(url, durability="relaxed")
            stack.push_async_callback(backend.close)
            server = LocalServer(
                backend,
                runtime=Runtime(),
                auth=auth,
                shared=backend,
                bus=bus(channel),
                poll_s=poll_s,
            )
            servers.append(await stack.enter_async_context(server))
        first, second = servers
        yield Stage(url, channel, first, second, stack)


@pytest.fixture
async def stage(postgres_url: str) -> AsyncIterator[Stage]:
    async with staged(postgres_url) as stage:
        yield stage


def setting(key: str, value: Any = 1) -> Callable[[Any], object]:
    return lambda draft: draft.update({key: value})


def catch_ups(server: LocalServer) -> int:
    return sum(server.server.stats.catch_ups.values())


@pytest.mark.parametrize(("algorithm", "doc_id"), [("ot", "d"), ("lww", "lww/d")])
async def test_clients_of_two_processes_edit_one_document(
    stage: Stage, algorithm: str, doc_id: str
) -> None:
    """Scenario 1."""
    ann = await stage.person(stage.first, doc_id, algorithm)
    bob = await stage.person(stage.second, doc_id, algorithm)
    for number in range(30):
        ann.doc.change(setting(f"a{number}"))
        bob.doc.change(setting(f"b{number}"))
        await asyncio.sleep(0.005)
    for person in (ann, bob, ann):
        await person.sync.settled(10)
    await until(lambda: ann.doc.state == bob.doc.state)
    assert len(ann.doc.state) == 60
    stored = await stage.first.services[algorithm].documents.get_doc(doc_id)
    if algorithm == "ot":
        changes = await stage.first.services["ot"].documents.get_changes_since("d", 0)
        assert [change.rev for change in changes] == list(range(1, len(changes) + 1))
        assert len({change.id for change in changes}) == len(changes)
    assert stored.head == ann.doc.committed_rev == bob.doc.committed_rev


@pytest.mark.parametrize(("algorithm", "doc_id"), [("ot", "d"), ("lww", "lww/d")])
async def test_increments_over_two_processes_count_once(
    stage: Stage, algorithm: str, doc_id: str
) -> None:
    """Scenario 2, with 300."""
    people = [
        await stage.person(server, doc_id, algorithm) for server in (stage.first, stage.second) * 2
    ]
    people[0].doc.change(setting("n", 0))
    await people[0].sync.settled(10)
    await until(lambda: all(person.doc.state == {"n": 0} for person in people))
    for number in range(300):
        people[number % 4].doc.change(lambda draft: draft.increment("n"))
        if number % 20 == 0:
            await asyncio.sleep(0.01)
    for person in people:
        await person.sync.settled(20)
    await until(lambda: all(person.doc.state == {"n": 300} for person in people))


async def test_a_hint_brings_an_edit_without_a_read(stage: Stage) -> None:
    """Scenarios 3 and 4."""
    ann = await stage.person(stage.first, "d")
    bob = await stage.person(stage.second, "d")
    ann.doc.change(setting("start"))
    await until(lambda: "start" in (bob.doc.state or {}))
    await asyncio.sleep(0.2)
    before = catch_ups(stage.second)
    for number in range(100):
        loop = asyncio.get_running_loop()
        began = loop.time()
        ann.doc.change(setting(f"a{number}"))
        await until(lambda number=number: f"a{number}" in bob.doc.state)  # type: ignore[misc]
        assert loop.time() - began < 1.0
    assert catch_ups(stage.second) - before <= 2


async def test_without_a_bus_the_store_is_polled(postgres_url: str) -> None:
    """Scenario 3, the last part."""
    async with staged(postgres_url, bus=lambda _channel: NoBus()) as stage:
        ann = await stage.person(stage.first, "d")
        bob = await stage.person(stage.second, "d")
        ann.doc.change(setting("a"))
        await until(lambda: bob.doc.state == {"a": 1}, 2.5)


async def test_doubled_and_shuffled_hints_go_out_once_and_in_order(stage: Stage) -> None:
    """Scenario 5, with 200 broadcasts."""
    draw = random.Random(5)

    def shuffle(hint: Hint) -> int:
        return draw.choice((1, 2, 3)) if hint.kind == "c" else 1

    stage.channel.times = shuffle
    for bus in (stage.first.server.cluster.bus, stage.second.server.cluster.bus):  # type: ignore[union-attr]
        assert isinstance(bus, MemoryBus)
        deliver = bus._deliver

        def later(encoded: bytes, deliver: Any = deliver) -> None:
            asyncio.get_running_loop().call_later(draw.uniform(0, 0.02), deliver, encoded)

        bus._deliver = later  # type: ignore[method-assign]
    seen: list[int] = []
    hub = stage.second.server.hub
    deliver_event = hub._deliver

    def watched(doc_id: str, event: Any, origin: str | None) -> None:
        seen.extend(change["rev"] for change in codec.decode(event.params)["changes"])
        deliver_event(doc_id, event, origin)

    bob = await stage.person(stage.second, "d")
    hub._deliver = watched  # type: ignore[method-assign]
    documents = stage.first.services["ot"].documents
    for rev in range(200):
        change = ChangeInput(
            id=f"c{rev}", ops=[{"op": "replace", "path": f"/k{rev}", "value": rev}], base_rev=rev
        )
        await documents.commit_changes("d", [change])
    await until(lambda: len(bob.doc.state or {}) == 200)
    assert seen == list(range(1, 201))


async def test_a_lost_hint_is_made_good_by_the_next_with_one_read(postgres_url: str) -> None:
    """Scenario 6."""
    async with staged(postgres_url, poll_s=1.0) as stage:
        ann = await stage.person(stage.first, "d")
        bob = await stage.person(stage.second, "d")
        ann.doc.change(setting("start"))
        await until(lambda: bob.doc.state == {"start": 1})
        await asyncio.sleep(0.1)
        before = catch_ups(stage.second)
        stage.channel.times = lambda hint: 0 if hint.kind == "c" else 1
        ann.doc.change(setting("a"))
        await ann.sync.settled(5)
        stage.channel.times = lambda _hint: 1
        ann.doc.change(setting("b"))
        await until(lambda: bob.doc.state == {"start": 1, "a": 1, "b": 1}, 0.8)
        assert catch_ups(stage.second) - before <= 2
        stage.channel.times = lambda _hint: 0
        ann.doc.change(setting("c"))
        await until(lambda: "c" in bob.doc.state, 2.5)


@pytest.mark.parametrize("bus_is_up", [True, False])
async def test_a_deletion_reaches_the_other_process(postgres_url: str, bus_is_up: bool) -> None:
    """Scenario 15."""
    async with staged(postgres_url, poll_s=0.5) as stage:
        ann = await stage.person(stage.first, "d")
        ann.doc.change(setting("a"))
        await ann.sync.settled(5)
        peer = RawPeer(stage.second.server.connect())
        assert await peer.result("subscribe", "d") == ["d"]
        stage.channel.times = lambda _hint: int(bus_is_up)
        await ann.patches.delete_doc("d")
        await ann.sync.settled(5)
        assert (await peer.error("getDoc", "d"))["code"] == 410
        async with asyncio.timeout(3):
            assert await peer.notification("docDeleted") == {"docId": "d"}
        peer.session.end()


async def test_a_document_made_again_with_another_algorithm_is_served_as_that(
    stage: Stage,
) -> None:
    """Scenario 16."""
    ann = await stage.person(stage.first, "d")
    ann.doc.change(setting("a"))
    await ann.sync.settled(5)
    assert (await stage.second.server.router.find("d")).documents.name == "ot"
    first = stage.first.services
    stage.channel.times = lambda _hint: 0  # the second process remembers
    await first["ot"].documents.delete_doc("d", skip_tombstone=True)
    ops = [{"op": "replace", "path": "/b", "value": 2}]
    await first["lww"].documents.commit_changes("d", [ChangeInput(id="c", ops=ops)])
    peer = RawPeer(stage.second.server.connect())
    found = await peer.result("getDoc", "d")
    assert found["changes"][0]["ops"][0]["path"] == "/b"
    peer.session.end()


async def test_rights_are_revoked_in_every_process(postgres_url: str) -> None:
    """Scenario 24."""
    may_read = True
    async with staged(postgres_url, auth=_Rights(lambda: may_read), poll_s=0.5) as stage:
        for arrives in (1, 0):
            may_read = True
            peer = RawPeer(stage.second.server.connect("bob"))
            assert await peer.result("subscribe", "r") == ["r"]
            stage.channel.times = partial(_times, arrives)
            may_read = False
            await stage.first.server.revoke_everywhere(doc_id="r")
            async with asyncio.timeout(1.5):
                assert (await peer.notification("subscriptionEnded"))["docId"] == "r"
            peer.session.end()


def _times(count: int, _hint: Hint) -> int:
    return count


async def test_an_edit_of_the_server_is_seen_everywhere(stage: Stage) -> None:
    """Scenario 36."""
    ann = await stage.person(stage.first, "d")
    bob = await stage.person(stage.second, "d")
    await stage.first.services["ot"].documents.change("d", lambda patch: patch.replace("/job", 1))
    await until(lambda: ann.doc.state == bob.doc.state == {"job": 1})


async def test_another_epoch_closes_connections_and_clients_load_anew(
    postgres_url: str,
) -> None:
    """Scenario 21 and section E of the history: unsent work arrives once."""
    async with staged(postgres_url, poll_s=0.3) as stage:
        ann = await stage.person(stage.first, "d")
        bob = await stage.person(stage.second, "lww/l", "lww")
        for number in range(5):
            ann.doc.change(setting(f"a{number}"))
            bob.doc.change(setting(f"b{number}"))
        await ann.sync.settled(5)
        await bob.sync.settled(5)
        database = stage.first.backend.database  # type: ignore[attr-defined]
        await database.write(
            lambda conn: conn.execute(
                "WITH gone AS (DELETE FROM ot_changes WHERE rev > 3), "
                "ids AS (DELETE FROM ot_change_ids WHERE change_id IN "
                "(SELECT change_id FROM ot_changes WHERE rev > 3)) "
                "UPDATE docs SET rev = 3, head_id = (SELECT change_id FROM ot_changes c "
                "WHERE c.life = docs.life AND c.rev = 3) WHERE doc_id = 'd' AND rev > 3"
            )
        )
        await on_one_connection(postgres_url, new_epoch)
        ann.doc.change(setting("late"))
        bob.doc.change(setting("late"))
        await until(lambda: stage.first.server.stats.epoch_changes > 0, 5)
        await ann.sync.settled(15)
        await bob.sync.settled(15)
        stored = await stage.second.services["ot"].documents.get_doc("d")
        assert ann.doc.committed_rev == stored.head
        assert "late" in ann.doc.state
        other = await stage.person(stage.second, "d")
        assert other.doc.state == ann.doc.state
        third = await stage.person(stage.first, "lww/l", "lww")
        assert third.doc.state == bob.doc.state
        assert len(bob.doc.state) == 6


class _Rights:
    """A provider that says yes or no to everything."""

    def __init__(self, may: Callable[[], bool]) -> None:
        self._may = may

    async def authenticate(self, _request: Any) -> str:
        return "bob"

    async def can_access(self, *_call: Any) -> bool:
        return self._may()


@pytest.mark.parametrize("algorithm", ["ot", "lww"])
async def test_writers_of_several_processes_on_one_document_are_never_refused(
    postgres_url: str, algorithm: str
) -> None:
    """Scenario 13, with four processes for a second: whoever lost a race waits for its turn."""
    backends = [PostgresBackend(postgres_url, durability="relaxed") for _ in range(4)]
    servers = [services_on(backend)[algorithm].documents for backend in backends]
    longest = 0.0

    async def write(place: int, count: int) -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        for number in range(count):
            began = loop.time()
            ops = [{"op": "replace", "path": f"/k{place}", "value": number}]
            await servers[place % 4].commit_changes(
                "d", [ChangeInput(id=f"c{place}-{number}", ops=ops)]
            )
            longest = max(longest, loop.time() - began)

    await asyncio.gather(*(write(place, 12) for place in range(16)))
    assert longest < 5
    if algorithm == "ot":
        changes = await servers[0].get_changes_since("d", 0)
        assert [change.rev for change in changes] == list(range(1, 16 * 12 + 1))
        assert len({change.id for change in changes}) == 16 * 12
    else:
        assert (await servers[0].get_doc("d")).head == 16 * 12
    for backend in backends:
        await backend.close()

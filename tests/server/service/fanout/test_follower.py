"""The follower with a bus and a store that a test controls.

Whatever hints are lost, doubled or reordered: a subscriber gets each change once, in order.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from patches.aio.tasks import TaskScope
from patches.errors import DocDeletedError, StorageError
from patches.model.change import Change
from patches.runtime import Runtime
from patches.testing.virtual_time import VirtualTimeLoop
from patches_server.bus.hints import Hint, decode_hints
from patches_server.documents.backend import DocAt
from patches_server.documents.records import CommitOptions
from patches_server.service.fanout import follower as module
from patches_server.service.fanout.follower import Follower
from patches_server.service.stats import ServerStats


def a_change(rev: int) -> Change:
    ops = [{"op": "replace", "path": "/a", "value": rev}]
    return Change(id=f"c{rev}", ops=ops, base_rev=rev - 1, rev=rev, created_at=rev)


class Store:
    """A shared store of logs, and the document server over it."""

    def __init__(self) -> None:
        self.logs: dict[str, list[Change]] = {}
        self.lives: dict[str, int] = {}
        self.deleted: set[str] = set()
        self.epoch = "e"
        self.reads = 0
        self.is_away = False
        self.slow: Callable[[], float] = lambda: 0.0

    def at(self, doc_id: str) -> DocAt:
        if doc_id not in self.logs:
            return DocAt(is_deleted=doc_id in self.deleted)
        return DocAt(f"{self.epoch}.{self.lives[doc_id]}", len(self.logs[doc_id]))

    def commit(self, doc_id: str) -> Change:
        if doc_id not in self.logs:
            self.logs[doc_id] = []
            self.lives[doc_id] = self.lives.get(doc_id, 0) + 1
            self.deleted.discard(doc_id)
        change = a_change(len(self.logs[doc_id]) + 1)
        self.logs[doc_id].append(change)
        return change

    def delete(self, doc_id: str) -> None:
        self.logs.pop(doc_id, None)
        self.deleted.add(doc_id)

    async def moved(self, known: Mapping[str, DocAt]) -> Mapping[str, DocAt]:
        await asyncio.sleep(self.slow())
        if self.is_away:
            raise StorageError("away")
        self.reads += 1
        return {doc_id: self.at(doc_id) for doc_id in known if self.at(doc_id) != known[doc_id]}

    async def get_changes_since(self, doc_id: str, rev: int) -> Sequence[Change]:
        await asyncio.sleep(self.slow())
        if doc_id in self.deleted:
            raise DocDeletedError(doc_id, deleted_at=1, last_rev=0)
        return list(self.logs.get(doc_id, ()))[rev:]


class Bus:
    """Takes hints; the test hands them on."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.healthy = True
        self.on_gap: Callable[[], None] = lambda: None

    async def start(
        self, process: str, on_hint: Callable[[Hint], None], on_gap: Callable[[], None]
    ) -> None:
        self.on_gap = on_gap

    async def follow(self, doc_id: str) -> None: ...
    def unfollow(self, doc_id: str) -> None: ...
    def publish(self, hint: Hint) -> None:
        self.published.append(hint.encode())

    async def flush(self) -> None: ...
    async def close(self) -> None: ...


class Scene:
    """A follower, and what its subscribers were sent."""

    def __init__(self, store: Store, process: str = "here") -> None:
        self.store, self.bus, self.stats = store, Bus(), ServerStats()
        self.sent: list[int] = []
        self.deletions: list[str] = []
        self.epochs: list[str] = []
        self.tasks = TaskScope("follower")
        self.follower = Follower(
            self,
            self.bus,
            store,
            process=process,
            tasks=self.tasks,
            stats=self.stats,
            runtime=Runtime(random=random.Random(1)),
        )

    def deliver(
        self,
        doc_id: str,
        changes: Sequence[Change],
        options: CommitOptions | None,
        origin: str | None,
    ) -> None:
        self.sent += [Change.from_encoded(change.encoded).rev for change in changes]

    def deliver_deletion(self, doc_id: str, origin: str | None) -> None:
        self.deletions.append(doc_id)

    async def documents_of(self, doc_id: str) -> Any:
        return self.store

    def is_elsewhere(self, doc_id: str) -> None: ...

    def history_replaced(self, epoch: str) -> None:
        self.epochs.append(epoch)

    def commit(self, doc_id: str = "d") -> bytes:
        """Commit in this process; the hint that it published."""
        self.follower.committed(doc_id, [self.store.commit(doc_id)], None, None)
        return self.bus.published[-1]

    def receive(self, encoded: bytes) -> None:
        for hint in decode_hints(encoded):
            self.follower._received(hint)


@asynccontextmanager
async def scenes(store: Store, count: int = 1) -> AsyncIterator[list[Scene]]:
    made = [Scene(store, f"p{number}") for number in range(count)]
    for scene in made:
        scene.tasks.start()
        await scene.follower.start()
    try:
        yield made
    finally:
        for scene in made:
            await scene.follower.close()
            await scene.tasks.close()


def run(play: Callable[[], Any]) -> None:
    """In virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play())


def test_what_follows_on_is_sent_and_what_is_older_is_not() -> None:
    async def play() -> None:
        store = Store()
        store.commit("d")
        async with scenes(store, 2) as (here, there):
            await here.follower.follow("d")
            await there.follower.follow("d")
            reads = store.reads
            first, second = here.commit(), here.commit()
            for encoded in (first, second, first, second):
                there.receive(encoded)
            here.receive(first)  # its own
            assert here.sent == there.sent == [2, 3]
            assert store.reads == reads, "nothing was read"

    run(play)


def test_a_gap_is_read_once_and_later_hints_wait() -> None:
    async def play() -> None:
        store = Store()
        store.commit("d")
        store.slow = lambda: 0.5
        async with scenes(store, 2) as (here, there):
            await here.follower.follow("d")
            await there.follower.follow("d")
            hints = [here.commit() for _ in range(5)]
            for encoded in hints[2:]:
                there.receive(encoded)
            await asyncio.sleep(3)
            assert there.sent == [2, 3, 4, 5, 6]
            assert sum(there.stats.catch_ups.values()) == 1
            assert there.follower._followed["d"].waiting == []

    run(play)


def test_a_lost_last_hint_is_found_by_a_poll() -> None:
    async def play() -> None:
        store = Store()
        store.commit("d")
        async with scenes(store, 2) as (here, there):
            await there.follower.follow("d")
            here.commit()
            await asyncio.sleep(12.5)
            assert there.sent == [2]
            there.bus.healthy = False
            there.bus.on_gap()
            await asyncio.sleep(0.1)
            here.commit()
            await asyncio.sleep(1.5)
            assert there.sent == [2, 3]

    run(play)


def test_a_deletion_and_a_document_made_again_are_announced() -> None:
    async def play() -> None:
        store = Store()
        store.commit("d")
        async with scenes(store, 2) as (here, there):
            await there.follower.follow("d")
            store.delete("d")
            here.follower.deleted("d", None)
            there.receive(here.bus.published[-1])
            await asyncio.sleep(0.1)
            assert there.deletions == ["d"]
            there.receive(here.commit())
            await asyncio.sleep(0.1)
            there.receive(here.commit())
            await asyncio.sleep(0.1)
            assert there.sent == [1, 2]
            store.delete("d")  # and made again before anybody says so
            store.commit("d")
            await asyncio.sleep(12.5)
            assert there.deletions == ["d", "d"]

    run(play)


def test_another_epoch_is_reported_and_a_hint_of_the_old_one_is_not_trusted() -> None:
    async def play() -> None:
        store = Store()
        store.commit("d")
        async with scenes(store, 2) as (here, there):
            await here.follower.follow("d")
            await there.follower.follow("d")
            old = here.commit()
            store.epoch = "f"
            there.receive(old.replace(b'"e.1"', b'"x.1"'))
            await asyncio.sleep(0.1)
            assert there.sent == []
            assert there.epochs == ["f"]

    run(play)


def test_a_store_that_is_away_is_asked_again() -> None:
    async def play() -> None:
        store = Store()
        store.commit("d")
        async with scenes(store, 2) as (here, there):
            store.is_away = True
            following = asyncio.ensure_future(there.follower.follow("d"))
            await asyncio.sleep(1)
            assert not following.done()
            store.is_away = False
            await following
            here.commit()
            store.is_away = True
            there.receive(here.commit())
            await asyncio.sleep(2)
            store.is_away = False
            await asyncio.sleep(6)
            assert there.sent == [2, 3]

    run(play)


def test_too_much_that_waits_is_read_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 300)

    async def play() -> None:
        store = Store()
        store.commit("d")
        async with scenes(store, 2) as (here, there):
            await there.follower.follow("d")
            store.slow = lambda: 0.5
            here.commit()
            for _ in range(10):
                there.receive(here.commit())
            await asyncio.sleep(10)
            assert there.sent == list(range(2, 13))

    run(play)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_becomes_of_hints_each_change_is_sent_once_and_in_order(seed: int) -> None:
    async def play() -> None:
        draw = random.Random(seed)
        store = Store()
        store.slow = lambda: draw.choice((0.0, 0.01, 0.3))
        if draw.random() < 0.5:
            store.commit("d")
        start = len(store.logs.get("d", ()))
        loop = asyncio.get_running_loop()
        async with scenes(store, 3) as made:
            for scene in made:
                await scene.follower.follow("d")
            for _ in range(60):
                scene = draw.choice(made)
                encoded = scene.commit()
                for other in made:
                    for _ in range(draw.choice((0, 1, 1, 1, 2))):
                        loop.call_later(draw.choice((0.0, 0.02, 1.0)), other.receive, encoded)
                await asyncio.sleep(draw.choice((0.0, 0.0, 0.01, 0.2)))
            await asyncio.sleep(30)
            for scene in made:
                assert scene.sent == list(range(start + 1, start + 61))
                assert scene.follower._followed["d"].at == store.at("d")
                assert scene.deletions == scene.epochs == []

    run(play)


def test_nothing_is_kept_of_a_document_without_subscribers() -> None:
    async def play() -> None:
        store = Store()
        async with scenes(store, 2) as (here, there):
            await there.follower.follow("d")
            there.follower.unfollow("d")
            there.receive(here.commit())
            await asyncio.sleep(30)
            assert (there.sent, len(there.follower)) == ([], 0)

    run(play)

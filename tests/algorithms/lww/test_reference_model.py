"""A second, tiny model beside client and server: equal at the end, always.

The model knows nothing of rows, revisions or messages. It is a dict from path to the winning write
(the newest time wins; of equal times the one committed later) and, for counters, a sum. Random
scripts of 2 to 5 clients run against the real server over a network that delays, drops and
duplicates, with clocks that differ, requests that are repeated and clients that start again.

Counters and plain fields are different paths, so that the model's rules hold for each.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.lww import LWWAlgorithm, LWWDoc
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.errors import MissingChangesError
from patches.model.change import Change
from patches.model.json_values import Json, Op, json_equal
from patches.options import DocOptions
from patches.runtime import Runtime
from patches_server.lww import LWWServer
from patches_server.lww.stores.memory import LWWMemoryServerStore

DOC = "doc"
FIELDS = ("/a", "/b", "/group/a", "/group/b", "/group/deep/c")
COUNTERS = ("/n", "/counts/x", "/counts/y")
PIECES = DocOptions(max_payload_bytes=230)


@dataclass
class Model:
    """What the document must be: told of each commit once, in the order of commits."""

    fields: dict[str, tuple[int, Json]] = field(default_factory=dict)
    sums: dict[str, int] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def commit(self, change: Change, now: int) -> None:
        if change.id in self.seen:
            return
        self.seen.add(change.id)
        for op in change.ops:
            path, ts = op["path"], min(op["ts"], now)
            if op["op"] == "@inc":
                self.sums[path] = self.sums.get(path, 0) + op["value"]
            elif op["op"] == "@max":
                self.highest[path] = max(self.highest.get(path, op["value"]), op["value"])
            elif path not in self.fields or self.fields[path][0] <= ts:
                self.fields[path] = (ts, None if op["op"] == "remove" else op["value"])

    def state(self) -> dict[str, Json]:
        written = {path: value for path, (_, value) in self.fields.items() if value is not None}
        state: dict[str, Json] = {}
        for path, value in {**written, **self.sums, **self.highest}.items():
            *above, last = path[1:].split("/")
            holder = state
            for key in above:
                holder = holder.setdefault(key, {})
            holder[last] = value
        return state


class Client:
    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.skew = world.random.randint(-2_000, 2_000)
        runtime = Runtime(
            wall_ms=lambda: max(1, world.now + self.skew), random=random.Random(number)
        )
        self.algorithm = LWWAlgorithm(LWWMemoryStore(), runtime=runtime)
        self.doc: LWWDoc = self.algorithm.create_doc(DOC)
        self.inbox: list[Change] = []
        self.late: list[tuple[list[Change], list[Change]]] = []

    async def edit(self) -> None:
        choose = self.world.random
        ops: list[Op] = []
        for _ in range(choose.choice((1, 1, 2, 5))):
            kind = choose.random()
            if kind < 0.35:
                ops.append({"op": "@inc", "path": choose.choice(COUNTERS), "value": 1})
            elif kind < 0.45:
                ops.append({"op": "@max", "path": "/top", "value": choose.randrange(1, 99)})
            elif kind < 0.6:
                ops.append({"op": "remove", "path": choose.choice(FIELDS)})
            else:
                value = choose.choice([choose.randrange(99), "text", True, [1], {"k": 1}])
                ops.append({"op": "replace", "path": choose.choice(FIELDS), "value": value})
        self.doc.take_ops(ops)

    async def save(self) -> None:
        while self.doc.unsaved:
            await self.algorithm.handle_doc_change(DOC, self.doc.unsaved[0], self.doc, {})

    async def flush(self) -> None:
        fate = self.world.random.random()
        sent = await self.algorithm.next_batch(DOC, self.doc, PIECES)
        if not sent or fate < 0.15:
            return  # the request is lost
        answer = await self.world.commit(sent, self)
        if fate < 0.3:
            return  # the answer is lost
        if fate < 0.5:
            self.late.append((sent, answer))  # broadcasts may overtake it
        else:
            await self.algorithm.receive_answer(DOC, sent, answer, self.doc)

    async def take_late(self) -> None:
        if self.late:
            sent, answer = self.late.pop(0)
            await self.algorithm.receive_answer(DOC, sent, answer, self.doc)

    async def deliver(self) -> None:
        if not self.inbox:
            return
        change = self.inbox.pop(0)
        fate = self.world.random.random()
        if fate < 0.2:
            return  # dropped
        if fate < 0.35:
            self.inbox.append(change)  # comes once more, later
        try:
            await self.algorithm.apply_server_changes(DOC, [change], self.doc)
        except MissingChangesError:
            await self.catch_up()

    async def catch_up(self) -> None:
        since = await self.algorithm.get_committed_rev(DOC)
        changes = await self.world.server.get_changes_since(DOC, since)
        await self.algorithm.apply_server_changes(DOC, changes, self.doc)

    async def reload(self) -> None:
        snapshot = await self.world.server.get_doc(DOC)
        await self.algorithm.install_snapshot(DOC, snapshot, self.doc)

    async def restart(self) -> None:
        await self.save()
        self.late.clear()
        self.doc = self.algorithm.create_doc(DOC, await self.algorithm.load_doc(DOC))

    async def settle(self) -> None:
        await self.save()
        while self.late:
            await self.take_late()
        while sent := await self.algorithm.next_batch(DOC, self.doc, PIECES):
            answer = await self.world.commit(sent, self)
            await self.algorithm.receive_answer(DOC, sent, answer, self.doc)


class World:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 10_000
        self.model = Model()
        runtime = Runtime(wall_ms=lambda: self.now, random=random.Random(seed))
        self.server = LWWServer(LWWMemoryServerStore(), runtime=runtime)
        self.clients = [Client(self, n) for n in range(self.random.randint(2, 5))]
        self._told: list[Change] = []
        self.server.on_changes_committed(
            lambda doc_id, changes, options, origin: self._told.extend(changes)
        )

    async def commit(self, sent: list[Change], by: Client) -> list[Change]:
        self._told.clear()
        self.model.commit(sent[0], self.now)
        result = await self.server.commit_changes(DOC, sent)
        for client in self.clients:
            if client is not by:
                client.inbox += self._told
        return list(result.changes)

    async def run(self, steps: int) -> None:
        moves: tuple[Any, ...] = (
            *("edit",) * 4,
            *("save", "save", "flush", "flush", "flush", "deliver", "deliver", "deliver"),
            *("take_late", "take_late", "restart", "catch_up", "reload"),
        )
        for _ in range(steps):
            self.now += self.random.choice((0, 1, 3, 400))
            await getattr(self.random.choice(self.clients), self.random.choice(moves))()
        for client in self.clients:
            await client.settle()
        for client in self.clients:
            await client.catch_up()


async def check(seed: int) -> None:
    world = World(seed)
    await world.run(60)
    expected = without_hollow(world.model.state())
    reader = Client(world, 99)
    await reader.reload()
    for client in world.clients:
        stored = await client.algorithm.load_doc(DOC)
        committed = stored.state if stored else {}
        assert json_equal(committed, client.doc.state), f"seed {seed}: shown is not committed"
        assert json_equal(without_hollow(committed), expected), f"seed {seed}"
        assert json_equal(committed, reader.doc.state), f"seed {seed}: a new reader sees another"
        assert not client.doc.has_pending


def without_hollow(state: Json) -> Json:
    """Without objects that hold nothing: the model does not know whether one was written."""
    if not isinstance(state, dict):
        return state
    members = {key: without_hollow(value) for key, value in state.items()}
    return {key: value for key, value in members.items() if value != {}}


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_clients_and_server_end_where_the_model_does(seed: int) -> None:
    asyncio.run(check(seed))

"""Clients, two servers on one store, lost answers and new connections: all replicas end equal.

The clients are the pure functions alone. Every answer that is not lost is exactly what a client of
the original would need: its catch-up is dense from the base of what was sent.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.ot import apply_changes, apply_committed_changes
from patches.model.change import Change, ChangeInput, Snapshot
from patches.model.json_values import Json, Op, json_equal
from patches.runtime import Runtime
from patches_server.documents.context import CallContext, call_context
from patches_server.ot import OTBranchManager, OTServer
from patches_server.stores.memory.backend import MemoryBackend

START: Json = {"list": ["a", "b"], "map": {}, "n": 0, "body": {"ops": [{"insert": "hello\n"}]}}


class Replica:
    """A client: committed state, pending changes, and an identity that changes at each loss."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name = name
        self.rng = rng
        self.snapshot = Snapshot(state=None, rev=0)
        self.connection = 0
        self.made = 0
        #: What was sent and not answered yet: it is sent again before anything else.
        self.in_flight: list[Change] = []

    @property
    def shown(self) -> Json:
        return apply_changes(self.snapshot.state, self.snapshot.changes)

    def edit(self, now: int) -> str:
        self.made += 1
        last = self.snapshot.changes[-1].rev if self.snapshot.changes else self.snapshot.rev
        change = Change(
            id=f"{self.name}{self.made}",
            ops=[an_edit(self.rng, self.shown, f"{self.name}{self.made}")],
            base_rev=self.snapshot.rev,
            rev=last + 1,
            created_at=now,
        )
        pending = [*self.snapshot.changes, change]
        self.snapshot = Snapshot(state=self.snapshot.state, rev=self.snapshot.rev, changes=pending)
        return change.id

    async def send(self, server: OTServer, *, lose: bool) -> None:
        if not self.in_flight:
            self.in_flight = list(self.snapshot.changes)
        if not self.in_flight:
            return
        sent = [ChangeInput.from_wire(change.to_wire()) for change in self.in_flight]
        context = CallContext(client_id=f"{self.name}#{self.connection}")
        with call_context(context):
            result = await server.commit_changes("d", sent)
        if lose:
            self.connection += 1
            return
        self.receive(result.changes)
        ids = {change.id for change in self.in_flight}
        left = [change for change in self.snapshot.changes if change.id not in ids]
        self.snapshot = Snapshot(state=self.snapshot.state, rev=self.snapshot.rev, changes=left)
        self.in_flight = []

    async def pull(self, server: OTServer) -> None:
        if not self.in_flight:  # between sending and the answer a client waits
            self.receive(await server.get_changes_since("d", self.snapshot.rev))

    def receive(self, changes: Any) -> None:
        new = [change for change in changes if change.rev > self.snapshot.rev]
        revs = [change.rev for change in new]
        start = self.snapshot.rev + 1
        assert revs == list(range(start, start + len(revs))), (self.name, start, revs)
        self.snapshot = apply_committed_changes(self.snapshot, changes)


def an_edit(rng: random.Random, state: Json, tag: str) -> Op:
    """One edit that applies to `state`."""
    size = len(state["list"])
    length = sum(len(part["insert"]) for part in state["body"]["ops"]) - 1
    choices: list[Op] = [
        {"op": "add", "path": f"/list/{rng.randint(0, size)}", "value": tag},
        {"op": "replace", "path": f"/map/{rng.choice('xyz')}", "value": tag},
        {"op": "@inc", "path": "/n", "value": 1},
        {
            "op": "@txt",
            "path": "/body",
            "value": [{"retain": rng.randint(1, length)}, {"insert": tag}],
        },
    ]
    if size:
        at = rng.randint(0, size - 1)
        choices += [
            {"op": "remove", "path": f"/list/{at}"},
            {"op": "replace", "path": f"/list/{at}", "value": tag},
        ]
    return rng.choice(choices)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
async def test_replicas_and_both_servers_converge(seed: int) -> None:
    rng = random.Random(seed)
    now = [1_700_000_000_000]
    runtime = Runtime(wall_ms=lambda: now[0], random=random.Random(1))
    backend = MemoryBackend(runtime=runtime)
    servers = [
        OTServer(backend, runtime=runtime, max_changes_per_version=rng.choice([0, 3, 1000]))
        for _ in range(2)
    ]
    told: list[str] = []
    for server in servers:
        server.on_changes_committed(lambda _d, changes, _o, _c: told.extend(c.id for c in changes))
    root: list[Op] = [{"op": "replace", "path": "", "value": START}]
    await servers[0].commit_changes("d", [ChangeInput(id="root", ops=root)])
    replicas = [Replica(name, rng) for name in "abc"]
    made: set[str] = {"root"}
    for replica in replicas:
        await replica.pull(servers[0])
    for _ in range(40):
        replica, server = rng.choice(replicas), rng.choice(servers)
        step = rng.random()
        now[0] += 40 * 60_000 if rng.random() < 0.05 else rng.randint(0, 3)
        if step < 0.5:
            made.add(replica.edit(now[0]))
        elif step < 0.85:
            await replica.send(server, lose=rng.random() < 0.4)
        else:
            await replica.pull(server)
    for _ in range(3):
        for replica in replicas:
            await replica.send(rng.choice(servers), lose=False)
            await replica.pull(rng.choice(servers))
    log = await servers[0].get_changes_since("d", 0)
    assert [change.rev for change in log] == list(range(1, len(log) + 1))
    assert [change.id for change in log] == told, "each told once, in order"
    assert len(set(told)) == len(told)
    assert set(told) <= made
    for server in servers:
        snapshot = await server.get_doc("d")
        state = apply_changes(snapshot.state, snapshot.changes)
        assert json_equal(state, apply_changes(None, log)), "version and tail are the replay"
        for replica in replicas:
            assert not replica.snapshot.changes
            assert json_equal(replica.snapshot.state, state), replica.name
    # Nothing that was made is lost but what others' edits took away.
    total = sum(op["value"] for change in log for op in change.ops if op["op"] == "@inc")
    assert state["n"] == total


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
async def test_a_branch_and_its_source_end_with_the_same_edits(seed: int) -> None:
    rng = random.Random(seed)
    now = [1_700_000_000_000]
    runtime = Runtime(wall_ms=lambda: now[0], random=random.Random(1))
    backend = MemoryBackend(runtime=runtime)
    server = OTServer(backend, runtime=runtime)
    manager = OTBranchManager(
        backend, server, max_changes_per_merge=rng.choice([1, 3, 100]), runtime=runtime
    )
    root: list[Op] = [{"op": "replace", "path": "", "value": START}]
    await server.commit_changes("d", [ChangeInput(id="root", ops=root)])
    branch_id = await manager.create_branch("d", 1)
    increments = 0
    for n in range(25):
        now[0] += rng.randint(0, 50_000)
        if rng.random() < 0.2:
            await manager.merge_branch(branch_id)
            continue
        doc_id = rng.choice(["d", branch_id])
        snapshot = await server.get_doc(doc_id)
        op = an_edit(rng, apply_changes(snapshot.state, snapshot.changes), f"e{n}")
        increments += op["op"] == "@inc"
        change = ChangeInput(id=f"e{n}", ops=[op], base_rev=snapshot.head, created_at=now[0])
        await server.commit_changes(doc_id, [change])
    await manager.merge_branch(branch_id)
    snapshot = await server.get_doc("d")
    state = apply_changes(snapshot.state, snapshot.changes)
    assert state["n"] == increments, "each increment once"
    log = await server.get_changes_since("d", 0)
    assert len({change.id for change in log}) == len(log)
    assert json_equal(state, apply_changes(None, log))

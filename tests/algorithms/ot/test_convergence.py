"""What a client shows after its rebase is what the server stores.

The rules: `docs/internals/reliability.md` 6.7.

The client's walk runs against the server's, through whole clients: edits, late deliveries, lost
answers, restarts and reloads, then everybody catches up.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from patches.algorithms.ot import rebase_changes, transform_incoming_changes
from patches.errors import PatchError
from patches.json_patch import apply_patch
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op
from patches.options import DocOptions
from tests.support.ot_scene import DOC, Client, Server

START = {
    "list": ["a", "b", "c", "d"],
    "objects": [{"n": 1}, {"n": 2}, {"n": 3}],
    "map": {"x": 1, "y": {"z": 2}},
    "t": {"ops": [{"insert": "some text here\n"}]},
}
SMALL = DocOptions(max_payload_bytes=600)


def some_op(rng: random.Random, state: Json) -> Op:
    """An operation that is likely to apply to the state."""
    items = state.get("list") if isinstance(state.get("list"), list) else []
    objects = state.get("objects") if isinstance(state.get("objects"), list) else []
    at = rng.randrange(len(items) + 1)
    choices: list[Op] = [
        {"op": "add", "path": f"/list/{at}", "value": rng.randrange(99)},
        {"op": "add", "path": "/list/-", "value": rng.randrange(99)},
        {"op": "replace", "path": f"/map/{rng.choice('xyzw')}", "value": rng.randrange(99)},
        {"op": "remove", "path": f"/map/{rng.choice('xyzw')}"},
        {"op": "@inc", "path": "/count", "value": 1},
        {"op": "@max", "path": "/top", "value": rng.randrange(99)},
        some_text(rng),
        some_text(rng),
    ]
    if items:
        at = rng.randrange(len(items))
        choices += [
            {"op": "remove", "path": f"/list/{at}"},
            {"op": "replace", "path": f"/list/{at}", "value": rng.randrange(99)},
            {"op": "move", "from": f"/list/{at}", "path": f"/list/{rng.randrange(len(items))}"},
        ]
    if objects:
        at = rng.randrange(len(objects))
        choices += [
            {"op": "replace", "path": f"/objects/{at}/n", "value": rng.randrange(99)},
            {"op": "add", "path": f"/objects/{at}", "value": {"n": 0}},
            {"op": "remove", "path": f"/objects/{at}"},
            {"op": "move", "from": f"/objects/{at}", "path": "/map/o"},
        ]
    return rng.choice(choices)


def some_text(rng: random.Random) -> Op:
    at = rng.randrange(12)
    retain: list[Json] = [{"retain": at}] if at else []
    part = rng.choice([{"insert": "new"}, {"insert": "😀"}, {"delete": 2}])
    return {"op": "@txt", "path": "/t", "value": [*retain, part]}


def applicable(rng: random.Random, state: Json, count: int) -> list[Op]:
    ops: list[Op] = []
    for _ in range(count):
        op = some_op(rng, state)
        try:
            state = apply_patch(state, [op], strict=True)
        except PatchError:
            continue
        ops.append(op)
    return ops


def queue_of(rng: random.Random, state: Json, name: str, size: int, rev: int) -> list[Change]:
    """Changes one after the other, all made on revision `rev`."""
    changes: list[Change] = []
    for at in range(size):
        ops = applicable(rng, state, rng.randint(1, 2))
        if ops:
            state = apply_patch(state, ops, strict=True)
            changes.append(
                Change(id=f"{name}{at}", ops=ops, base_rev=rev, rev=rev + 1 + at, created_at=1)
            )
    return changes


@pytest.mark.parametrize("block", range(5))
def test_the_clients_walk_gives_what_the_servers_walk_gives(block: int) -> None:
    for seed in range(block * 40, block * 40 + 40):
        rng = random.Random(seed)
        history = [
            change.replace(rev=rev, base_rev=rev - 1, committed_at=9)
            for rev, change in enumerate(queue_of(rng, START, "s", 6, 1), start=2)
        ]
        queue = queue_of(rng, START, "c", 6, 1)
        if not history or not queue:
            continue
        mine = rebase_changes(history, queue)
        theirs = transform_incoming_changes(queue, history, history[-1].rev)
        assert [(c.id, c.rev, c.ops) for c in mine] == [(c.id, c.rev, c.ops) for c in theirs]


@pytest.mark.parametrize("seed", range(40))
def test_clients_and_server_hold_one_document_in_the_end(seed: int) -> None:
    asyncio.run(session(random.Random(seed)))


async def session(rng: random.Random) -> None:
    server = Server().make(START)
    clients = [await Client(f"c{at}-").open() for at in range(3)]
    for client in clients:
        await client.pull(server)
    for _ in range(45):
        await step(rng, server, rng.choice(clients))
    for client in clients:
        while client.doc.unsaved:
            await client.save(client.doc.unsaved[0])
        await client.pull(server)
        await client.push(server)
    for client in clients:
        if client.doc.committed_rev < server.rev:
            await client.pull(server)
        client.doc.update_sync_status("synced")
        assert client.doc.state == server.state, client.name
        assert (await client.stored()).state == server.state
        assert client.doc.committed_state == server.state
    assert len({change.id for change in server.log}) == server.rev


async def step(rng: random.Random, server: Server, client: Client) -> None:
    kind = rng.random()
    if kind < 0.35:
        ops = applicable(rng, client.doc.state, rng.randint(1, 2))
        if ops:
            client.write(*ops)
    elif kind < 0.55 and client.doc.unsaved:
        await client.save(client.doc.unsaved[0])
    elif kind < 0.7 and client.doc.committed_rev < server.rev:
        upto = rng.randint(client.doc.committed_rev + 1, server.rev)
        since = max(1, client.doc.committed_rev - rng.randrange(2))
        await client.receive(*server.log[since:upto])
    elif kind < 0.85:
        await exchange(rng, server, client)
    elif kind < 0.92:
        await restart(client)
    elif kind < 0.96 and client.doc.committed_rev < server.rev:
        snapshot = Snapshot(state=server.state, rev=server.rev)
        tail = server.since(client.doc.committed_rev)
        await client.algorithm.install_snapshot(DOC, snapshot, client.doc, tail=tail)


async def exchange(rng: random.Random, server: Server, client: Client) -> None:
    """Send once; the answer is lost now and then, and then the client catches up first."""
    sent = await client.batch(rng.choice([SMALL, DocOptions(max_payload_bytes=100_000)]))
    if not sent:
        return
    answer = server.commit(sent)
    if rng.random() < 0.2:
        await client.pull(server)
    else:
        await client.algorithm.receive_answer(DOC, sent, answer, client.doc)


async def restart(client: Client) -> None:
    """Close and open the document; what was not saved is saved before."""
    while client.doc.unsaved:
        await client.save(client.doc.unsaved[0])
    await client.open()

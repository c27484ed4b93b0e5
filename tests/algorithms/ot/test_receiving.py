"""A delivery is walked once, and off the event loop if that takes long."""

from __future__ import annotations

import random
from typing import Any

import pytest

from patches.algorithms.ot import OTAlgorithm
from patches.algorithms.ot.doc import OTDoc
from patches.algorithms.ot.stores.memory import OTMemoryStore
from patches.json_patch import apply_patch
from patches.limits import Limits
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json, Op
from patches.options import DocOptions
from patches.runtime import Runtime
from tests.support.ot_scene import DOC, Client, Server

START: Json = {"l": [1, 2, 3], "n": 0, "t": {"ops": [{"insert": "some text\n"}]}}


def some_edit(rng: random.Random, state: Json) -> list[Op]:
    size = len(state["l"])
    ops: list[Op] = [
        {"op": "add", "path": f"/l/{rng.randint(0, size)}", "value": rng.randrange(99)},
        {"op": "@inc", "path": "/n", "value": 1},
        {"op": "@txt", "path": "/t", "value": [{"retain": rng.randint(1, 8)}, {"insert": "x"}]},
    ]
    if size:
        ops.append({"op": "remove", "path": f"/l/{rng.randrange(size)}"})
        ops.append(
            {"op": "move", "from": f"/l/{rng.randrange(size)}", "path": f"/l/{rng.randrange(size)}"}
        )
    return rng.sample(ops, 1)


@pytest.mark.parametrize("seed", range(40))
async def test_unsaved_edits_move_as_the_end_of_the_queue_does(seed: int) -> None:
    """Walked behind what the queue's walk has advanced, or all over again: it is the same."""
    rng = random.Random(seed)
    server = Server().make(START)
    shown: list[Json] = []
    for is_walked_once in (True, False):
        rng.seed(seed)
        client = await Client().open()
        await client.pull(server)
        for _ in range(4):
            await client.edit(*some_edit(rng, client.doc.state))
        for _ in range(3):
            client.write(*some_edit(rng, client.doc.state))
        theirs, state = [], server.state
        for rev in range(2, 6):
            ops = some_edit(rng, state)
            state = apply_patch(state, ops, strict=True)
            change = Change(id=f"t{rev}", ops=ops, base_rev=rev - 1, rev=rev, created_at=1)
            theirs.append(change.replace(committed_at=1))
        if not is_walked_once:
            forget_what_was_walked(client.doc)
        await client.receive(*theirs)
        shown.append((client.doc.state, list(client.doc.unsaved)))
    assert shown[0] == shown[1]


def forget_what_was_walked(doc: OTDoc) -> None:
    receive = doc.receive

    def walked_again(committed: Any, pending: Any, preview: Any = None, **_: Any) -> None:
        receive(committed, pending, preview)

    object.__setattr__(doc, "receive", walked_again)


@pytest.mark.parametrize(("yield_every_ms", "calls"), [(5, 2), (None, 0)])
async def test_a_long_rebase_leaves_the_event_loop(yield_every_ms: int | None, calls: int) -> None:
    away = 0

    async def run_blocking(work: Any, /) -> Any:
        nonlocal away
        away += 1
        return work()

    runtime = Runtime(random=random.Random(1), run_blocking=run_blocking)
    limits = Limits(yield_every_ms=yield_every_ms)
    algorithm = OTAlgorithm(OTMemoryStore(runtime=runtime), runtime=runtime, limits=limits)
    await algorithm.track_docs([DOC])
    root: Op = {"op": "replace", "path": "", "value": START}
    first = Change(id="root", ops=[root], base_rev=0, rev=1, created_at=1, committed_at=1)
    doc = algorithm.create_doc(DOC, Snapshot(state=None, rev=0))
    await algorithm.apply_server_changes(DOC, [first], doc)
    edit: list[Op] = [{"op": "add", "path": "/l/0", "value": "mine"}]
    for at in range(100):
        doc.apply(edit)
        await algorithm.handle_doc_change(DOC, doc.unsaved[-1], doc, {}, f"mine{at}")
    away = 0
    theirs = [
        Change(
            id=f"t{rev}", ops=[{"op": "@inc", "path": "/n", "value": 1}], base_rev=rev - 1,
            rev=rev, created_at=1, committed_at=1,
        )
        for rev in range(2, 42)
    ]  # fmt: skip
    await algorithm.apply_server_changes(DOC, theirs[:1], doc)
    assert away == 0
    await algorithm.apply_server_changes(DOC, theirs[1:], doc)
    assert away == calls
    assert doc.state["n"] == 40
    assert doc.state["l"][:100] == ["mine"] * 100
    assert len(doc.pending) == 100


async def test_what_surrounds_a_long_rebase_leaves_the_event_loop_too() -> None:
    """The batch, an installed snapshot, the answer, and what somebody else adds behind it."""
    results: list[list[Json]] = []
    for yield_every_ms in (5, None):
        away: list[int] = [0]

        async def run_blocking(work: Any, /, away: list[int] = away) -> Any:
            away[-1] += 1
            return work()

        runtime = Runtime(wall_ms=lambda: 1, random=random.Random(1), run_blocking=run_blocking)
        limits = Limits(yield_every_ms=yield_every_ms)
        algorithm = OTAlgorithm(OTMemoryStore(runtime=runtime), runtime=runtime, limits=limits)
        await algorithm.track_docs([DOC])
        doc = algorithm.create_doc(DOC, Snapshot(state=None, rev=0))
        seen: list[Json] = []
        await algorithm.install_snapshot(DOC, Snapshot(state=START, rev=1), doc)
        for at in range(600):
            doc.apply([{"op": "add", "path": "/l/0", "value": at}])
            await algorithm.handle_doc_change(DOC, doc.unsaved[-1], doc, {}, f"mine{at}")
        batch = await algorithm.next_batch(DOC, doc, DocOptions(max_payload_bytes=100_000))
        seen.append([change.to_wire() for change in batch])
        away.append(0)
        theirs = [
            Change(
                id=f"t{rev}", ops=[{"op": "@inc", "path": "/n", "value": 1}], base_rev=rev - 1,
                rev=rev, created_at=1, committed_at=1,
            )
            for rev in range(2, 302)
        ]  # fmt: skip
        loaded = Snapshot(state=START, rev=1, changes=theirs)
        await algorithm.install_snapshot(DOC, loaded, doc, tail=theirs)
        seen.append([doc.state, [change.to_wire() for change in doc.pending]])
        away.append(0)
        batch = await algorithm.next_batch(DOC, doc, DocOptions(max_payload_bytes=100_000))
        head = doc.committed_rev
        answer = [
            change.replace(rev=head + at, committed_at=1) for at, change in enumerate(batch, 1)
        ]
        await algorithm.receive_answer(DOC, batch, answer, doc)
        head = doc.committed_rev
        more = theirs[0].replace(id="more", base_rev=head, rev=head + 1)
        await algorithm.apply_server_changes(DOC, [more], doc)
        stored = await algorithm.load_doc(DOC)
        seen.append([doc.state, doc.committed_state, stored and stored.state])
        results.append(seen)
        assert [count > 0 for count in away] == [yield_every_ms is not None] * 3
    assert results[0] == results[1]
    assert results[0][-1][0]["n"] == 301

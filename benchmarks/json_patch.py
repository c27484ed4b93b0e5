"""JSON Patch and rich text: apply, transform, compose, replayed typing."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonpatch

from benchmarks.harness import Contender, Workload
from patches.json_patch import apply_patch, compose_patch, transform_patch
from patches.model.json_values import Json, Op
from patches.testing.typing_sessions import TypingSession, read_recording

NODES = 10_000
RECORDING = "automerge-paper.json.gz"


def document(nodes: int = NODES) -> Json:
    """A document of so many values: items with four fields each."""
    return {
        "title": "Plan",
        "items": [
            {"id": f"i{number}", "label": "word", "done": False, "n": number}
            for number in range(nodes // 5)
        ],
    }


def wide_document(keys: int = NODES) -> Json:
    """One object of so many members."""
    return {f"key{number}": number for number in range(keys)}


def small_ops(count: int, seed: int = 1) -> list[Op]:
    """Edits of single fields all over `document()`, and some list edits."""
    source = random.Random(seed)
    ops: list[Op] = []
    for number in range(count):
        item = source.randrange(NODES // 5 - 100)
        field = source.choice(("label", "done", "n"))
        ops.append({"op": "replace", "path": f"/items/{item}/{field}", "value": number})
        if number % 10 == 9:
            ops[-1] = {"op": "add", "path": f"/items/{item}/tag", "value": f"t{number}"}
    return ops


def list_ops(count: int, seed: int) -> list[Op]:
    """What two people do to one board: fields of items, inserts, removals, moves."""
    source = random.Random(seed)
    ops: list[Op] = []
    for number in range(count):
        item = source.randrange(1_000)
        kind = source.random()
        if kind < 0.7:
            ops.append({"op": "replace", "path": f"/items/{item}/label", "value": number})
        elif kind < 0.8:
            ops.append({"op": "add", "path": f"/items/{item}", "value": {"n": number}})
        elif kind < 0.85:
            ops.append({"op": "remove", "path": f"/items/{item}"})
        elif kind < 0.9:
            to = source.randrange(1_000)
            ops.append({"op": "move", "from": f"/items/{item}", "path": f"/items/{to}"})
        else:
            ops.append({"op": "replace", "path": f"/settings/s{item}", "value": number})
    return ops


def field_ops(count: int, keys: str) -> list[Op]:
    """Edits of fields that nobody else edits."""
    return [
        {"op": "replace", "path": f"/{keys}{number % 50}/x", "value": number}
        for number in range(count)
    ]


def keystrokes(session: TypingSession) -> list[Op]:
    """A session as one `@txt` operation per keystroke."""
    ops: list[Op] = []
    for edits in session.transactions:
        for position, deleted, inserted in edits:
            delta: list[Json] = [{"retain": position}] if position else []
            if inserted:
                delta.append({"insert": inserted})
            if deleted:
                delta.append({"delete": deleted})
            ops.append({"op": "@txt", "path": "/text", "value": delta})
    return ops


def recording() -> Path:
    """Where the recorded session is, if anywhere."""
    default = Path(__file__).parent.parent.parent / "shared" / "traces"
    return Path(os.environ.get("PATCHES_TRACES_DIR", default)) / RECORDING


def one_by_one(state: Json, ops: list[Op]) -> Json:
    for op in ops:
        state = apply_patch(state, [op])
    return state


def copies(container: Any, count: int) -> None:
    for _ in range(count):
        container.copy()


def workloads() -> Iterator[Workload]:
    """The six of the pure base, each beside what else one could do."""
    yield batch()
    yield single_ops()
    yield wide()
    yield transform("one board, 100 against 1,000", list_ops(1_000, 2), list_ops(100, 3))
    yield transform(
        "disjoint fields, 100 against 1,000", field_ops(1_000, "a"), field_ops(100, "b")
    )
    yield from typing()


def batch() -> Workload:
    state, ops = document(), small_ops(1_000)
    return Workload(
        title="1,000 small operations in one batch, document of 10,000 nodes",
        unit="ops",
        units=1_000,
        contenders=(
            Contender(name="apply_patch", run=lambda _: apply_patch(state, ops)),
            Contender(
                name="jsonpatch library", run=lambda _: jsonpatch.apply_patch(state, ops), rounds=3
            ),
            Contender(name="copy.deepcopy of the document", run=lambda _: copy.deepcopy(state)),
        ),
    )


def single_ops() -> Workload:
    state, ops = document(), small_ops(1_000)

    def library(_: Any) -> Json:
        patched = state
        for op in ops[:50]:
            patched = jsonpatch.apply_patch(patched, [op])
        return patched

    return Workload(
        title="1,000 batches of one operation, document of 10,000 nodes",
        unit="ops",
        units=1_000,
        contenders=(
            Contender(name="apply_patch", run=lambda _: one_by_one(state, ops)),
            Contender(name="jsonpatch library", run=library, rounds=2, units=50),
            Contender(
                name="list.copy of the items",
                run=lambda _: copies(state["items"], len(ops)),
            ),
        ),
    )


def wide() -> Workload:
    state = wide_document()
    ops: list[Op] = [
        {"op": "replace", "path": f"/key{number * 7 % NODES}", "value": "v"}
        for number in range(1_000)
    ]
    return Workload(
        title="one edit at a time of an object with 10,000 keys",
        unit="ops",
        units=1_000,
        contenders=(
            Contender(name="apply_patch", run=lambda _: one_by_one(state, ops)),
            Contender(name="dict.copy", run=lambda _: copies(state, len(ops))),
        ),
    )


def transform(title: str, committed: list[Op], incoming: list[Op]) -> Workload:
    pairs = len(committed) * len(incoming)
    return Workload(
        title=f"transform, {title}",
        unit="pairs",
        units=pairs,
        contenders=(
            Contender(
                name="transform_patch", run=lambda _: transform_patch(None, committed, incoming)
            ),
            Contender(
                name="the other way round",
                run=lambda _: transform_patch(None, committed, incoming, other_ops_first=True),
            ),
        ),
    )


def typing() -> Iterator[Workload]:
    """Composing and replaying a recorded session."""
    path = recording()
    skipped = "" if path.exists() else f"no {RECORDING}: set PATCHES_TRACES_DIR"
    ops = [] if skipped else keystrokes(read_recording(path))
    yield Workload(
        title="compose 10,000 keystrokes into one operation",
        unit="ops",
        units=10_000,
        contenders=(
            Contender(name="from the start", run=lambda _: compose_patch(ops[:10_000])),
            Contender(
                name="from the middle", run=lambda _: compose_patch(ops[100_000:110_000]), rounds=2
            ),
        ),
        skipped=skipped,
    )
    yield Workload(
        title="replay automerge-paper, one @txt per keystroke",
        unit="ops",
        units=len(ops),
        contenders=(
            Contender(
                name="apply_patch", run=lambda _: one_by_one({"text": "", "n": 1}, ops), rounds=1
            ),
        ),
        skipped=skipped,
    )

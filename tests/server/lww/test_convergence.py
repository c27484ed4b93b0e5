"""Readers that come and go end with the server's state, whatever they missed.

Each reader keeps rows as a client does: an op replaces the rows at and below its path. It commits
and catches up from the revision that it has, after any pause; removals are dropped behind its back.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.json_patch import apply_patch
from patches.model import codec
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Json, Op, json_equal
from patches.runtime import Runtime
from patches_server.lww import LWWBranchManager, LWWServer
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend

PATHS = ["/a", "/a/b", "/a/b/c", "/a/b/x", "/a/d", "/e", "/e/f", "/n"]
VALUES: list[Any] = [1, "s", {}, {"b": 1}, {"b": {"c": 2}, "f": 3}]


class Reader:
    """The committed part of a client: a state, and the revision that it is at."""

    def __init__(self) -> None:
        self.rev = 0
        self.state: Json = {}
        self.rows: dict[str, Op] = {}

    def apply(self, changes: list[Change]) -> None:
        for change in changes:
            for op in change.ops:
                for path in [p for p in self.rows if p == op["path"] or below(p, op["path"])]:
                    del self.rows[path]
                self.rows[op["path"]] = op
            self.rev = max(self.rev, change.rev)

    def shown(self) -> Json:
        state = self.state
        ordered = sorted(self.rows.values(), key=lambda op: (op["rev"], op["ts"]))
        for op in ordered:
            plain: Op = {key: op[key] for key in ("op", "path", "value") if key in op}
            try:
                state = apply_patch(state, [plain])
            except ValueError:  # below a number: left out, as everywhere
                continue
        return state


def below(path: str, parent: str) -> bool:
    return path.startswith(parent + "/")


async def opened(server: LWWServer, doc_id: str) -> Reader:
    """A reader that has just loaded the document."""
    snapshot = await server.get_doc(doc_id)
    reader = Reader()
    reader.state = snapshot.state
    reader.apply(list(snapshot.changes))
    reader.rev = max(reader.rev, snapshot.rev)
    return reader


def random_ops(source: random.Random, now: int) -> list[Op]:
    ops: list[Op] = []
    ts = now - source.randrange(0, 3)  # one time for all ops of an edit, as clients have it
    for _ in range(source.randrange(1, 4)):
        op: Op = {"path": source.choice(PATHS), "ts": ts}
        kind = source.random()
        if kind < 0.4:
            op["op"] = "remove"
        elif kind < 0.5:
            op["op"], op["value"] = "@inc", 1
        else:
            op["op"], op["value"] = "replace", source.choice(VALUES)
        ops.append(op)
    return ops


async def run(server: LWWServer, doc_id: str, source: random.Random, clock: list[int]) -> None:
    readers = [await opened(server, doc_id) for _ in range(3)]
    for step in range(30):
        clock[0] += source.randrange(1, 4)
        reader = source.choice(readers)
        chance = source.random()
        if chance < 0.65:
            change = ChangeInput(
                id=f"{clock[0]}-{step}",
                ops=random_ops(source, clock[0]),
                base_rev=reader.rev,
            )
            reader.apply(list((await server.commit_changes(doc_id, [change])).changes))
        elif chance < 0.85:
            reader.apply(await server.get_changes_since(doc_id, reader.rev))
        elif chance < 0.95:
            before = (await opened(server, doc_id)).shown()
            long_ago = clock[0] - source.randrange(0, 20)
            await server.store.drop_removals(doc_id, stored_before=long_ago, limit=3)
            assert json_equal((await opened(server, doc_id)).shown(), before)
        else:
            readers[source.randrange(3)] = await opened(server, doc_id)
    fresh = (await opened(server, doc_id)).shown()
    for reader in readers:
        reader.apply(await server.get_changes_since(doc_id, reader.rev))
        assert json_equal(reader.shown(), fresh), (reader.shown(), fresh)
    version_id = await server.capture_current_version(doc_id)
    if version_id is not None:
        assert server.store.versions is not None
        state = await server.store.versions.load_version_state(doc_id, version_id)
        assert json_equal(fresh, codec.decode(state or b"null"))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
async def test_readers_converge(seed: int) -> None:
    source, clock = random.Random(seed), [1_000]
    runtime = Runtime(wall_ms=lambda: clock[0], random=random.Random(seed))
    server = LWWServer(MemoryBackend(runtime=runtime), runtime=runtime)
    await run(server, "d", source, clock)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
async def test_readers_of_a_branch_converge(seed: int) -> None:
    """A branch starts with a snapshot, under which removals matter from the first revision on."""
    source, clock = random.Random(seed), [1_000]
    runtime = Runtime(wall_ms=lambda: clock[0], random=random.Random(seed))
    server = LWWServer(MemoryBackend(runtime=runtime), runtime=runtime)
    await run(server, "d", source, clock)
    branches = LWWBranchManager(server, runtime=runtime)
    branch_id = await branches.create_branch("d", 1)
    await run(server, branch_id, source, clock)
    await branches.merge_branch(branch_id)
    await run(server, "d", source, clock)


@pytest.mark.parametrize("seed", range(4))
async def test_readers_converge_over_sqlite(seed: int) -> None:
    source, clock = random.Random(seed), [1_000]
    runtime = Runtime(wall_ms=lambda: clock[0], random=random.Random(seed))
    backend = SqliteBackend(":memory:", runtime=runtime)
    await run(LWWServer(backend, runtime=runtime), "d", source, clock)
    await backend.close()


async def answers(backend: MemoryBackend | SqliteBackend, clock: list[int]) -> list[Json]:
    """What a server on a backend answers to a fixed script."""
    source = random.Random(5)
    runtime = Runtime(wall_ms=lambda: clock[0], random=random.Random(5))
    server = LWWServer(backend, runtime=runtime)
    told = []
    for step in range(80):
        clock[0] += 1
        rev = source.randrange(0, step + 1)
        change = ChangeInput(id=f"c{step}", ops=random_ops(source, clock[0]), base_rev=rev)
        told.append((await server.commit_changes("d", [change])).changes[0].to_wire())
    await backend.close()
    return told


async def test_both_stores_answer_alike() -> None:
    in_memory = await answers(MemoryBackend(), [1_000])
    assert in_memory == await answers(SqliteBackend(":memory:"), [1_000])

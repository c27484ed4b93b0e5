"""Whatever happens, in whatever order: an open document shows what its parts add up to.

The document builds only what was touched again; the check builds everything from nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patches.algorithms.lww import LWWDoc
from patches.algorithms.lww.state import rederive, shown_state
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.lww.stores.sqlite import LWWSqliteStore
from patches.algorithms.lww.tables import LWWStore
from patches.algorithms.lww.unsent import Unsent
from patches.errors import PatchError
from patches.model.change import Change
from patches.model.json_values import Json, Op, json_equal
from patches.options import DocOptions
from patches.runtime import Runtime
from patches.stores.sqlite.database import SqliteDatabase
from tests.support.lww_stepwise import StepwiseLWW

DOC = "doc"
KEYS = ("a", "b", "a~1b", "0")
SCALARS: tuple[Json, ...] = (None, 0, False, "", 1, 7, "text", True)


class Life:
    """One client's document under random events; the server's rows are made up."""

    def __init__(self, seed: int, store: LWWStore | None = None) -> None:
        self.random = random.Random(seed)
        self.rev = 0
        runtime = Runtime(wall_ms=lambda: 1_000 + self.random.randrange(50), random=self.random)
        self.algorithm = StepwiseLWW(store or LWWMemoryStore(), runtime=runtime)
        self.doc: LWWDoc = self.algorithm.create_doc(DOC)
        self.told: list[Json] = []
        self.doc.on_update(self.told.append)
        self.events: list[str] = []

    def value(self, depth: int = 2) -> Json:
        if depth and self.random.random() < 0.5:
            keys = self.random.sample(KEYS, self.random.randrange(3))
            return {key.replace("~1", "/"): self.value(depth - 1) for key in keys}
        if depth and self.random.random() < 0.2:
            return [self.value(depth - 1) for _ in range(self.random.randrange(3))]
        return self.random.choice(SCALARS)

    def path(self) -> str:
        if self.random.random() < 0.03:
            return ""
        return "".join(
            f"/{self.random.choice(KEYS)}" for _ in range(self.random.choice((1, 1, 2, 2, 3)))
        )

    def row(self) -> Op:
        if self.random.random() < 0.25:
            return {"op": "remove", "path": self.path(), "ts": 900}
        row = {"op": "replace", "path": self.path(), "value": self.value(), "ts": 900}
        return row | ({"soft": True} if self.random.random() < 0.1 else {})

    def edit(self) -> Op:
        path, kind = self.path(), self.random.random()
        if kind < 0.25:
            return {"op": "@inc", "path": path, "value": 3}
        if kind < 0.3:
            return {"op": "@max", "path": path, "value": 5}
        if kind < 0.45:
            return {"op": "remove", "path": path}
        if kind < 0.55:
            return {"op": "add", "path": path, "value": {}}
        return {"op": "replace", "path": path, "value": self.value()}

    async def step(self) -> None:
        kind = self.random.choice(
            ("edit", "edit", "save", "send", "receive", "answer", "rollback", "stale", "confirm")
        )
        self.events.append(kind)
        await getattr(self, f"_{kind}")()

    async def _edit(self) -> None:
        ops = [self.edit() for _ in range(self.random.choice((1, 1, 2, 3)))]
        try:
            self.doc.take_ops(ops)
        except PatchError:
            return
        self.events.append(f"  {ops}")

    async def _save(self) -> None:
        if self.doc.unsaved:
            await self.algorithm.handle_doc_change(DOC, self.doc.unsaved[0], self.doc, {})

    async def _send(self) -> None:
        await self.algorithm.next_batch(DOC, self.doc, DocOptions())

    async def _receive(self) -> None:
        await self.algorithm.apply_server_changes(DOC, [self.committed()], self.doc)

    async def _stale(self) -> None:
        # an answer may bring rows that are older than what is held
        rev = self.random.randint(0, self.rev)
        change = self.committed(rev=rev, base_rev=min(rev, self.rev))
        await self.algorithm.receive_answer(DOC, [change], [change], self.doc)

    async def _answer(self) -> None:
        sent = await self.algorithm.next_batch(DOC, self.doc, DocOptions())
        if sent:
            rows = [
                {"op": "replace", "path": op["path"], "value": op.get("value"), "ts": 950}
                if op["op"] != "remove" and self.random.random() < 0.8
                else {"op": "remove", "path": op["path"], "ts": 950}
                for op in sent[0].ops
            ]
            answer = self.committed(rows).replace(id=sent[0].id)
            await self.algorithm.receive_answer(DOC, sent, [answer], self.doc)

    async def _confirm(self) -> None:
        sent = await self.algorithm.next_batch(DOC, self.doc, DocOptions())
        await self.algorithm.confirm_sent(DOC, sent, self.doc)

    async def _rollback(self) -> None:
        self.doc.rollback_unsaved()

    def committed(
        self, rows: list[Op] | None = None, rev: int | None = None, base_rev: int | None = None
    ) -> Change:
        if rev is None:
            base_rev, self.rev = self.rev, self.rev + 1
            rev = self.rev
        rows = rows or [self.row() for _ in range(self.random.choice((1, 1, 2, 4)))]
        change = Change(
            id=f"s{self.random.random()}",
            ops=[{**row, "rev": rev} for row in rows],
            base_rev=base_rev or 0,
            rev=rev,
            created_at=1,
            committed_at=1,
        )
        self.events.append(f"  {change.ops}")
        return change

    async def expected(self) -> Json:
        stored = await self.algorithm.load_doc(DOC)
        ops = [op for sent in stored.changes for op in _without_bases(sent.ops)] if stored else []
        ops += [op for unsaved in self.doc.unsaved for op in unsaved]
        return shown_state(stored.state if stored else {}, ops)


def _without_bases(ops: Sequence[Op]) -> list[Op]:
    """The ops of a piece, without the writes of what its deltas start from."""
    return [
        op
        for op, after in zip(ops, [*ops[1:], None], strict=True)
        if after is None or after["path"] != op["path"]
    ]


async def live(seed: int, store: LWWStore | None = None) -> None:
    life = Life(seed, store)
    for _ in range(25):
        before, told = life.doc.state, len(life.told)
        await life.step()
        expected = await life.expected()
        story = "\n".join([f"seed {seed}", *life.events])
        assert json_equal(life.doc.state, expected), f"{life.doc.state} != {expected}\n{story}"
        if life.events[-1] not in ("edit",) and not life.events[-1].startswith("  "):
            changed = not json_equal(before, life.doc.state)
            assert changed or len(life.told) == told, f"told of nothing\n{story}"


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_shown_state_is_what_the_parts_add_up_to(seed: int) -> None:
    asyncio.run(live(seed))


@pytest.mark.parametrize("seed", range(12))
async def test_the_same_holds_over_a_file(seed: int, tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "client.db", durability="relaxed")
    try:
        await live(seed, LWWSqliteStore(database))
    finally:
        await database.close()


class CountedEdits(list[list[Op]]):
    """Unsaved edits that count how often somebody goes through them."""

    walks = 0

    def __iter__(self) -> Iterator[list[Op]]:
        self.walks += 1
        return super().__iter__()


def test_an_edit_of_many_fields_does_not_search_the_unsaved_ones_for_each() -> None:
    committed: Json = {f"k{i}": i for i in range(2_000)}
    edits = CountedEdits([[{"op": "remove", "path": f"/k{i}"} for i in range(1_000)]])
    unsent = Unsent(edits)
    shown = rederive(committed, committed, unsent, [f"/k{i}" for i in range(2_000)])
    assert shown == {f"k{i}": i for i in range(1_000, 2_000)}
    assert edits.walks < 10

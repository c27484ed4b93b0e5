"""Names, keys, values and expressions of any kind: refused with a code, and nothing becomes SQL."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.server.collections.board import DOC, open_board
from tests.support.raw_peer import RawPeer

NAMES = [
    "tasks",
    "labels",
    "cards",
    "account",
    "chat_message",
    "id",
    "owner",
    "title",
    "votes",
    "category",
    "private",
    "tags",
    "user_id",
    "created_at",
    "",
    'ta"sks',
    "tasks; DROP TABLE tasks",
    "'); DELETE FROM tasks; --",
    "_patches_log",
    "sqlite_master",
    "rowid",
    "~01/~1",
    "\x00",
    "é🙂",
    "x" * 300,
    "TASKS",
    "__class__",
    "%s",
    "{0}",
    "1 OR 1=1",
]
FRAMES = 400


class Fuzz:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def name(self) -> str:
        return self.rng.choice(NAMES)

    def value(self, depth: int = 2) -> Any:
        rng = self.rng
        kind = rng.randrange(12 if depth else 9)
        if kind == 9:
            return [self.value(depth - 1) for _ in range(rng.randrange(4))]
        if kind == 10:
            return {self.name(): self.value(depth - 1) for _ in range(rng.randrange(4))}
        if kind == 11:
            return self.condition(depth)
        return [None, True, False, 0, -1, 1.5, 2**60, self.name(), "a"][kind]

    def condition(self, depth: int = 3) -> Any:
        rng = self.rng
        if depth and rng.random() < 0.5:
            parts = [self.condition(depth - 1) for _ in range(rng.randrange(3))]
            return [rng.choice(["and", "or", "not", "xor"]), *parts]
        kind = rng.choice(["=", "!=", "<", "<=", ">", ">=", "in", "prefix", "contains", "null", ""])
        return [kind, self.name(), *[self.value(1) for _ in range(rng.randrange(3))]]

    def op(self) -> Any:
        rng = self.rng
        path = "".join(f"/{self.name()}" for _ in range(rng.randrange(5)))
        op = {"op": rng.choice(["add", "replace", "remove", "test", "move", 1]), "path": path}
        if rng.random() < 0.8:
            op["value"] = rng.choice([self.value(), self.row()])
        return op if rng.random() < 0.97 else self.value()

    def row(self) -> Any:
        row = {"id": self.name(), "owner": "u1", "title": self.name(), "name": "n"}
        return {**row, **({self.name(): self.value()} if self.rng.random() < 0.5 else {})}

    def subset(self) -> Any:
        rng = self.rng
        subset = {
            "id": rng.choice(["s", self.name()]),
            "table": self.name(),
            "where": self.condition(),
            "orderBy": [[self.name(), rng.choice(["asc", "desc", "; --"])]],
            "limit": rng.choice([1, 10, 0, -1, 10**9, "1", None]),
        }
        for name in list(subset):
            if rng.random() < 0.2:
                subset.pop(name)
        return subset if rng.random() < 0.97 else self.value()

    def call(self, number: int) -> tuple[str, list[Any]]:
        rng = self.rng
        kind = rng.randrange(8)
        if kind < 4:
            change: dict[str, Any] = {
                "id": f"c{number}",
                "ops": [self.op() for _ in range(rng.randrange(1, 4))],
            }
            if rng.random() < 0.3:
                change["baseRev"] = rng.choice([0, 1, 99, -1, "x"])
            if rng.random() < 0.2:
                args = {rng.choice(["below", self.name()]): self.value()}
                name = rng.choice(["clear", self.name()])
                change["action"] = rng.choice([{"name": name, "args": args}, self.value()])
            return "commitChanges", [[change], *([{"token": self.value()}] if kind == 3 else [])]
        if kind < 6:
            return "loadSubset", [self.subset()]
        if kind == 6:
            return "unloadSubset", [self.value()]
        options = {"onDemand": self.value(), "subsets": [self.subset()]}
        return ("getDoc", [options]) if rng.random() < 0.5 else ("getChangesSince", [0, options])


async def _holds(peer: RawPeer, method: str, params: list[Any]) -> None:
    answer = await peer.call(method, DOC, *params)
    if "error" in answer:
        code = answer["error"]["code"]
        assert code in (400, 403, 409, 413), (method, params, answer)


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_sent_is_answered_and_stays_data(seed: int) -> None:
    fuzz = Fuzz(seed)
    schema = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    async with open_board() as board:
        await board.documents.write(
            DOC, lambda sql: sql("INSERT INTO tasks (id, owner, title) VALUES ('kept', 'z', 't')")
        )
        before = await board.documents.write(DOC, lambda sql: sql(schema))
        peer = board.peer("u1")
        await peer.result("subscribe", DOC)
        for number in range(FRAMES):
            method, params = fuzz.call(number)
            await _holds(peer, method, params)
            peer.unread()
            peer._unread.clear()
        assert await board.documents.write(DOC, lambda sql: sql(schema)) == before
        kept = await board.documents.write(
            DOC, lambda sql: sql("SELECT owner, title FROM tasks WHERE id = 'kept'")
        )
        assert kept in ([{"owner": "z", "title": "t"}], [])  # only the action may have deleted it

"""Copies that follow by the rule of cursors alone equal what their users may see, at every step."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from patches.json_patch.pointer import parse
from tests.server.collections.board import DOC, Board, open_board
from tests.support.raw_peer import RawPeer

WINDOW: dict[str, Any] = {"id": "top", "table": "cards", "orderBy": [["votes", "desc"]], "limit": 5}
PLAIN: dict[str, Any] = {"id": "x", "table": "cards", "where": ["=", "category", "x"]}
NARROW: dict[str, Any] = {
    "id": "low",
    "table": "cards",
    "where": ["<", "votes", 6],
    "orderBy": [["category", "asc"], ["votes", "desc"]],
    "limit": 3,
}


class Copy:
    """A client that does nothing but follow."""

    def __init__(self, board: Board, user: str, subsets: list[dict[str, Any]]) -> None:
        self.board, self.user = board, user
        self.subsets = {subset["id"]: subset for subset in subsets}
        self.rows: dict[str, dict[str, Any]] = {}
        self.windows: dict[str, list[str]] = {}
        self.cursor = 0
        self.peer: RawPeer = board.peer(user)

    @property
    def options(self) -> dict[str, Any]:
        return {"subsets": list(self.subsets.values())}

    async def open(self) -> None:
        await self.peer.result("subscribe", DOC)
        found = await self.peer.result("getDoc", DOC, self.options)
        self.rows, self.cursor = found["state"], found["rev"]
        self.windows = found.get("windows", {})

    async def come_back(self) -> None:
        """Over another connection."""
        self.peer.session.end()
        self.peer = self.board.peer(self.user)
        await self.peer.result("subscribe", DOC)
        await self.pull()

    async def pull(self) -> None:
        answer = await self.peer.call("getChangesSince", DOC, self.cursor, self.options)
        if "error" in answer:
            assert answer["error"]["code"] == 409
            await self.open()
            return
        for change in answer["result"]:
            self.apply(change)

    def apply(self, change: dict[str, Any]) -> bool:
        """Whether nothing was missed before it."""
        if change["rev"] <= self.cursor:
            return True
        if change["baseRev"] > self.cursor:
            return False
        for op in change["ops"]:
            table, *key = parse(op["path"])
            if not key:
                self.rows[table] = {}
            elif op["op"] == "add":
                self.rows[table][key[0]] = op["value"]
            else:
                self.rows[table].pop(key[0], None)
        self.windows.update(change.get("windows", {}))
        self.cursor = change["rev"]
        return True

    async def read(self, rng: random.Random, loss: float) -> None:
        """Take in what has come, unless it is lost."""
        frames = self.peer.unread("changesCommitted")
        self.peer._unread.clear()
        for frame in frames:
            if rng.random() < loss:
                continue
            changes = frame["params"]["changes"]
            if not changes or not all(self.apply(change) for change in changes):
                await self.pull()

    async def commit(self, rng: random.Random, change_id: str) -> None:
        key = f"t{rng.randrange(8)}"
        row = {"id": key, "owner": self.user, "title": "t", "private": rng.random() < 0.5}
        op = rng.choice(
            [
                {"op": "add", "path": f"/tasks/{key}", "value": row},
                {"op": "replace", "path": f"/tasks/{key}/votes", "value": rng.randrange(9)},
                {"op": "replace", "path": f"/tasks/{key}/private", "value": rng.random() < 0.5},
                {"op": "remove", "path": f"/tasks/{key}"},
            ]
        )
        change = {"id": change_id, "ops": [op], "baseRev": self.cursor}
        for _ in range(rng.choice([1, 1, 2])):  # the first answer is lost
            answer = await self.peer.call("commitChanges", DOC, [change], self.options)
        if "error" in answer:
            assert answer["error"]["code"] in (403, 409), answer
            return
        if rng.random() < 0.3:
            return  # the last one is lost, too
        changes = answer["result"]["changes"]
        assert change_id in [each["id"] for each in changes]
        for each in changes:
            assert self.apply(each), "an answer has no gaps"

    async def change_subsets(self, rng: random.Random) -> None:
        subset = rng.choice([WINDOW, PLAIN, NARROW])
        name = str(subset["id"])
        if name in self.subsets:
            await self.peer.result("unloadSubset", DOC, name)
            del self.subsets[name]
            self.windows.pop(name, None)
            shown = {key for keys in self.windows.values() for key in keys}
            self.rows["cards"] = {
                key: row
                for key, row in self.rows["cards"].items()
                if key in shown or ("x" in self.subsets and row["category"] == "x")
            }
            return
        subset = {**subset, "limit": rng.randrange(2, 8)} if "limit" in subset else subset
        request = await self.peer.start("loadSubset", DOC, subset)
        loaded = (await self.peer.answer(request))["result"]
        await self.read(rng, 0.0)  # what was told before it comes first
        self.subsets[name] = subset
        for op in loaded["ops"]:
            self.rows["cards"][parse(op["path"])[1]] = op["value"]
        if "limit" in subset:
            self.windows[name] = loaded["keys"]

    async def check(self) -> None:
        def look(sql: Any) -> tuple[Any, ...]:
            tasks = sql(
                "SELECT id, votes, private FROM tasks WHERE private = 0 OR owner = ?", self.user
            )
            cards = sql("SELECT * FROM cards WHERE category = 'x'")
            windows = {
                name: sql(
                    "SELECT * FROM cards "
                    + ("WHERE votes < 6 ORDER BY category, votes DESC" if name == "low" else "")
                    + ("ORDER BY votes DESC" if name == "top" else "")
                    + f", id LIMIT {subset['limit']}"
                )
                for name, subset in self.subsets.items()
                if "limit" in subset
            }
            return tasks, cards, windows, sql("SELECT * FROM labels")

        tasks, cards, windows, labels = await self.board.documents._jobs.read(
            DOC, lambda tx: look(tx.sql)
        )
        held = {key: (row["votes"], row["private"]) for key, row in self.rows["tasks"].items()}
        assert held == {row["id"]: (row["votes"], bool(row["private"])) for row in tasks}
        assert self.rows["labels"] == {row["id"]: row for row in labels}
        if "x" in self.subsets:
            own = {key: row for key, row in self.rows["cards"].items() if row["category"] == "x"}
            expected = {row["id"]: row for row in cards}
            assert own == expected
        for name, rows in windows.items():
            assert self.windows[name] == [row["id"] for row in rows], name
            assert [self.rows["cards"][row["id"]] for row in rows] == rows


def statements(rng: random.Random) -> list[tuple[str, tuple[Any, ...]]]:
    """Some SQL, as the application or another program writes it."""
    key, votes = f"c{rng.randrange(14)}", rng.randrange(10)
    task = f"t{rng.randrange(8)}"
    choices: list[tuple[str, tuple[Any, ...]]] = [
        ("INSERT OR REPLACE INTO cards VALUES (?, ?, ?)", (key, rng.choice("xyz"), votes)),
        ("INSERT OR IGNORE INTO cards VALUES (?, ?, ?)", (key, rng.choice("xyz"), votes)),
        ("UPDATE cards SET votes = ? WHERE id = ?", (votes, key)),
        ("UPDATE cards SET votes = votes + 1 WHERE category = ?", (rng.choice("xyz"),)),
        ("UPDATE cards SET category = ? WHERE id = ?", (rng.choice("xyz"), key)),
        ("UPDATE OR IGNORE cards SET id = ? WHERE id = ?", (f"c{rng.randrange(14)}", key)),
        ("DELETE FROM cards WHERE id = ?", (key,)),
        ("DELETE FROM cards WHERE votes > ?", (votes + 4,)),
        ("DELETE FROM labels", ()),
        ("INSERT OR REPLACE INTO labels VALUES (?, ?)", (f"l{rng.randrange(4)}", str(votes))),
        ("UPDATE tasks SET private = NOT private WHERE id = ?", (task,)),
        ("UPDATE tasks SET owner = ? WHERE id = ?", (rng.choice(["u1", "u2"]), task)),
        ("DELETE FROM tasks WHERE votes > ?", (votes,)),
    ]
    return rng.sample(choices, rng.choice([1, 1, 2, 4]))


def run_all(work: list[tuple[str, tuple[Any, ...]]], sql: Any) -> None:
    for query, params in work:
        sql(query, *params)


@pytest.mark.parametrize("seed", range(8))
async def test_copies_equal_what_their_users_may_see(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    async with open_board(tmp_path, poll_s=60) as board:
        copies = [
            Copy(board, "u1", [WINDOW]),
            Copy(board, "u2", [PLAIN, NARROW]),
            Copy(board, "u2", []),
        ]
        for copy in copies:
            await copy.open()
        for step in range(120):
            copy = rng.choice(copies)
            kind = rng.random()
            if kind < 0.4:
                work = statements(rng)
                await board.documents.write(DOC, partial(run_all, work))
            elif kind < 0.55:
                with closing(sqlite3.connect(tmp_path / "board%2f1.sqlite")) as conn:
                    run_all(statements(rng), lambda query, *params: conn.execute(query, params))
                    conn.commit()
            elif kind < 0.8:
                await copy.commit(rng, f"s{step}")
            elif kind < 0.86:
                await asyncio.gather(  # their jobs share transactions
                    *(each.commit(rng, f"s{step}-{number}") for number, each in enumerate(copies)),
                    board.documents.write(DOC, partial(run_all, statements(rng))),
                )
            elif kind < 0.9:
                await copy.change_subsets(rng)
            elif kind < 0.95:
                await copy.come_back()
            elif kind < 0.97:
                await board.documents.compact(DOC)
            else:
                await board.documents.new_history(DOC)
            for each in copies:
                await each.read(rng, 0.15)
            # What others have written is numbered before each job; this takes it in everywhere.
            await board.documents.compact(DOC)
            for each in copies:
                await each.read(rng, 0.0)
                if rng.random() < 0.3:
                    await each.pull()
                    await each.check()
        for each in copies:
            await each.pull()
            await each.check()

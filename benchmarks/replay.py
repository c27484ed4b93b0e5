"""Replay documents: `python -m benchmarks.replay`. One run; wall time, and CPU time beside it.

Running actions on a client that keeps them in a file; merging 1,000 pending actions with 1,000 of
others, wherever they are run; one late arrival, by how much lies after it; opening 50,000 rows; and
a server that stores each commit on disk before it answers.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from patches import Patches
from patches.algorithms.replay import Actions, ReplayAlgorithm, ReplayDoc, Tx
from patches.algorithms.replay.changes import action_metadata
from patches.algorithms.replay.clock import Clock
from patches.algorithms.replay.running import Invocation
from patches.algorithms.replay.timeline import Entry, Timeline
from patches.model.change import Change, ChangeInput, Snapshot
from patches.options import DocOptions
from patches.rows import Schema
from patches.rows.working_copy import WorkingCopy
from patches_server.replay.server import ReplayServer
from patches_server.stores.sqlite.backend import SqliteBackend

DOC: Final = "lists/1"
ROWS: Final = 50_000
MANY: Final = 1_000
START_MS: Final = 1_700_000_000_000

schema = Schema("todos")
actions = Actions(schema)


@schema.table("todos", identity=("slot",))
class Todo:
    """A row of ordinary size."""

    id: str
    slot: str
    title: str
    done: bool = False
    votes: int = 0


@actions.define("add")
def add(tx: Tx, *, slot: str, title: str) -> str:
    """Insert one row."""
    return tx.todos.insert(slot=slot, title=title)


async def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures: Sequence[tuple[str, str, Callable[[Path], Awaitable[str]]]] = (
            ("client, SQLite file, insert of one row", "3,000/s", _client),
            ("1,000 pending merged with 1,000 of others, run by the server", "2 s", _merge_server),
            ("the same, run by who commits them", "2 s", _merge_client),
            ("the server commits 1,000 before 1,000 of others", "2 s", _merge_on_server),
            ("a late arrival before 10, 100, 1,000 of 50,000 rows", "in proportion", _late),
            ("open 50,000 rows from the store", "1.5 s", _open),
            ("server, SQLite, 64 documents, one action a commit", "1,500/s", _server_many),
            ("server, SQLite, one document, 50 actions a commit", "1,500/s", _server_one),
        )
        for place, (title, goal, measure) in enumerate(figures):
            each = folder / str(place)
            each.mkdir()
            print(f"{title:62} {await measure(each):>26}   goal {goal}", flush=True)


class Watch:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def took(self) -> str:
        """The time until now."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return f"{wall:.2f} s (CPU {cpu:.2f})"

    def rate(self, count: int) -> str:
        """So many things until now, by the second."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return f"{count / wall:,.0f}/s (CPU {count / cpu:,.0f})"


async def _client(folder: Path) -> str:
    async with Patches(folder / "client.db", algorithms=[ReplayAlgorithm(actions)]) as patches:
        doc = await _opened(patches)
        watch, count = Watch(), 6_000
        for number in range(count):
            doc.run(add, slot=f"s{number}", title=f"Task {number}")
            if number % 100 == 99:
                await doc.flush()
        await doc.flush()
        return watch.rate(count)


async def _opened(patches: Patches) -> ReplayDoc:
    doc = await patches.open_doc(DOC, algorithm="replay")
    assert isinstance(doc, ReplayDoc)
    return doc


def _foreign(
    ms: int, count: int, client: str, *, more: dict[str, Any] | None = None
) -> list[Change]:
    """Actions as a server has committed them, a millisecond after each other."""
    made = []
    timeline = Timeline(WorkingCopy(schema))
    for number in range(count):
        clock = Clock(ms + number, 0, client)
        args = {"slot": f"{client}{number}", "title": f"Of {client}, {number}"}
        change_id = f"{client}{number}"
        entry = _entry(change_id, clock, args)
        timeline.place(entry)
        made.append(
            Change(
                id=change_id,
                ops=entry.ops,
                base_rev=number,
                rev=number + 1,
                created_at=clock.ms,
                committed_at=clock.ms,
                metadata={**action_metadata("add@1", args, clock), **(more or {})},
            )
        )
    timeline.copy.close()
    return made


def _entry(change_id: str, clock: Clock, args: dict[str, Any]) -> Entry:
    invocation = Invocation(
        change_id=change_id,
        action=actions.action_of("add@1"),
        args=args,
        now=clock.ms,
        author=None,
        rights=None,
    )
    return Entry(id=change_id, key=clock.key(change_id), invocation=invocation)


async def _merge(folder: Path, *, more: dict[str, Any]) -> str:
    """The client is online again: what it has made lies before and between what others did."""
    async with Patches(folder / "client.db", algorithms=[ReplayAlgorithm(actions)]) as patches:
        doc = await _opened(patches)
        for number in range(MANY):
            doc.run(add, slot=f"own{number}", title=f"Own {number}")
        await doc.flush()
        algorithm = patches.algorithm_of(DOC)
        now = int(time.time() * 1000)
        changes = _foreign(now + 1, MANY, "other", more=more)
        watch = Watch()
        await algorithm.apply_server_changes(DOC, changes, doc)
        batch = await algorithm.next_batch(DOC, doc, DocOptions(max_payload_bytes=10_000_000))
        took = watch.took()
        assert len(doc.state["todos"]) == 2 * MANY
        assert batch
        return took


async def _merge_server(folder: Path) -> str:
    return await _merge(folder, more={})


async def _merge_client(folder: Path) -> str:
    return await _merge(folder, more={"runner": "client"})


async def _merge_on_server(folder: Path) -> str:
    backend = SqliteBackend(folder / "server.db", durability="full")
    server = ReplayServer(backend, actions)
    await server.commit_changes(DOC, _inputs(START_MS + MANY, MANY, "others"))
    watch = Watch()
    for half in (0, MANY // 2):
        await server.commit_changes(DOC, _inputs(START_MS + half, MANY // 2, f"late{half}"))
    took = watch.took()
    assert len((await server.state(DOC))["todos"]) == 2 * MANY
    await backend.close()
    return took


def _inputs(ms: int, count: int, client: str) -> list[ChangeInput]:
    return [
        ChangeInput(
            id=f"{client}-{number}",
            ops=[],
            base_rev=0,
            created_at=ms + number,
            metadata=action_metadata(
                "add@1",
                {"slot": f"{client}{number}", "title": "x"},
                Clock(ms + number, 0, client),
            ),
        )
        for number in range(count)
    ]


async def _late(_folder: Path) -> str:
    copy = WorkingCopy(schema)
    copy.load(_rows())
    timeline = Timeline(copy)
    for number in range(MANY):
        clock = Clock(START_MS + number * 10, 0, "a")
        timeline.place(_entry(f"a{number}", clock, {"slot": f"a{number}", "title": "x"}))
    shown = []
    for after in (10, 100, MANY):
        took = []
        for number in range(3):
            clock = Clock(START_MS + (MANY - after) * 10 - 5, number, "late")
            change_id = f"late{after}-{number}"
            entry = _entry(change_id, clock, {"slot": change_id, "title": "x"})
            began = time.process_time()
            timeline.place(entry)
            took.append(time.process_time() - began)
            timeline.remove({change_id})
        shown.append(f"{min(took) * 1000:.1f}")
    copy.close()
    return f"{', '.join(shown)} ms of CPU"


def _rows() -> dict[str, dict[str, Any]]:
    source = random.Random(1)
    return {
        "todos": {
            f"t{number:06}": {
                "id": f"t{number:06}",
                "slot": f"s{number}",
                "title": f"Task number {number}",
                "done": number % 3 == 0,
                "votes": source.randrange(10_000),
            }
            for number in range(ROWS)
        }
    }


async def _open(folder: Path) -> str:
    file = folder / "client.db"
    async with Patches(file, algorithms=[ReplayAlgorithm(actions)]) as patches:
        doc = await _opened(patches)
        snapshot = Snapshot(state=_rows(), rev=1)
        await patches.algorithm_of(DOC).install_snapshot(DOC, snapshot, doc)
    async with Patches(file, algorithms=[ReplayAlgorithm(actions)]) as patches:
        watch = Watch()
        doc = await _opened(patches)
        opened = watch.took()
        doc.run(add, slot="one more", title="x")
        ready = watch.took()
        assert len(doc.state["todos"]) == ROWS + 1
        return f"{opened}, first action {ready}"


async def _server_many(folder: Path) -> str:
    backend = SqliteBackend(folder / "server.db", durability="full")
    server, each = ReplayServer(backend, actions), 40

    async def one(number: int) -> None:
        for change in _inputs(START_MS, each, f"c{number}"):
            await server.commit_changes(f"lists/{number}", [change])

    watch = Watch()
    await asyncio.gather(*(one(number) for number in range(64)))
    rate = watch.rate(64 * each)
    await backend.close()
    return rate


async def _server_one(folder: Path) -> str:
    backend = SqliteBackend(folder / "server.db", durability="full")
    server, count, most = ReplayServer(backend, actions), 3_000, 50
    inputs = _inputs(START_MS, count, "c")
    watch = Watch()
    for first in range(0, count, most):
        batch = [replace(change, base_rev=first) for change in inputs[first : first + most]]
        await server.commit_changes(DOC, batch)
    rate = watch.rate(count)
    await backend.close()
    return rate


if __name__ == "__main__":
    asyncio.run(main())

"""How large an LWW document's database becomes while it is written for months.

    python benchmarks/lww_compaction.py                      # a minute
    python benchmarks/lww_compaction.py --writes 10000000    # 10 million writes to 1,000 fields

Writes go through `LWWServer`, a hundred changes of one op in a commit, to a SQLite file. Simulated
time passes so that a run covers 120 days whatever its length: change ids and removals are kept for
30. Of each hundred writes, 90 set one of the fields, 8 increment one, and 2 make a field that was
never there before and remove it again. Prints the size of the file (and its log) as it goes.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from patches.model.change import ChangeInput
from patches.model.json_values import Op
from patches.runtime import Millis, Runtime
from patches_server.lww import LWWServer
from patches_server.stores.sqlite.backend import SqliteBackend

DAY_MS = 86_400_000
DAYS = 120
BATCH = 100


class Simulated:
    """A clock that the writes move."""

    def __init__(self) -> None:
        self.now: Millis = 1_700_000_000_000


def batch_of_ops(source: random.Random, fields: int, serial: int) -> Iterator[Op]:
    """A hundred writes, as the module says."""
    for _ in range(BATCH - 10):
        path = f"/field{source.randrange(fields):04}"
        yield {"op": "replace", "path": path, "value": {"n": source.random(), "text": "some text"}}
    for _ in range(8):
        yield {"op": "@inc", "path": f"/count{source.randrange(10)}", "value": 1}
    yield {"op": "replace", "path": f"/brief{serial}", "value": serial}
    yield {"op": "remove", "path": f"/brief{serial}"}


async def counted(backend: SqliteBackend) -> tuple[int, int, int]:
    """Rows, removals among them, and change ids."""
    row: tuple[int, int, int] = await backend.database.read(
        lambda conn: conn.execute(
            "SELECT (SELECT count(*) FROM lww_rows), "
            "(SELECT count(*) FROM lww_rows WHERE droppable = 1), "
            "(SELECT count(*) FROM lww_change_ids)"
        ).fetchone()
    )
    return row


def size_of(path: Path) -> float:
    """MiB of the database and its log."""
    files = [path, path.with_name(path.name + "-wal")]
    return sum(file.stat().st_size for file in files if file.exists()) / 2**20


async def run(writes: int, fields: int, folder: Path) -> None:
    """Write, and print a line twenty times."""
    clock, source, path = Simulated(), random.Random(1), folder / "lww.db"
    runtime = Runtime(wall_ms=lambda: clock.now, random=source)
    backend = SqliteBackend(path, durability="relaxed", runtime=runtime)
    server = LWWServer(backend, runtime=runtime)
    batches = writes // BATCH
    began = time.perf_counter()
    print(f"{'writes':>12} {'days':>5} {'MiB':>8} {'rows':>7} {'removals':>9} {'change ids':>11}")
    for number in range(1, batches + 1):
        changes = [
            ChangeInput(id=f"{number:x}.{index:x}", ops=[op], base_rev=number - 1)
            for index, op in enumerate(batch_of_ops(source, fields, number))
        ]
        await server.commit_changes("doc", changes)
        clock.now += DAYS * DAY_MS // batches
        if number % max(1, batches // 20) == 0:
            rows, removals, ids = await counted(backend)
            days = DAYS * number / batches
            print(
                f"{number * BATCH:12,} {days:5.0f} {size_of(path):8.1f} "
                f"{rows:7,} {removals:9,} {ids:11,}",
                flush=True,
            )
    took = time.perf_counter() - began
    await backend.close()
    print(f"{writes / took:,.0f} writes/s, {size_of(path):.1f} MiB at the end")


def main() -> None:
    parser = argparse.ArgumentParser(description="the size of an LWW database over months")
    parser.add_argument("--writes", type=int, default=200_000)
    parser.add_argument("--fields", type=int, default=1_000)
    arguments = parser.parse_args()
    logging.getLogger("patches_server.clock").setLevel(logging.ERROR)  # time leaps on purpose
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(arguments.writes, arguments.fields, Path(folder)))


if __name__ == "__main__":
    main()

"""What a log in memory takes, measured against its bytes in a file."""

from __future__ import annotations

import gc
import time
import tracemalloc
from pathlib import Path
from typing import Any

from patches.model import codec
from patches.model.change import ChangeInput
from patches_server.documents.context import CallContext, call_context
from patches_server.ot.server import OTServer
from patches_server.stores.memory.backend import MemoryBackend
from patches_server.stores.sqlite.backend import SqliteBackend

CHANGES = 1_500
WARM_UP = 400  # after that, what is kept of the end of the log is as much as it will be


async def write(server: OTServer, first: int, number: int) -> None:
    now = int(time.time() * 1000)
    for rev in range(first, first + number):
        ops: list[Any] = [{"op": "replace", "path": f"/c{rev % 10}", "value": rev}]
        if rev == 0:
            ops = [{"op": "replace", "path": "", "value": {}}]
        wire = {"id": f"{rev:06x}-{rev:010d}", "ops": ops, "baseRev": rev, "createdAt": now + rev}
        change = ChangeInput.from_wire(codec.decode(codec.encode(wire)))
        await server.commit_changes("d", [change])


async def bytes_in_file(path: Path, changes: int) -> int:
    """The size of a file with a log of so many changes."""
    backend = SqliteBackend(path, durability="relaxed")
    await write(OTServer(backend, max_changes_per_version=0), 0, changes)
    await backend.close()
    return path.stat().st_size  # noqa: ASYNC240  # nobody waits


async def test_a_log_in_memory_takes_at_most_three_times_its_bytes_in_a_file(
    tmp_path: Path,
) -> None:
    """Measured: 1.8 times."""
    server = OTServer(MemoryBackend(), max_changes_per_version=0)
    with call_context(CallContext(client_id="abcdefghijklmn", connection_id="abcdefghijklmn")):
        await write(server, 0, WARM_UP)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await write(server, WARM_UP, CHANGES)
            for change in await server.get_changes_since("d", WARM_UP):
                assert change.ops, "who looks at operations does not make the log larger"
            del change
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        small = await bytes_in_file(tmp_path / "small.db", WARM_UP)
        large = await bytes_in_file(tmp_path / "large.db", WARM_UP + CHANGES)
    ratio = taken / (large - small)
    assert ratio <= 3, f"{taken / CHANGES:.0f} bytes for {(large - small) / CHANGES:.0f}"

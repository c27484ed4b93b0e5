"""Commits to one document on SQLite: one transaction each, and as many in one as wait for the disk.

`python -m benchmarks.hot_document` prints commits per second, wall clock, of 32 connections that
write to one document at the same time, each when its commit before is answered: with a store that
says that it can take several in one transaction, and with one that does not.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from patches.model import codec
from patches.runtime import Runtime
from patches.stores.sqlite.database import Durability
from patches.testing.local_server import LocalServer
from patches_server.cli.main import SWITCH_INTERVAL_S
from patches_server.lww.stores.sqlite import LWWSqliteServerStore
from patches_server.ot.stores.sqlite import OTSqliteServerStore
from patches_server.service.json_rpc import JsonRpcPeer
from patches_server.stores.sqlite.backend import SqliteBackend

AUTHORS: Final = 32
COMMITS: Final = 640 if os.environ.get("QUICK") else 3_200
ROUNDS: Final = 3


async def main() -> None:
    """Print the table."""
    print("| algorithm, durability | one each (commits/s) | in groups (commits/s) | ratio |")
    print("| --- | --- | --- | --- |")
    durabilities: tuple[Durability, ...] = ("full", "relaxed")
    for algorithm in ("ot", "lww"):
        for durability in durabilities:
            alone, together = 0.0, 0.0
            for _ in range(ROUNDS):
                alone = max(alone, await rate(algorithm, durability, in_groups=False))
                together = max(together, await rate(algorithm, durability, in_groups=True))
            ratio = together / alone
            print(
                f"| {algorithm}, {durability} | {alone:,.0f} | {together:,.0f} | {ratio:.1f} |",
                flush=True,
            )


class OTOneByOne(OTSqliteServerStore):
    """Does not say that it saves in order."""


class LWWOneByOne(LWWSqliteServerStore):
    """Does not say that it decides in order."""


async def rate(algorithm: str, durability: Durability, *, in_groups: bool) -> float:
    """Commits per second to one document."""
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime()
        backend = SqliteBackend(Path(folder, "server.db"), durability=durability, runtime=runtime)
        if not in_groups:
            store: Any = OTOneByOne if algorithm == "ot" else LWWOneByOne
            backend.stores[algorithm] = store(backend.database, backend.versions, backend.branches)
        async with LocalServer(backend, runtime=runtime, relay=False) as server:
            peers = [server.server.connect() for _ in range(AUTHORS)]
            await write(peers[0], algorithm, "first", 3)
            number = COMMITS // AUTHORS
            start = time.perf_counter()
            await asyncio.gather(
                *(write(peer, algorithm, f"a{at}", number) for at, peer in enumerate(peers))
            )
            return COMMITS / (time.perf_counter() - start)


async def write(peer: JsonRpcPeer, algorithm: str, name: str, number: int) -> None:
    """Commit so many changes, each when the one before is answered."""
    rev = 0
    for at in range(number):
        op: dict[str, Any] = {"op": "replace", "path": f"/{name}", "value": at}
        change: dict[str, Any] = {"id": f"{name}-{at}", "ops": [op]}
        if rev:
            change["baseRev"] = rev
        params = [f"{algorithm}/hot", [change], {"algorithm": algorithm}]
        call = {"jsonrpc": "2.0", "id": at, "method": "commitChanges", "params": params}
        await peer.receive(codec.encode(call))
        frame = await peer.outbox.get()
        assert frame is not None
        rev = codec.decode(frame)["result"]["changes"][-1]["rev"]


if __name__ == "__main__":
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the command does
    asyncio.run(main())

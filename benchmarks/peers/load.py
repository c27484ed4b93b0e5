"""The clients and authors of a workload, and what they and the server have used."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.common import (
    DocView,
    PeerClient,
    cpu_seconds,
    make_edit,
    mulberry32,
    now_ms,
    rss_mib,
    until,
    wire_counters,
)


@dataclass(slots=True)
class Mark:
    """What was used up to a moment."""

    server_cpu: float
    client_cpu: float
    at: float
    wire: dict[str, int]


class Load:
    """The clients of one run, and what they and the server have used."""

    def __init__(self, peer: str, url: str, params: dict[str, Any]) -> None:
        self.module = importlib.import_module(f"benchmarks.peers.{peer}")
        self.url = url
        self.params = params
        self.pid = int(params["pid"])
        self.clients: list[PeerClient] = []
        self.wake: asyncio.Future[None] | None = None

    async def connect(self) -> PeerClient:
        client: PeerClient = self.module.Client(self.url)
        await client.start()
        self.clients.append(client)
        return client

    async def open_ready(self, client: PeerClient, doc_id: str, *, first: bool) -> DocView:
        doc = await client.open(doc_id)
        if first:
            await doc.init()
        await until(doc.ready, 10_000, "ready")
        return doc

    def wire(self) -> dict[str, int]:
        total = wire_counters()
        for client in self.clients:
            for key in total:
                total[key] += client.wire[key]
        return total

    def mark(self) -> Mark:
        return Mark(cpu_seconds(self.pid), cpu_seconds(os.getpid()), now_ms(), self.wire())

    def usage(self, since: Mark, units: int) -> dict[str, Any]:
        wire = {key: value - since.wire[key] for key, value in self.wire().items()}
        server = cpu_seconds(self.pid) - since.server_cpu
        client = cpu_seconds(os.getpid()) - since.client_cpu
        return {
            "server_cpu_s_per_1000": round(server * 1000 / units, 4),
            "client_cpu_s_per_1000": round(client * 1000 / units, 4),
            "bytes_per_commit": round((wire["in"] + wire["out"]) / units),
            "frames_per_commit": round((wire["frames_in"] + wire["frames_out"]) / units, 2),
            "server_rss_mb": round(rss_mib(self.pid), 1),
        }

    async def idle(self) -> None:
        """Until an update arrives somewhere, or 2 ms pass: client CPU is the library's own."""
        loop = asyncio.get_running_loop()
        self.wake = loop.create_future()
        timer = loop.call_later(0.002, self.woken)
        await self.wake
        timer.cancel()
        self.wake = None

    def woken(self) -> None:
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)


class Writer:
    """One author of one document: what it sent, and what it has seen of the others."""

    def __init__(self, load: Load, slot: int, doc: DocView, kind: str, seed: int) -> None:
        self.load, self.doc, self.kind = load, doc, kind
        self.key = f"c{slot}"
        self.draw = mulberry32(seed)
        self.seq = 0
        self.sent_at = [0.0]
        self.others: list[Writer] = []
        self.seen: dict[str, int] = {}

    def link(self, writers: Sequence[Writer], latencies: list[float]) -> None:
        self.others = [writer for writer in writers if writer is not self]
        self.seen = dict.fromkeys((writer.key for writer in self.others), 0)

        def updated() -> None:
            at = now_ms()
            for other in self.others:
                value, seen = int(self.doc.get(other.key) or 0), self.seen[other.key]
                if value > seen:
                    latencies.extend(at - other.sent_at[n] for n in range(seen + 1, value + 1))
                    self.seen[other.key] = value
            self.load.woken()

        self.doc.on_update(updated)

    def outstanding(self) -> int:
        if not self.others:
            return int(self.doc.pending())
        return self.seq - min(other.seen[self.key] for other in self.others)

    def edit(self) -> None:
        self.seq += 1
        edit = make_edit(self.kind, self.draw, self.key, self.seq, self.doc)
        self.sent_at.append(now_ms())
        self.doc.edit(edit)


async def drained(writers: Sequence[Writer]) -> bool:
    """Whether everything arrives everywhere in time."""
    try:
        await until(
            lambda: all(w.outstanding() == 0 and not w.doc.pending() for w in writers),
            15_000,
            "drain",
        )
    except TimeoutError:
        return False
    return True

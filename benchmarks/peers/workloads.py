"""The workloads, for Python clients.

`python -m benchmarks.peers.workloads PEER URL WORKLOAD PARAMS`

The same as `node/load.mjs` does for JavaScript clients; prints one line of JSON. All clients of a
run are in this process and share one core.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from benchmarks.peers.common import (
    DocView,
    Edit,
    canonical,
    cpu_seconds,
    make_edit,
    mulberry32,
    now_ms,
    percentile,
    report,
    rss_mib,
    until,
)
from benchmarks.peers.load import Load, Mark, Writer, drained

WARM_UP_ROUNDS = 5


async def shared_document(load: Load) -> dict[str, Any]:
    """W1: `k` clients on one document."""
    kind, window = load.params.get("kind", "json"), load.params.get("window", 16)
    docs = [
        await load.open_ready(await load.connect(), "w1", first=number == 0)
        for number in range(load.params.get("k", 4))
    ]
    latencies: list[float] = []
    writers = [Writer(load, slot, doc, kind, 100 + slot) for slot, doc in enumerate(docs)]
    for writer in writers:
        writer.link(writers, latencies)
    since = load.mark()
    end = since.at + load.params.get("seconds", 3) * 1000
    while now_ms() < end:
        ready = [writer for writer in writers if writer.outstanding() < window]
        for writer in ready:
            writer.edit()
        await (asyncio.sleep(0) if ready else load.idle())
    figures = await _ended(load, since, writers, latencies)
    states = [canonical(doc.state()) for doc in docs]
    return {**figures, "converged": all(state == states[0] for state in states)}


async def many_documents(load: Load) -> dict[str, Any]:
    """W2: 200 documents, each open in 2 of 50 connections."""
    count, doc_count, window = 50, 200, 2
    clients = [await load.connect() for _ in range(count)]
    latencies: list[float] = []
    pairs: list[list[Writer]] = []
    by_client: list[list[Writer]] = [[] for _ in range(count)]
    for number in range(doc_count):
        first, second = number % count, (number * 7 + 13) % count
        if first == second:
            second = (second + 1) % count
        here = await load.open_ready(clients[first], f"d{number}", first=True)
        there = await load.open_ready(clients[second], f"d{number}", first=False)
        kind = load.params.get("kind", "json")
        pair = [
            Writer(load, 0, here, kind, number),
            Writer(load, 1, there, kind, number + 1000),
        ]
        for writer in pair:
            writer.link(pair, latencies)
        pairs.append(pair)
        by_client[first].append(pair[0])
        by_client[second].append(pair[1])
    draw = mulberry32(5)
    since = load.mark()
    end = since.at + load.params.get("seconds", 3) * 1000
    under_way: list[set[Writer]] = [set() for _ in range(count)]
    while now_ms() < end:
        did = False
        for number, mine in enumerate(by_client):
            under_way[number] = {writer for writer in under_way[number] if writer.outstanding()}
            if len(under_way[number]) < window and mine:
                writer = mine[int(draw() * len(mine))]
                if not writer.outstanding():
                    writer.edit()
                    under_way[number].add(writer)
                    did = True
        await (asyncio.sleep(0) if did else load.idle())
    figures = await _ended(load, since, [w for pair in pairs for w in pair], latencies)
    equal = all(canonical(a.doc.state()) == canonical(b.doc.state()) for a, b in pairs)
    return {**figures, "converged": equal}


async def _ended(
    load: Load, since: Mark, writers: Sequence[Writer], latencies: list[float]
) -> dict[str, Any]:
    all_arrived = await drained(writers)
    seconds = (now_ms() - since.at) / 1000
    commits = sum(writer.seq for writer in writers)
    usage = load.usage(since, commits)
    await asyncio.sleep(0.05)
    return {
        "commits": commits,
        "commits_per_s": round(commits / seconds),
        "p50_ms": percentile(latencies, 50),
        "p99_ms": percentile(latencies, 99),
        **usage,
        "drained": all_arrived,
    }


@dataclass(slots=True)
class _Waited:
    """What the subscribers of a fan-out are waiting for, and how many have not seen it."""

    mark: bytes = b""
    left: int = 0


async def fan_out(load: Load) -> dict[str, Any]:
    """W3: one writer, `subscribers` sockets that only listen."""
    subscribers, rounds, burst = load.params.get("subscribers", 500), 20, 40
    doc = await load.open_ready(await load.connect(), "w3", first=True)
    arrived = asyncio.Event()
    waited = _Waited()

    async def listen(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect(f"{load.url}/ws", max_msg_size=0) as socket:
            call = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": [["w3"]]}
            await socket.send_str(json.dumps(call))
            await socket.receive()
            waited.left -= 1
            arrived.set()
            last = b""
            async for message in socket:
                mark = waited.mark
                if mark and last != mark and mark in message.data.encode():
                    last = mark
                    waited.left -= 1
                    if waited.left == 0:
                        arrived.set()

    async def once(number: int) -> None:
        arrived.clear()
        waited.left, waited.mark = subscribers, b"MARK%06d" % number
        doc.edit(Edit(counter=("c0", number), field=("m", f"MARK{number:06d}")))
        await asyncio.wait_for(arrived.wait(), 20)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        waited.left = subscribers
        tasks = [asyncio.create_task(listen(session)) for _ in range(subscribers)]
        await until(lambda: waited.left == 0, 20_000, "subscribed")
        for number in range(WARM_UP_ROUNDS):
            await once(number)
        times = []
        for number in range(WARM_UP_ROUNDS, WARM_UP_ROUNDS + rounds):
            start = now_ms()
            await once(number)
            times.append(now_ms() - start)
            await until(lambda: not doc.pending(), 5_000, "confirmed")
        since = load.mark()
        first = WARM_UP_ROUNDS + rounds
        for number in range(first, first + burst):
            await once(number)
        usage = load.usage(since, burst * subscribers)
        seconds = (now_ms() - since.at) / 1000
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "one_to_all_p50_ms": percentile(times, 50),
        "deliveries_per_s": round(burst * subscribers / seconds),
        "server_us_per_delivery": round(usage["server_cpu_s_per_1000"] * 1000, 2),
        "server_rss_mb": usage["server_rss_mb"],
    }


async def cold_open(load: Load) -> dict[str, Any]:
    """W4: opening a document with a long history, on a server that has just started."""
    count = load.params["count"]

    def current(doc: DocView) -> Callable[[], object]:
        return lambda: doc.ready() and doc.get("c0") == count

    first = await load.connect()
    since = load.mark()
    start = now_ms()
    doc = await first.open("w4")
    await until(current(doc), 60_000, "open")
    cold, open_bytes = now_ms() - start, first.wire["in"]
    second = await load.connect()
    start = now_ms()
    again = await second.open("w4")
    await until(current(again), 60_000, "second open")
    warm = now_ms() - start
    return {
        "cold_open_ms": round(cold, 1),
        "warm_open_ms": round(warm, 1),
        "open_bytes": open_bytes,
        "state_bytes": len(canonical(doc.state())),
        "server_cpu_s": round(cpu_seconds(load.pid) - since.server_cpu, 2),
        "server_rss_mb": round(rss_mib(load.pid), 1),
    }


async def idle_memory(load: Load) -> dict[str, Any]:
    """W7: memory of the server for idle connections and open documents."""
    connections, documents = 300, 1000
    client = await load.connect()
    await load.open_ready(client, "w7", first=True)
    await asyncio.sleep(0.3)
    before = rss_mib(load.pid)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        sockets = []
        for _ in range(connections):
            socket = await session.ws_connect(f"{load.url}/ws")
            call = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": [["w7"]]}
            await socket.send_str(json.dumps(call))
            await socket.receive()
            sockets.append(socket)
        await asyncio.sleep(0.5)
        connected = rss_mib(load.pid)
        for number in range(documents):
            await load.open_ready(client, f"m{number}", first=True)
        await asyncio.sleep(0.5)
        opened = rss_mib(load.pid)
    return {
        "kib_per_idle_connection": round((connected - before) * 1024 / connections, 1),
        "kib_per_open_doc": round((opened - connected) * 1024 / documents, 1),
    }


async def reunion(load: Load) -> dict[str, Any]:
    """W8: edits made offline meet 1,000 foreign ones."""
    pending, foreign = load.params.get("pending", 1000), 1000
    author = await load.connect()
    other = await load.connect()
    mine = await load.open_ready(author, "w8", first=True)
    theirs = await load.open_ready(other, "w8", first=False)
    await author.offline()
    draw = mulberry32(1)
    for number in range(pending):
        mine.edit(make_edit("text" if number % 2 else "json", draw, "c0", number + 1, mine))
        if number % 50 == 49:
            await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    draw = mulberry32(2)
    for number in range(foreign):
        theirs.edit(make_edit("text" if number % 2 else "json", draw, "c1", number + 1, theirs))
        if number % 10 == 9:
            await asyncio.sleep(0.001)
    await until(lambda: not theirs.pending(), 30_000, "foreign edits")
    await asyncio.sleep(0.3)
    since = load.mark()
    await author.online()

    def equal() -> bool:
        arrived = mine.get("c1") == foreign and theirs.get("c0") == pending
        return arrived and not mine.pending()

    longest = await longest_turn(until(equal, load.params.get("limit", 60_000), "converge"))
    took = now_ms() - since.at
    await asyncio.sleep(0.1)
    return {
        "converge_ms": round(took),
        "longest_turn_ms": round(longest, 1),
        "server_cpu_s": round(cpu_seconds(load.pid) - since.server_cpu, 2),
        "client_cpu_s": round(cpu_seconds(os.getpid()) - since.client_cpu, 2),
        "converged": canonical(mine.state()) == canonical(theirs.state()),
    }


async def longest_turn(waited: Awaitable[None]) -> float:
    """The longest time, in ms, that the loop was away from a task that always wants to run."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            start = now_ms()
            await asyncio.sleep(0)
            longest = max(longest, now_ms() - start)

    watcher = asyncio.create_task(watch())
    try:
        await waited
    finally:
        watcher.cancel()
    return longest


WORKLOADS: dict[str, Callable[[Load], Awaitable[dict[str, Any]]]] = {
    "W1": shared_document,
    "W2": many_documents,
    "W3": fan_out,
    "W4": cold_open,
    "W7": idle_memory,
    "W8": reunion,
}


async def main(peer: str, url: str, workload: str, params: dict[str, Any]) -> None:
    try:
        report(await WORKLOADS[workload](Load(peer, url, params)))
    except Exception as error:
        if os.environ.get("DEBUG"):
            raise
        report({"error": f"{type(error).__name__}: {error}"})
    sys.stdout.flush()
    os._exit(0)  # nothing of a peer's own shutdown is measured or waited for


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])))

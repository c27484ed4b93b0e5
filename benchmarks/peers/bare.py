"""A bound, not a peer: the least that a Python server can do and still answer the protocol.

No transform (edits must keep to paths of their own), no rights, no checks, no versions. Each change
is encoded once; the same bytes are the log, the broadcast and every answer. With `durability` the
rows go into SQLite on one thread, all commits that wait at that moment in one transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from benchmarks.peers.ours import Client as Client

Row = tuple[str, int, str, bytes]
Save = Callable[[list[Row], Callable[[], None]], None]
_SCHEMA = "CREATE TABLE changes (doc, rev INTEGER, id, body, PRIMARY KEY (doc, rev)) WITHOUT ROWID"


class _Doc:
    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.subscribers: set[asyncio.Transport] = set()


def text_frame(body: bytes) -> bytes:
    """A websocket text frame, unmasked (RFC 6455, 5.2)."""
    size = len(body)
    if size < 126:
        return bytes((0x81, size)) + body
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + body
    return b"\x81\x7f" + size.to_bytes(8, "big") + body


async def start_server(params: dict[str, Any]) -> tuple[int, object]:
    """Serve; `params`: `dir` and `durability` (none: memory only)."""
    docs: dict[str, _Doc] = {}
    kept: list[object] = []
    durability = params.get("durability")
    save = _saver(Path(params["dir"]), durability, kept) if durability else None

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, heartbeat=None, max_msg_size=0)
        await socket.prepare(request)
        assert request.transport is not None
        await _serve(socket, request.transport, docs, save)
        return socket

    app = web.Application()
    app.router.add_get("/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner.addresses[0][1], (runner, kept)


def _saver(folder: Path, durability: str, kept: list[object]) -> Save:
    database = sqlite3.connect(folder / "bare.db", isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={'FULL' if durability == 'full' else 'NORMAL'}")
    database.execute(_SCHEMA)
    database.execute("CREATE UNIQUE INDEX ids ON changes (doc, id)")
    waiting: list[tuple[list[Row], Callable[[], None]]] = []
    wake = asyncio.Event()
    thread = ThreadPoolExecutor(1)

    def write(rows: list[Row]) -> None:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO changes VALUES (?, ?, ?, ?)", rows)
        database.execute("COMMIT")

    async def writer() -> None:
        loop = asyncio.get_running_loop()
        while True:
            await wake.wait()
            wake.clear()
            batch = waiting[:]
            waiting.clear()
            await loop.run_in_executor(thread, write, [row for rows, _ in batch for row in rows])
            for _, answer in batch:
                answer()

    def save(rows: list[Row], answer: Callable[[], None]) -> None:
        waiting.append((rows, answer))
        wake.set()

    kept.append(asyncio.create_task(writer()))
    return save


async def _serve(
    socket: web.WebSocketResponse,
    transport: asyncio.Transport,
    docs: dict[str, _Doc],
    save: Save | None,
) -> None:
    mine: list[_Doc] = []
    client_id = f"c{id(transport):x}"
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        call = orjson.loads(message.data)
        method, params, call_id = call["method"], call.get("params") or [], call.get("id")
        if method == "commitChanges":
            _commit(docs, transport, client_id, params, call_id, save)
            continue
        doc = docs.setdefault(params[0], _Doc()) if isinstance(params[0], str) else None
        if method == "subscribe":
            ids = params[0] if isinstance(params[0], list) else [params[0]]
            for doc_id in ids:
                subscribed = docs.setdefault(doc_id, _Doc())
                subscribed.subscribers.add(transport)
                mine.append(subscribed)
            result = orjson.dumps(ids)
        elif method == "getDoc" and doc:
            result = b'{"state":null,"rev":0,"changes":[' + b",".join(doc.log) + b"]}"
        elif method == "getChangesSince" and doc:
            result = b"[" + b",".join(doc.log[params[1] :]) + b"]"
        else:
            result = b"null"
        transport.write(text_frame(b'{"jsonrpc":"2.0","result":' + result + b',"id":%d}' % call_id))
    for doc in mine:
        doc.subscribers.discard(transport)


def _commit(
    docs: dict[str, _Doc],
    transport: asyncio.Transport,
    client_id: str,
    params: list[Any],
    call_id: int,
    save: Save | None,
) -> None:
    doc_id, changes = params[0], params[1]
    doc = docs.setdefault(doc_id, _Doc())
    missed = doc.log[changes[0].get("baseRev", len(doc.log)) :]
    committed: list[bytes] = []
    rows: list[Row] = []
    at = int(time.time() * 1000)
    for change in changes:
        rev = len(doc.log) + len(committed) + 1
        change.update(rev=rev, committedAt=at, clientId=client_id)
        committed.append(orjson.dumps(change))
        rows.append((doc_id, rev, change["id"], committed[-1]))
    doc.log.extend(committed)

    def answer() -> None:
        told = b'{"jsonrpc":"2.0","method":"changesCommitted","params":{"docId":'
        told += orjson.dumps(doc_id) + b',"changes":[' + b",".join(committed) + b"]}}"
        frame = text_frame(told)
        for subscriber in doc.subscribers:
            if subscriber is not transport:
                subscriber.write(frame)
        result = b",".join(missed + committed)
        transport.write(
            text_frame(
                b'{"jsonrpc":"2.0","result":{"changes":[' + result + b']},"id":%d}' % call_id
            )
        )

    if save is None:
        answer()
    else:
        save(rows, answer)

"""pycrdt with pycrdt-websocket (server) and `pycrdt.Provider` (client), over `websockets`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import websockets
from pycrdt import Array, Doc, Map, Provider, Text
from pycrdt.websocket import WebsocketServer

from benchmarks.peers.common import DocView, Edit, Wire, initial_state, wire_counters


class Channel:
    """pycrdt's channel over a connection of `websockets`."""

    def __init__(self, socket: Any, path: str, wire: Wire | None = None) -> None:
        self.socket, self.path, self.wire = socket, path, wire

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self.recv()
        except websockets.ConnectionClosed:
            raise StopAsyncIteration from None

    async def send(self, message: bytes) -> None:
        if self.wire is not None:
            self.wire["out"] += len(message)
            self.wire["frames_out"] += 1
        with contextlib.suppress(websockets.ConnectionClosed):
            await self.socket.send(message)

    async def recv(self) -> bytes:
        message = await self.socket.recv()
        if self.wire is not None:
            self.wire["in"] += len(message)
            self.wire["frames_in"] += 1
        return bytes(message)


async def start_server(params: dict[str, Any]) -> tuple[int, object]:
    """Serve, in memory."""
    server = WebsocketServer(auto_clean_rooms=False)
    await server.__aenter__()

    async def handler(socket: Any) -> None:
        await server.serve(Channel(socket, socket.request.path))

    listening = await websockets.serve(handler, "127.0.0.1", 0, compression=None, max_size=None)
    port: int = next(iter(listening.sockets)).getsockname()[1]
    return port, (server, listening)


class Client:
    """One client; each document has a socket of its own, as the package has it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.wire = wire_counters()
        self.docs: list[Handle] = []

    async def start(self) -> None:
        pass

    async def open(self, doc_id: str) -> DocView:
        handle = Handle(self, doc_id)
        self.docs.append(handle)
        await handle.connect()
        return handle

    async def offline(self) -> None:
        for handle in self.docs:
            await handle.disconnect()

    async def online(self) -> None:
        for handle in self.docs:
            await handle.connect()


class Handle:
    """One open document."""

    def __init__(self, client: Client, doc_id: str) -> None:
        self.client, self.id = client, doc_id
        self.doc: Any = Doc()
        self.root: Any = self.doc.get("root", type=Map)
        self.items: Any = self.doc.get("items", type=Array)
        self.text: Any = self.doc.get("text", type=Text)

    async def connect(self) -> None:
        url = f"{self.client.url}/{self.id}"
        self.socket = await websockets.connect(url, compression=None, max_size=None)
        self.provider = Provider(self.doc, Channel(self.socket, self.id, self.client.wire))
        self.task = asyncio.create_task(self.provider.start())
        await self.provider.synced.wait()

    async def disconnect(self) -> None:
        with contextlib.suppress(Exception):  # whatever its own shutdown raises
            await self.provider.stop()
        await self.socket.close()

    async def init(self) -> None:
        with self.doc.transaction():
            for key, value in initial_state().items():
                if key != "items":
                    self.root[key] = value

    def ready(self) -> bool:
        return self.root.get("c0") is not None

    def edit(self, edit: Edit) -> None:
        with self.doc.transaction():
            self.root[edit.counter[0]] = edit.counter[1]
            if edit.field:
                self.root[edit.field[0]] = edit.field[1]
            if edit.insert_item:
                self.items.insert(*edit.insert_item)
            if edit.remove_item is not None:
                del self.items[edit.remove_item]
            if edit.insert_text:
                self.text.insert(*edit.insert_text)
            if edit.remove_text:
                start, length = edit.remove_text
                del self.text[start : start + length]

    def get(self, key: str) -> Any:
        return self.root.get(key)

    def list_length(self) -> int:
        return len(self.items)

    def text_length(self) -> int:
        return len(self.text)

    def on_update(self, callback: Callable[[], None]) -> None:
        # The document cannot be read inside its own observer: look in the next turn of the loop.
        loop = asyncio.get_running_loop()
        due = False

        def run() -> None:
            nonlocal due
            due = False
            callback()

        def changed(_event: object) -> None:
            nonlocal due
            if not due:
                due = True
                loop.call_soon(run)

        self.subscription = self.doc.observe(changed)

    def pending(self) -> bool:
        return False

    def state(self) -> Any:
        return {**self.root.to_py(), "items": self.items.to_py(), "text": str(self.text)}

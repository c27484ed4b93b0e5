"""Peers that talk to a server frame by frame, with no client and no socket: to test the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from patches.model import codec
from patches_server.service.json_rpc import JsonRpcPeer
from patches_server.service.server import PatchesServer


class RawPeer:
    """A peer: sends frames to a session and reads what its outbox holds."""

    def __init__(self, session: JsonRpcPeer) -> None:
        self.session = session
        self._id = 0
        self._unread: list[Any] = []

    @property
    def id(self) -> str:
        return self.session.connection_id

    async def send(self, frame: Any) -> None:
        """Send a frame: bytes or text as they are, anything else as JSON."""
        await self.session.receive(
            frame if isinstance(frame, (bytes, str)) else codec.encode(frame)
        )

    async def start(self, method: str, *params: Any) -> int:
        """Send a request; its id."""
        self._id += 1
        frame: dict[str, Any] = {"jsonrpc": "2.0", "id": self._id, "method": method}
        if params:
            frame["params"] = list(params)
        await self.send(frame)
        return self._id

    async def call(self, method: str, *params: Any) -> Any:
        """The whole answer to a request."""
        return await self.answer(await self.start(method, *params))

    async def result(self, method: str, *params: Any) -> Any:
        answer = await self.call(method, *params)
        assert "error" not in answer, answer
        return answer.get("result")

    async def error(self, method: str, *params: Any) -> Any:
        return (await self.call(method, *params))["error"]

    async def answer(self, request_id: Any) -> Any:
        """The answer to a request; other frames stay unread."""
        return await self._first(lambda frame: frame.get("id", ...) == request_id)

    async def notification(self, method: str) -> Any:
        """The params of the next notification of this kind."""
        return (await self._first(lambda frame: frame.get("method") == method))["params"]

    async def next(self) -> Any:
        return await self._first(lambda _: True)

    async def next_bytes(self) -> bytes:
        async with asyncio.timeout(5):
            frame = await self.session.outbox.get()
        assert frame is not None, "closed"
        return frame

    async def _first(self, wanted: Callable[[Any], bool]) -> Any:
        while True:
            for index, frame in enumerate(self._unread):
                if wanted(frame):
                    return self._unread.pop(index)
            self._unread.append(codec.decode(await self.next_bytes()))

    def unread(self, method: str | None = None) -> list[Any]:
        """What has arrived and was not read."""
        while (frame := self.session.outbox.get_nowait()) is not None:
            self._unread.append(codec.decode(frame))
        return [item for item in self._unread if method in (None, item.get("method"))]


class Peers:
    """A running server, called to connect a peer to it."""

    def __init__(self, server: PatchesServer) -> None:
        self.server = server

    def __call__(self, principal: object = None) -> RawPeer:
        return RawPeer(self.server.connect(principal))

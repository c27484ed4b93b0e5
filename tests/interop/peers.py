"""Who takes part: a client of the original's kind, one of ours, and a bare socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import aiohttp

from patches import Document, Patches, PatchesSync
from patches.errors import NetworkError
from patches.model.json_values import Json, Op
from tests.interop.original.client import OriginalClient
from tests.interop.original.rpc import OriginalRpc


class Peer(Protocol):
    """A client of either kind."""

    name: str

    async def open(self, doc_id: str, algorithm: str = "ot") -> None: ...
    def change(self, doc_id: str, *ops: Op) -> None: ...
    def state(self, doc_id: str) -> Json: ...
    def committed_rev(self, doc_id: str) -> int: ...
    def is_settled(self, doc_id: str) -> bool: ...
    def is_stuck(self, doc_id: str) -> bool: ...
    def has(self, doc_id: str) -> bool: ...
    def go_offline(self) -> None: ...
    def go_online(self) -> None: ...
    def drop(self) -> None: ...
    def problems(self, doc_id: str) -> Sequence[object]: ...


class OriginalPeer:
    """A model of the original's client."""

    def __init__(self, name: str, client: OriginalClient) -> None:
        self.name, self.client = name, client

    async def open(self, doc_id: str, algorithm: str = "ot") -> None:
        self.client.open(doc_id, algorithm)

    def change(self, doc_id: str, *ops: Op) -> None:
        self.client.change(doc_id, *ops)

    def state(self, doc_id: str) -> Json:
        return self.client.state(doc_id)

    def committed_rev(self, doc_id: str) -> int:
        return self.client.algorithm(doc_id).committed_rev(doc_id)

    def has(self, doc_id: str) -> bool:
        return doc_id in self.client.docs

    def is_settled(self, doc_id: str) -> bool:
        return self.client.is_quiet and not self.client.has_pending(doc_id)

    def is_stuck(self, doc_id: str) -> bool:
        """Connected, with work that nothing sends (`docs/internals/sync.md` 12.1, 12.3)."""
        client = self.client
        return client.can_send and client.is_quiet and client.has_pending(doc_id)

    def go_offline(self) -> None:
        self.client.disconnect()

    def go_online(self) -> None:
        self.client.connect()

    def drop(self) -> None:
        self.client.drop()

    def problems(self, doc_id: str) -> Sequence[object]:
        """What is wrong inside: the store holds something else than the document shows."""
        shown, stored = self.state(doc_id), self.client.committed_state(doc_id)
        return [] if shown == stored else [f"{self.name} shows {shown}, stores {stored}"]


class OurPeer:
    """`Patches` and `PatchesSync`."""

    def __init__(self, name: str, patches: Patches, sync: PatchesSync) -> None:
        self.name, self.patches, self.sync = name, patches, sync
        self.docs: dict[str, Document] = {}
        self.errors: list[object] = []

    async def open(self, doc_id: str, algorithm: str = "ot") -> None:
        self.docs[doc_id] = await self.patches.open_doc(doc_id, algorithm=algorithm)

    def change(self, doc_id: str, *ops: Op) -> None:
        self.docs[doc_id].apply([dict(op) for op in ops])

    def state(self, doc_id: str) -> Json:
        return self.docs[doc_id].state

    def committed_rev(self, doc_id: str) -> int:
        return self.docs[doc_id].committed_rev

    def has(self, doc_id: str) -> bool:
        return doc_id in self.docs and self.patches.get_open_doc(doc_id) is not None

    def is_settled(self, doc_id: str) -> bool:
        entry = self.sync.synced.get(doc_id)
        return (
            entry is not None
            and entry.status == "synced"
            and not entry.has_pending
            and not self.docs[doc_id].unsaved
        )

    def is_stuck(self, doc_id: str) -> bool:
        return False

    def go_offline(self) -> None:
        self.sync.set_online(False)

    def go_online(self) -> None:
        self.sync.set_online(True)

    def drop(self) -> None:
        """Lose the socket, with all calls in flight, and come back at once."""
        self.sync.set_online(False)
        self.sync.set_online(True)

    def problems(self, doc_id: str) -> Sequence[object]:
        """What the application was told that is not about the connection."""
        return [error for error in self.errors if not isinstance(error, NetworkError)]


class RawPeer:
    """A bare socket that asks and listens, without any library."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        #: What it was told of documents.
        self.notifications: list[tuple[str, Any]] = []
        self.on_notification: Callable[[], object] = lambda: None
        self._outgoing: list[str] = []
        self._rpc = OriginalRpc(self._outgoing.append, self._notified)

    async def call(self, method: str, *params: Any) -> Any:
        """The result of a call. Raises as the client does."""
        call = asyncio.ensure_future(self._rpc.call(method, *params))
        await asyncio.sleep(0)
        for text in self._outgoing:
            await self.socket.send_str(text)
        self._outgoing.clear()
        return await call

    async def read(self) -> None:
        """Take what arrives, until the socket ends."""
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._rpc.receive(message.data)

    def _notified(self, method: str, params: Any) -> None:
        if "docId" in params:
            self.notifications.append((method, params))
            self.on_notification()

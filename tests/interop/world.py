"""`World`: clients of the original's kind and of ours around one server, and whether all are equal.

async with World(url) as world:
    ann, bob = await world.original(), await world.ours()
    ...
    state = await world.converged("plan")
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol, Self

import aiohttp

from patches import Document, Patches, PatchesSync
from patches.algorithms.ot import apply_changes
from patches.change import Snapshot
from patches.errors import NetworkError
from patches.json_patch import apply_patch
from patches.json_values import Json, Op
from tests.interop.original.client import OriginalClient
from tests.interop.original.rpc import OriginalRpc
from tests.interop.original.turns import Turns

#: Seconds for everything that is waited for.
PATIENCE_S = 20.0
#: How long a second of the clients' waits lasts.
SECOND = 0.02


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
        """Connected, with work that nothing sends (`spec/sync.md` 12.1, 12.3)."""
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


class World:
    """Everybody around one server at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.peers: list[Peer] = []
        self._stack = AsyncExitStack()
        self._stirred = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        self.raw = await self.raw_peer()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def stir(self) -> None:
        """Something has moved on: whoever waits looks again."""
        self._stirred.set()

    async def raw_peer(self) -> RawPeer:
        """One more bare socket."""
        socket = await self._session.ws_connect(self.url, max_msg_size=2**28)
        peer = RawPeer(socket)
        peer.on_notification = self.stir
        reader = asyncio.ensure_future(peer.read())

        async def end() -> None:
            await socket.close()
            await reader

        self._stack.push_async_callback(end)
        return peer

    async def original(self, name: str = "", *, seed: int = 0, **options: Any) -> OriginalPeer:
        """A client of the original's kind. `answer_s`: see `Turns`."""
        name = name or f"original {len(self.peers) + 1}"
        turns = Turns(seed * 1_000 + len(self.peers), answer_s=options.pop("answer_s", 0.0))
        client = OriginalClient(self.url, turns=turns, second=SECOND, **options)
        client.on_progress = self.stir
        peer = OriginalPeer(name, await self._stack.enter_async_context(client))
        self.peers.append(peer)
        await self.until(lambda: client.can_send)
        return peer

    async def ours(self, name: str = "", **options: Any) -> OurPeer:
        """A client of this project."""
        name = name or f"ours {len(self.peers) + 1}"
        patches = await self._stack.enter_async_context(Patches())
        sync = PatchesSync(patches, self.url, **options)
        peer = OurPeer(name, patches, await self._stack.enter_async_context(sync))
        sync.on_synced_change(lambda _: self.stir())
        sync.on_error(lambda error, _: peer.errors.append(error))
        self.peers.append(peer)
        return peer

    async def until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Wait for something that a `stir` announces."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self._stirred.clear()
                await self._stirred.wait()

    async def server_state(self, doc_id: str, algorithm: str = "ot") -> tuple[Json, int]:
        """What the server has: the document and its revision."""
        snapshot = Snapshot.from_wire(await self.raw.call("getDoc", doc_id))
        if algorithm == "ot":
            return apply_changes(snapshot.state, snapshot.changes), snapshot.head
        ops = [op for change in snapshot.changes for op in change.ops]
        return apply_patch(snapshot.state, ops), snapshot.head

    async def settle(self, doc_id: str) -> None:
        """Until nobody has anything to send. Who is stuck does what its user would: reconnect."""

        def helped() -> bool:
            for peer in self.peers:
                if peer.has(doc_id) and peer.is_stuck(doc_id):
                    peer.drop()
            return all(p.is_settled(doc_id) for p in self.peers if p.has(doc_id))

        await self.until(helped)

    async def differences(self, doc_id: str, algorithm: str = "ot") -> list[str]:
        """Who is not equal to the server once all is quiet; empty if everybody is."""
        await self.settle(doc_id)
        state, rev = await self.server_state(doc_id, algorithm)
        holders = [peer for peer in self.peers if peer.has(doc_id)]
        await self.until(lambda: all(p.committed_rev(doc_id) >= rev for p in holders))
        await self.settle(doc_id)
        found = [
            f"{peer.name} shows {peer.state(doc_id)}, the server has {state}"
            for peer in holders
            if peer.state(doc_id) != state
        ]
        return found + [str(problem) for peer in holders for problem in peer.problems(doc_id)]

    async def converged(self, doc_id: str, algorithm: str = "ot") -> Any:
        """The state that everybody has. Raises `AssertionError` if somebody has another."""
        differences = await self.differences(doc_id, algorithm)
        assert not differences, "\n".join(differences)
        state, _ = await self.server_state(doc_id, algorithm)
        return state

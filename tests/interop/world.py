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
from typing import Any, Self

import aiohttp

from patches import Patches, PatchesSync
from patches.algorithms.ot import apply_changes
from patches.json_patch import apply_patch
from patches.model.change import Snapshot
from patches.model.json_values import Json, Op
from tests.interop.original.client import OriginalClient
from tests.interop.original.turns import Turns
from tests.interop.peers import OriginalPeer, OurPeer, Peer, RawPeer

#: Seconds for everything that is waited for.
PATIENCE_S = 20.0
#: How long a second of the clients' waits lasts.
SECOND = 0.02


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

    async def all_open(self, doc_id: str, start: Sequence[Op], *peers: Peer) -> None:
        """The first makes the document, the others get it."""
        algorithm = "lww" if doc_id.startswith("lww/") else "ot"
        await peers[0].open(doc_id, algorithm)
        peers[0].change(doc_id, *start)
        await self.settle(doc_id)
        for peer in peers[1:]:
            await peer.open(doc_id, algorithm)
        await self.converged(doc_id, algorithm)

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

"""What a node is, and the clients: the real core, on a simulated disk and link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias, TypeVar

from patches.algorithms.base import Algorithm
from patches.client.patches import Patches
from patches.documents.document import Document
from patches.errors import PatchesError, StatusError
from patches.model.change import Change
from patches.net.connection import CommitAnswer, Options, RpcConnection
from patches.net.streams import StreamTransport
from patches.runtime import Millis, Runtime
from patches.sync import PatchesSync
from patches.sync.document.failures import refuses_for_good
from patches.testing.sim.disk import SimDisk, docs_of
from patches.testing.sim.loop import Life, SimLoop
from patches.testing.sim.net import HEARTBEAT_S, Link, SimNet
from patches.testing.sim.trace import Trace

T = TypeVar("T")
OnCommit: TypeAlias = Callable[[str, Sequence[Change]], None]
OnAck: TypeAlias = Callable[[str, Sequence[Change], CommitAnswer], None]
OnStart: TypeAlias = Callable[["SimClient", Patches, PatchesSync], None]

_EPOCH_MS: Final = 1_750_000_000_000
#: Bytes of one `commitChanges` of a client: small, so that large changes are split.
MAX_PAYLOAD_BYTES: Final = 4_000


class SimClock:
    """A node's wall clock: it drifts, and may be set. It moves in steps of `step_ms`."""

    def __init__(self, drift: float, step_ms: int = 1) -> None:
        self._drift, self._step_ms = drift, step_ms
        self.offset_ms = 0

    def __call__(self) -> Millis:
        now_s = asyncio.get_running_loop().time()
        now_ms = self.offset_ms + int(now_s * 1000 * (1 + self._drift))
        return _EPOCH_MS + now_ms // self._step_ms * self._step_ms


@dataclass(slots=True)
class Node:
    """What a process keeps over its lives."""

    name: str
    clock: SimClock
    disk: SimDisk
    seed: str
    lives: int = 0

    def new_life(self) -> tuple[Life, Runtime]:
        """Start the process anew."""
        self.lives += 1
        life = Life(self.name, self.lives)
        random = Random(f"{self.seed}:ids:{self.name}:{self.lives}")  # no secrets
        return life, Runtime(wall_ms=self.clock, random=random, run_blocking=_inline)


async def _inline(fn: Callable[[], T], /) -> T:
    await asyncio.sleep(0.0005)
    return fn()


class WatchedConnection(RpcConnection):
    """A connection that tells of every commit, when it is sent and when it is acknowledged, and of
    deletions that the server refuses.
    """

    on_ack: OnAck | None = None
    on_commit: OnCommit | None = None
    on_refused_deletion: Callable[[str], None] | None = None

    async def delete_doc(self, doc_id: str) -> None:
        try:
            await super().delete_doc(doc_id)
        except StatusError as exc:
            if self.on_refused_deletion is not None and refuses_for_good(exc):
                self.on_refused_deletion(doc_id)
            raise

    async def commit_changes(
        self, doc_id: str, changes: Sequence[Change], options: Options = None
    ) -> CommitAnswer:
        if self.on_commit is not None:
            self.on_commit(doc_id, changes)
        answer = await super().commit_changes(doc_id, changes, options)
        if self.on_ack is not None:
            self.on_ack(doc_id, changes, answer)
        return answer


class SimClient:
    """A client's node: one process with `Patches` and `PatchesSync`."""

    def __init__(
        self,
        node: Node,
        net: SimNet,
        trace: Trace,
        on_commit: OnCommit,
        on_ack: OnAck,
        on_start: OnStart,
        *,
        on_refused_deletion: Callable[[str, str], None] = lambda _doc_id, _client: None,
        algorithms: Callable[[str, Runtime], Sequence[Algorithm]] = lambda _name, _runtime: (),
    ) -> None:
        self._algorithms = algorithms
        self.node: Node = node
        self._net = net
        self._trace = trace
        self._on_commit, self._on_ack, self._on_start = on_commit, on_ack, on_start
        self._on_refused_deletion = on_refused_deletion
        self.life: Life | None = None
        self.patches: Patches | None = None
        self.sync: PatchesSync | None = None
        self.online: bool = True
        self._unheard = 0  # how often it was told about its network and has not heard it yet

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def running(self) -> bool:
        """Whether the process has started and not crashed."""
        return self.sync is not None

    async def start(self) -> None:
        """Start the process. A disk that fails is tried again."""
        life, runtime = self.node.new_life()
        self.life = life
        await life.spawn(self._run(life, runtime), name=self.name)

    def crash(self) -> None:
        """The process ends at once."""
        assert self.life is not None
        self._trace.add(self.life, "crash")
        self.thaw()
        for link in self._net.links_of(self.name):
            link.cut()
            link.down.lose_inbox()
        self.life.end()
        self.patches = self.sync = None

    async def stop(self) -> None:
        """End the process in good order."""
        patches, sync, life = self.patches, self.sync, self.life
        assert patches is not None
        assert sync is not None
        assert life is not None
        self.patches = self.sync = None
        await life.spawn(_close(patches, sync), name="stop")

    def set_online(self, online: bool) -> None:
        """The host has a network, or not."""
        self.online = online
        sync, life = self.sync, self.life
        if sync is None or life is None:
            return
        if not self._unheard and not self._loop.is_frozen(life):
            sync.set_online(online)
            return
        # It hears of it when it goes on, and after what it was told before.
        self._unheard += 1
        self._loop.call_soon(self._hear, life, sync, online, context=life.context())

    def _hear(self, life: Life, sync: PatchesSync, online: bool) -> None:
        self._unheard -= 1
        if life.alive:
            sync.set_online(online)

    def freeze(self) -> None:
        """The process stands still, and its connections notice in time."""
        if self.life is None or self._loop.is_frozen(self.life):
            return
        self._trace.add(self.life, "frozen")
        self._loop.freeze(self.life)
        for link in self._net.links_of(self.name):
            self._loop.call_later(HEARTBEAT_S, self._hang_up, link, self.life)

    def thaw(self) -> None:
        """The process goes on, if it stood still."""
        if self.life is not None and self._loop.is_frozen(self.life):
            self._trace.add(self.life, "goes on")
            self._loop.thaw(self.life)

    def _hang_up(self, link: Link, life: Life) -> None:
        """The server has heard nothing for too long."""
        if self._loop.is_frozen(life):
            link.down.breaks = True
            link.cut()

    @property
    def _loop(self) -> SimLoop:
        loop = asyncio.get_event_loop()
        assert isinstance(loop, SimLoop)
        return loop

    def doc(self, doc_id: str) -> Document | None:
        """The document, if it is open."""
        return self.patches.get_open_doc(doc_id) if self.patches is not None else None

    def holds(self, doc_id: str) -> bool:
        """Whether anything of the document is on the disk or in memory here."""
        disk = self.node.disk.backend
        if doc_id in docs_of(disk, "ot") or doc_id in docs_of(disk, "lww"):
            return True
        if self.doc(doc_id) is not None:
            return True
        return self.patches is None or doc_id in self.patches.tracked_docs

    async def _run(self, life: Life, runtime: Runtime) -> None:
        transport = StreamTransport(
            lambda: self._net.dial(life), name=f"{life} transport", runtime=runtime
        )
        connection = WatchedConnection(transport, url="sim:")
        connection.on_ack, connection.on_commit = self._on_ack, self._on_commit
        connection.on_refused_deletion = lambda doc_id: self._on_refused_deletion(doc_id, self.name)
        patches = _KilledAtWill(
            store=self.node.disk.backend_of(life),
            algorithms=self._algorithms(self.name, runtime),
            runtime=runtime,
        )
        sync = PatchesSync(patches, connection, max_payload_bytes=MAX_PAYLOAD_BYTES)
        told = self.online
        if not told:
            sync.set_online(False)
        self._on_start(self, patches, sync)
        while True:
            try:
                await sync.connect(background=True)
                break
            except PatchesError as exc:
                self._trace.add(life, "cannot start", type(exc).__name__)
                await asyncio.sleep(1.0)
        self.patches, self.sync = patches, sync
        self._trace.add(life, "started")
        if self.online != told:  # that was while it started
            self.set_online(self.online)


class _KilledAtWill(Patches):
    _warns_when_left_open = False


async def _close(patches: Patches, sync: PatchesSync) -> Any:
    await sync.disconnect()
    await patches.close()

"""`SimServer`: a server's process. The real core, on a simulated disk and links."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from patches.errors import ChangeRefusedError, NetworkError, PatchesError
from patches.model.change import Change, ChangeInput
from patches.model.json_values import Op
from patches.runtime import Runtime
from patches.testing.sim.config import Config
from patches.testing.sim.loop import Life
from patches.testing.sim.net import SimNet, SimStream
from patches.testing.sim.nodes import Node
from patches.testing.sim.trace import Trace
from patches.testing.sim.watch import LIMITS, Watch
from patches_server.algorithms import services_on
from patches_server.auth.access import Auth, Principal, allow_all
from patches_server.documents.services import ServedAlgorithm, Services
from patches_server.service.fanout.outbox import LOST, Outbox
from patches_server.service.json_rpc import JsonRpcPeer
from patches_server.service.server import PatchesServer

#: How long a peer that was cut off for being slow still has, as in `patches_server.http.websocket`.
_CUT_OFF_S: Final = 2.0
#: What servers with small limits take at once: less than the clients are set to send.
SMALL_COMMIT_BYTES: Final = 2_600


class SimServer:
    """A server's node. It runs between `start` and `crash` or `stop`.

    Several of them may share a disk: what one commits, the subscribers of the others do not hear.
    """

    #: What is served beside OT and LWW, who hears of the end of a life, and the routes.
    served: Callable[[Life, Runtime], Sequence[ServedAlgorithm]] | None = None
    on_end: Callable[[Life], object] | None = None
    routes: Mapping[str, str] | None = None

    def __init__(self, node: Node, net: SimNet, trace: Trace, watch: Watch, config: Config) -> None:
        self.node: Node = node
        self._net = net
        self._trace = trace
        self._watch = watch
        self.life: Life | None = None
        self.core: PatchesServer | None = None
        self.services: dict[str, Services] = {}
        self._asks = bool(config.faults & {"rights", "hostile", "revoke"})
        self._refuses = "refusing" in config.faults
        self._limits = LIMITS
        if "small_limits" in config.faults:
            self._limits = replace(LIMITS, max_commit_bytes=SMALL_COMMIT_BYTES)
        self._sign_ins = config.stream(f"sign-ins:{node.name}")
        self._expire = "sign_in" in config.faults
        net.servers[node.name] = None

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    async def start(self) -> None:
        """Start the process; returns when it listens."""
        life, runtime = self.node.new_life()
        self.life = life
        await life.spawn(self._run(life, runtime), name="server")
        self._net.servers[self.name] = self._accept
        self._trace.add(life, "listens")

    def crash(self) -> None:
        """The process ends at once; what is under way to it is lost."""
        assert self.life is not None
        self._trace.add(self.life, "crash")
        self._net.servers[self.name] = None
        for link in self._net.links_of(self.name):
            link.cut()
            link.up.lose_inbox()
        self._ends(self.life)

    async def stop(self) -> None:
        """End the process in good order."""
        life, core = self.life, self.core
        assert life is not None
        assert core is not None
        self._trace.add(life, "stops")
        self._net.servers[self.name] = None
        await life.spawn(core.close(), name="stop")
        for _ in range(100):
            if not self._net.links_of(self.name):
                break
            await asyncio.sleep(0.1)
        for link in self._net.links_of(self.name):
            link.cut()
        self._ends(life)

    def _ends(self, life: Life) -> None:
        life.end()
        self.core = None
        if self.on_end is not None:
            self.on_end(life)

    async def _run(self, life: Life, runtime: Runtime) -> None:
        backend = self.node.disk.backend_of(life)
        more = () if self.served is None else self.served(life, runtime)
        self.services = services_on(backend, more=more, limits=self._limits, runtime=runtime)
        auth: Auth = self._watch.rights.can_access if self._asks else allow_all
        core = PatchesServer(
            self.services,
            auth=auth,
            routes=self.routes,
            algorithm_of=backend.algorithm_of,
            get_tombstone=backend.get_tombstone,
            limits=self._limits,
            runtime=runtime,
            validate=refuse_vetoed if self._refuses else None,
            reauth_s=self._watch.rights.reauth_s,
        )
        await core.__aenter__()
        self.core = core

    def _accept(self, stream: SimStream) -> None:
        assert self.life is not None
        stream.link.server_life = self.life
        self.life.spawn(self._serve(self.life, stream), name="connection")

    async def _serve(self, life: Life, stream: SimStream) -> None:
        assert self.core is not None
        link, who = stream.link, stream.link.client.name
        try:
            conversation = self._watch.begins(who, link.up.name)
            session = JsonRpcPeer(self.core.open_session(self._principal(who), conversation.outbox))
        except PatchesError:
            self._watch.ends(conversation)
            link.cut()
            return
        session.outbox.on_cut = lambda: asyncio.get_running_loop().call_later(_CUT_OFF_S, link.cut)
        writer = life.spawn(_write(session.outbox, stream), name="writer")
        try:
            while True:
                frame = await stream.receive()
                conversation.asks(frame)
                await session.receive(frame)
        except NetworkError:
            pass
        finally:
            session.end()
            self._watch.ends(conversation)
            writer.cancel()
            link.cut(graceful=True)

    def _principal(self, who: str) -> Principal:
        """Whoever connects signs in anew."""
        if not self._expire:
            return Principal(id=who)
        days = self._sign_ins.uniform(1, 10)
        lasts_s = self._sign_ins.choice((self._sign_ins.uniform(20, 400), days * 86_400))
        return Principal(id=who, expires_at=self.node.clock() + int(lasts_s * 1000))


def refuse_vetoed(
    _principal: object, _doc_id: str, changes: Sequence[Change | ChangeInput]
) -> ChangeRefusedError | None:
    """The rule of an application: nobody writes `/vetoed`."""
    for change in changes:
        if is_vetoed(change.ops):
            return ChangeRefusedError(change.id, "vetoed")
    return None


def is_vetoed(ops: Sequence[Op]) -> bool:
    """Whether a server of the class `refusing` refuses these operations."""
    return any(op["path"] == "/vetoed" for op in ops)


async def _write(outbox: Outbox, stream: SimStream) -> None:
    try:
        while (frame := await outbox.get()) is not None:
            await stream.send(frame)
    except NetworkError:
        outbox.close(LOST, "the connection was lost", discard=True)
        return
    await stream.close()

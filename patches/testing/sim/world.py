"""One run: a server, its clients, their users and what befalls them, from one seed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, Any, Final

from patches.errors import PatchesError, StorageError
from patches.json_patch import JSONPatch
from patches.runtime import Runtime
from patches.stores.memory import MemoryBackend
from patches.testing.sim import faults as fault_script
from patches.testing.sim import workload
from patches.testing.sim.checker import Checker
from patches.testing.sim.config import Config
from patches.testing.sim.disk import SimDisk
from patches.testing.sim.faults import CLIENT_POINTS, SERVER_POINTS, Fault, Faults
from patches.testing.sim.final import Final as FinalChecks
from patches.testing.sim.loop import CURRENT_LIFE, Life, SimLoop
from patches.testing.sim.net import SimNet
from patches.testing.sim.nodes import Node, SimClient, SimClock, SimServer
from patches.testing.sim.trace import Trace
from patches.testing.sim.users import Users
from patches.testing.sim.workload import Action
from patches_server.stores.memory import MemoryBackend as ServerMemoryBackend

#: How long everything may take to come to rest at the end, in virtual seconds.
PATIENCE_S: Final = 3_600.0
#: How long a cancelled process may take to let go of its tasks.
_LAST_BREATH_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Failure:
    """What did not hold, and when."""

    invariant: str
    message: str
    at_s: float


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    config: Config
    digest: str = ""
    failure: Failure | None = None
    last_lines: list[str] = field(default_factory=list)
    events: int = 0
    virtual_s: float = 0.0
    actions: int = 0
    acks: int = 0
    commits: int = 0
    crashes: int = 0
    left_out: int = 0  # times a committed change could not be applied, and was left out
    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    crash_points: Counter[str] = field(default_factory=Counter)

    def report(self) -> str:
        """A failure, with everything that is needed to see it again."""
        assert self.failure is not None
        lines = "\n".join(f"    {line[:300]}" for line in self.last_lines)
        return (
            f"{self.failure.invariant} at {self.failure.at_s:.3f} s: {self.failure.message}\n"
            f"  {self.config}\n  the last events:\n{lines}\n"
            f"  replay: {self.config.command} --trace out.txt"
        )


class _Failed(Exception):  # noqa: N818  # ends a run; never leaves this module
    """The run has failed and goes no further."""


def run(config: Config, *, trace_file: IO[str] | None = None) -> Outcome:
    """Run a configuration to its end or its first failure."""
    world = World(config, trace_file)
    return world.run()


class World:
    """Everything of one run."""

    def __init__(self, config: Config, trace_file: IO[str] | None = None) -> None:
        self.config = config
        self.trace = Trace(file=trace_file)
        self.outcome = Outcome(config)
        self._loop = SimLoop(self._unhandled)
        self._background: dict[asyncio.Task[Any], None] = {}
        self._restarting: dict[str, None] = {}

    def run(self) -> Outcome:
        """Run to the end or the first failure."""
        listener = _ErrorLog(self._logged)
        logger = logging.getLogger()
        logger.addHandler(listener)
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except _Failed:
            pass
        except BaseException as exc:
            if isinstance(exc, (KeyboardInterrupt, SystemExit)):
                raise
            self._note("run", f"{type(exc).__name__}: {exc}")
        finally:
            logger.removeHandler(listener)
            self._finish()
        return self.outcome

    def fail(self, invariant: str, message: str) -> None:
        """Something did not hold: the run ends."""
        self._note(invariant, message)

    # ---- the run ---------------------------------------------------------------------------------

    async def _main(self) -> None:
        self._build()
        await self.server.start()
        await self._seed_documents()
        for client in self.clients:
            await client.start()
            await self._open_all(client)
        self.faults.begin(self.config)
        actions = workload.script(self.config)
        until_s = (actions[-1].at_s if actions else 1.0) + 1
        events: list[tuple[float, int, Action | Fault]] = [
            *((action.at_s, 0, action) for action in actions),
            *((fault.at_s, 1, fault) for fault in fault_script.script(self.config, until_s)),
        ]
        start = self._loop.time()
        for at_s, _, event in sorted(events, key=lambda event: (event[0], event[2].number)):
            await self._sleep(max(0.0, start + at_s - self._loop.time()))
            if isinstance(event, Action):
                self.users.begin(event)
            else:
                self.faults.strike(event, [client.node for client in self.clients], self.server)
        await self._heal()
        await self._come_to_rest()
        await self._check(self.final.check())
        await self._leave()

    def _build(self) -> None:
        config = self.config
        self.net = SimNet(random=config.stream("net"), trace=self.trace)
        self.faults = Faults(config, self.net, self.trace, self._crash)
        self.checker = Checker(self.fail)
        clock = self._clock("server")
        backend = ServerMemoryBackend(
            runtime=Runtime(wall_ms=clock, random=config.stream("server disk"))
        )
        self.server = SimServer(self._node("server", clock, backend), self.net, self.trace)
        self.faults.server_life = lambda: self.server.life
        self.clients = []
        for number in range(config.clients):
            name = f"client-{number}"
            clock = self._clock(name)
            store = MemoryBackend(runtime=Runtime(wall_ms=clock, random=config.stream(name)))
            node = self._node(name, clock, store)
            client = SimClient(
                node, self.net, self.trace, self.checker.sent, self.checker.acknowledged
            )
            self.clients.append(client)
        self.users = Users(config, self.clients, self.checker, self.trace)
        self.final = FinalChecks(config, self.checker, self.clients, self.server, self.fail)

    def _clock(self, name: str) -> SimClock:
        random = self.config.stream(f"clock:{name}")
        clock = SimClock(random.uniform(-2e-4, 2e-4))
        if "clock" in self.config.faults:
            clock.offset_ms = random.randint(-5_000, 5_000)
        return clock

    def _node(self, name: str, clock: SimClock, backend: Any) -> Node:
        disk = SimDisk(
            backend,
            random=self.config.stream(f"disk:{name}"),
            trace=self.trace,
            points=SERVER_POINTS if name == "server" else CLIENT_POINTS,
            pass_point=self.faults.pass_point,
            on_effect=self.checker.effect,
        )
        return Node(name, clock, disk, str(self.config.seed))

    async def _seed_documents(self) -> None:
        for doc_id in self.config.doc_ids:
            documents = self.server.services["lww" if doc_id.startswith("lww/") else "ot"].documents
            assert self.server.life is not None

            def fill(patch: JSONPatch, doc_id: str = doc_id) -> None:
                for name, value in workload.first_state(doc_id).items():
                    patch.add(f"/{name}", value)

            await self.server.life.spawn(documents.change(doc_id, fill), name="seed")

    async def _open_all(self, client: SimClient) -> None:
        assert client.life is not None
        for doc_id in self.config.doc_ids:
            await client.life.spawn(self.users.open(client, doc_id), name="open")

    # ---- crashes ---------------------------------------------------------------------------------

    def _crash(self, name: str, weight: float) -> None:
        """End a process, and start it again after up to a minute."""
        target = "server" if name == "deploy" else name
        if target in self._restarting:
            return
        node: SimServer | SimClient = (
            self.server if target == "server" else self.clients[int(target.rpartition("-")[2])]
        )
        if isinstance(node, SimClient) and not node.running:
            return
        if isinstance(node, SimServer) and node.core is None:
            return
        self._restarting[target] = None
        if name != "deploy":
            self.outcome.crashes += 1
            node.crash()
        self._spawn(self._restart(node, target, weight, stop=name == "deploy"), "restart")

    async def _restart(
        self, node: SimServer | SimClient, target: str, weight: float, *, stop: bool
    ) -> None:
        life = node.life
        assert life is not None
        if stop:
            await node.stop()
        await asyncio.sleep(60 * weight * weight)
        self._spawn(self._check_gone(life), "undertaker")
        await node.start()
        del self._restarting[target]
        if isinstance(node, SimClient):
            while True:
                try:
                    await self._open_all(node)
                    return
                except StorageError:
                    await asyncio.sleep(1.0)
                except (PatchesError, asyncio.CancelledError):
                    return  # crashed again, meanwhile

    async def _check_gone(self, life: Life) -> None:
        await asyncio.sleep(_LAST_BREATH_S)
        if life.tasks:
            names = sorted(task.get_name() for task in life.tasks)
            self.fail("I4", f"{life} has left tasks behind: {names}")

    # ---- the end ---------------------------------------------------------------------------------

    async def _heal(self) -> None:
        self.trace.add("world", "heal")
        self.faults.points_on = False
        for node in [self.server.node, *(client.node for client in self.clients)]:
            node.disk.heal()
        self.net.heal()
        while self._restarting:
            await self._sleep(1.0)
        for client in self.clients:
            client.set_online(True)

    async def _come_to_rest(self) -> None:
        """Wait until nobody has anything left to say."""
        deadline = self._loop.time() + PATIENCE_S
        restless = "?"
        while self._loop.time() < deadline:
            await self._sleep(5.0)
            for client in self.clients:
                if client.patches is not None:
                    await self._check(self._settle(client))
            restless = self._restless()
            if not restless:
                return
        self.fail("I9", f"nothing comes to rest: {restless}")
        raise _Failed

    async def _settle(self, client: SimClient) -> None:
        assert client.patches is not None
        assert client.life is not None
        if client.patches.write_latched_docs:
            await client.life.spawn(client.patches.retry_saving_changes(), name="retry")
        for doc_id in self.config.doc_ids:
            deleted = self.checker.log(doc_id).deleted
            if not deleted and client.doc(doc_id) is None:
                await client.life.spawn(self.users.open(client, doc_id), name="open")

    def _restless(self) -> str:
        for client in self.clients:
            if client.sync is None or not client.sync.state.connected:
                return f"{client.name} is not connected"
            for doc_id in self.config.doc_ids:
                log, doc = self.checker.log(doc_id), client.doc(doc_id)
                if log.deleted:
                    continue
                shown = client.sync.synced.get(doc_id)
                if doc is None or shown is None:
                    return f"{client.name} has not opened {doc_id}"
                if doc.has_pending or shown.has_pending or doc.committed_rev != log.rev:
                    return (
                        f"{client.name}, {doc_id} at {doc.committed_rev} of {log.rev}: {shown}, "
                        f"document pending: {doc.has_pending}"
                    )
        return ""

    async def _leave(self) -> None:
        """All clients leave in good order; nothing of them remains."""
        lives = [client.life for client in self.clients]
        for client in self.clients:
            await client.stop()
        await self._sleep(_LAST_BREATH_S)
        for life in lives:
            assert life is not None
            if life.tasks:
                names = sorted(task.get_name() for task in life.tasks)
                self.fail("I12", f"{life} has left tasks behind: {names}")
        residue = await self.final.residue()
        if residue:
            self.fail("I12", f"the server still holds {dict(residue)}")
        await self.server.stop()
        await self._sleep(0.1)

    # ---- small parts -----------------------------------------------------------------------------

    async def _check(self, work: Any) -> None:
        await work
        if self.outcome.failure is not None:
            raise _Failed

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self.outcome.failure is not None:
            raise _Failed

    def _spawn(self, work: Any, name: str) -> None:
        # outside of any process: whoever crashes a process may be a task of it
        token = CURRENT_LIFE.set(None)
        try:
            task = self._loop.create_task(work, name=name)
        finally:
            CURRENT_LIFE.reset(token)
        self._background[task] = None
        task.add_done_callback(lambda task: self._background.pop(task, None))

    def _unhandled(self, message: str, error: BaseException | None, life: Life | None) -> None:
        if life is not None and not life.alive:
            return
        self._note("unhandled", f"{life}: {message}: {error!r}")

    def _logged(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if "is left out" in record.msg:
            self.outcome.left_out += 1  # an operation lost its ground; all replicas agree on it
        elif not isinstance(error, PatchesError):
            self._note("log", f"{record.getMessage()}: {error!r}")

    def _note(self, invariant: str, message: str) -> None:
        if self.outcome.failure is None:
            self.outcome.failure = Failure(invariant, message, self._loop.time())
            self.outcome.last_lines = list(self.trace.last)

    def _finish(self) -> None:
        """End everything, and take the figures down."""
        outcome = self.outcome
        outcome.digest, outcome.events = self.trace.digest, self.trace.count
        outcome.virtual_s = self._loop.time()
        if hasattr(self, "users"):
            outcome.actions = self.users.done
            outcome.acks, outcome.commits = self.checker.acks, self.checker.commits
            outcome.faults, outcome.points = self.faults.happened, self.faults.points
            outcome.crash_points = self.faults.crashes
        for node in (getattr(self, "server", None), *getattr(self, "clients", ())):
            if node is not None and node.life is not None:
                node.life.end()
        for _ in range(20):
            tasks = asyncio.all_tasks(self._loop)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        asyncio.set_event_loop(None)
        self._loop.close()


class _ErrorLog(logging.Handler):
    def __init__(self, tell: Any) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record)

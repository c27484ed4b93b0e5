"""One run: a server, its clients, their users and what befalls them, from one seed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, Any, Final

from patches.errors import PatchesError
from patches.json_patch import JSONPatch
from patches.runtime import Runtime
from patches.stores.memory.backend import MemoryBackend
from patches.testing.sim import faults as fault_script
from patches.testing.sim import workload
from patches.testing.sim.agreement import Agreement
from patches.testing.sim.checker import Checker
from patches.testing.sim.config import Config
from patches.testing.sim.disk import SimDisk
from patches.testing.sim.families import FAMILIES, DocumentFamily
from patches.testing.sim.families.family import Scene
from patches.testing.sim.faults import CLIENT_POINTS, SERVER_POINTS, Fault, Faults
from patches.testing.sim.final import FinalChecks
from patches.testing.sim.hostile_peer import HostilePeer
from patches.testing.sim.journal import Journal
from patches.testing.sim.loop import Life, SimLoop
from patches.testing.sim.net import SimNet
from patches.testing.sim.nodes import Node, SimClient, SimClock
from patches.testing.sim.processes import LAST_BREATH_S, Processes
from patches.testing.sim.rest import Rest
from patches.testing.sim.rights import Rights
from patches.testing.sim.servers import SimServer
from patches.testing.sim.trace import Trace
from patches.testing.sim.users import Users
from patches.testing.sim.watch import ANSWER_S, Watch
from patches.testing.sim.workload import Action
from patches_server.service.fanout.outbox import SIGNED_OUT
from patches_server.stores.memory.backend import MemoryBackend as ServerMemoryBackend

#: A coarse clock moves so much at once: many writes are made at one time.
_COARSE_MS: Final = 10_000
#: What one process may have under way at once.
MOST_TASKS: Final = 400


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
    errors: Counter[str] = field(default_factory=Counter)  # refusals, by their codes
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
        self.trace: Trace = Trace(file=trace_file)
        self.outcome: Outcome = Outcome(config)
        self._loop = SimLoop(self._unhandled)
        self.servers: list[SimServer] = []
        self.clients: list[SimClient] = []

    def run(self) -> Outcome:
        """Run to the end or the first failure."""
        listener = _ErrorLog(self._logged)
        logger = logging.getLogger()
        # alone: whoever else listens would write down thousands of errors that are meant to be
        others, logger.handlers = logger.handlers, [listener]
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
            logger.handlers = others
            self._finish()
        return self.outcome

    def fail(self, invariant: str, message: str) -> None:
        """Something did not hold: the run ends."""
        self._note(invariant, message)

    # ---- the run ---------------------------------------------------------------------------------

    async def _main(self) -> None:
        self._build()
        for server in self.servers:
            await server.start()
        await self._seed_documents()
        for client in self.clients:
            await client.start()
            await self.processes.open_all(client)
        self.faults.begin(self.config)
        if "power_loss" in self.config.faults:
            disk = self.servers[0].node.disk
            random = self.config.stream("power")
            disk.journal = Journal(disk.backend, random, self.checker.synced)
            self.checker.synced()
        if "hostile" in self.config.faults:
            self.hostile.start()
        actions = workload.script(self.config, self.family.edits)
        moments = [action.at_s for action in actions]
        events: list[tuple[float, int, Action | Fault]] = [
            *((action.at_s, 0, action) for action in actions),
            *((fault.at_s, 1, fault) for fault in fault_script.script(self.config, moments)),
        ]
        start = self._loop.time()
        events.sort(key=lambda event: (event[0], event[2].number))
        for place, (at_s, _, event) in enumerate(events):
            if place == len(events) // 2 and self.config.absence_days:
                start += await self._absence()
            await asyncio.sleep(max(0.0, start + at_s - self._loop.time()))
            self._look()
            if isinstance(event, Action):
                self.users.begin(event)
            else:
                self.faults.strike(event, self.clients, self.servers)
        self.trace.add("world", "heal")
        self.faults.end()
        self.hostile.stop()
        self.rest.heal()
        await self.rest.come_to_rest(self._look)
        await asyncio.sleep(ANSWER_S + 1)
        self._look()
        await self.final.check()
        await self.family.check()
        if "presence" in self.config.faults:
            await self.final.check_presence(self.net)
        self._look()
        await self._leave()

    async def _absence(self) -> float:
        """For days nobody does anything, and some are not connected; the seconds that took."""
        random, lasts_s = self.config.stream("away"), self.config.absence_days * 86_400
        self.trace.add("world", "absence", f"{lasts_s:.0f} s")
        self.faults.happened["absence"] += 1
        away = [client for client in self.clients if random.random() < 0.5]
        for client in away:
            client.set_online(False)
        await asyncio.sleep(lasts_s)
        for client in away:
            client.set_online(True)
        return lasts_s

    def _build(self) -> None:
        config = self.config
        self.net: SimNet = SimNet(random=config.stream("net"), trace=self.trace)
        names = [f"client-{number}" for number in range(config.clients)]
        disk_of = {name: names[owner] for name, owner in zip(names, config.disks, strict=True)}
        self.checker: Checker = Checker(
            self.fail, disk_of, servers=len(config.server_names), elsewhere=config.family_ids
        )
        self.agreement: Agreement = Agreement(self.checker, self.fail, config.family_ids)
        self.rights: Rights = Rights(config.stream("auth"))
        self.watch: Watch = Watch(self.rights, self.fail)
        self.faults: Faults = Faults(
            config, self.net, self.trace, self.rights, self._crash, self.checker
        )
        scene = Scene(
            config, self.clients, self.servers, self.trace, self.fail, self.faults.pass_point
        )
        self.family: DocumentFamily = FAMILIES.get(config.family or "", DocumentFamily)(scene)
        clock = self._clock("server")
        backend = ServerMemoryBackend(
            runtime=Runtime(wall_ms=clock, random=config.stream("server disk"))
        )
        disk = self._disk("server", backend, SERVER_POINTS)
        for name in config.server_names:
            node = Node(name, clock, disk, str(config.seed))  # one disk: one host, one clock
            server = SimServer(node, self.net, self.trace, self.watch, config)
            if config.family_docs:
                server.served, server.on_end = self.family.served, self.family.server_ended
                server.routes = {f"{self.family.name}/*": self.family.name}
            self.servers.append(server)
        for name in names:
            clock = self._clock(name)
            if disk_of[name] == name:
                store = MemoryBackend(runtime=Runtime(wall_ms=clock, random=config.stream(name)))
                disk = self._disk(name, store, CLIENT_POINTS)
            else:
                disk = self.clients[names.index(disk_of[name])].node.disk
            node = Node(name, clock, disk, str(config.seed))
            checker = self.checker
            client = SimClient(
                node, self.net, self.trace, checker.sent, checker.acknowledged,
                self.agreement.watch, algorithms=self.family.client_algorithms,
                on_refused_deletion=checker.forget_deletion,
            )  # fmt: skip
            self.clients.append(client)
        self.users: Users = Users(
            config, self.clients, self.checker, self.trace, self._restart, self.family
        )
        self.hostile: HostilePeer = HostilePeer(
            self.net, config.stream("hostile"), self.watch.heard
        )
        nodes = (self.servers, self.clients)
        self.processes: Processes = Processes(config, *nodes, self.users, self.fail)
        self.rest: Rest = Rest(
            config, self.net, *nodes, self.processes, self.users, self.checker, self.agreement,
            self.rights, self.family, self.fail,
        )  # fmt: skip
        self.final: FinalChecks = FinalChecks(
            config, self.checker, self.clients, self.servers, self.fail
        )

    def _clock(self, name: str) -> SimClock:
        random = self.config.stream(f"clock:{name}")
        drift = random.uniform(-2e-4, 2e-4)
        clock = SimClock(drift, _COARSE_MS if "coarse_clock" in self.config.faults else 1)
        if "clock" in self.config.faults:
            clock.offset_ms = random.randint(-5_000, 5_000)
        return clock

    def _disk(self, name: str, backend: Any, points: fault_script.Points) -> SimDisk:
        return SimDisk(
            backend,
            random=self.config.stream(f"disk:{name}"),
            trace=self.trace,
            points=points,
            pass_point=self.faults.pass_point,
            on_effect=self.checker.effect,
        )

    async def _seed_documents(self) -> None:
        await self.family.begin()
        for doc_id in self.config.core_ids:
            server = self.servers[0]
            documents = server.services["lww" if doc_id.startswith("lww/") else "ot"].documents
            assert server.life is not None

            def fill(patch: JSONPatch, doc_id: str = doc_id) -> None:
                for name, value in workload.first_state(doc_id).items():
                    patch.add(f"/{name}", value)

            await server.life.spawn(documents.change(doc_id, fill), name="seed")

    def _restart(self, name: str) -> None:
        self._crash(name, 0.3, False)

    def _crash(self, name: str, weight: float, gracefully: bool) -> None:
        self.processes.crash(name, weight, gracefully=gracefully)

    # ---- the end ---------------------------------------------------------------------------------

    async def _leave(self) -> None:
        """All clients leave in good order; nothing of them remains."""
        lives = [client.life for client in self.clients]
        for client in self.clients:
            await client.stop()
        await asyncio.sleep(LAST_BREATH_S)
        for life in lives:
            assert life is not None
            if life.tasks:
                names = sorted(task.get_name() for task in life.tasks)
                self.fail("I12", f"{life} has left tasks behind: {names}")
        self._look()
        for server in self.servers:
            residue = self.final.residue(server)
            if residue:
                self.fail("I12", f"{server.name} still holds {dict(residue)}")
            await server.stop()
        await asyncio.sleep(0.1)

    # ---- small parts -----------------------------------------------------------------------------

    def _look(self) -> None:
        """What has to hold at any time; a run that has failed goes no further."""
        self.watch.check(self.processes.lives, MOST_TASKS)
        self.agreement.look(self.clients)
        self.family.look()
        if self.outcome.failure is not None:
            raise _Failed

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
        if hasattr(self, "processes"):
            outcome.actions = self.users.done
            outcome.acks, outcome.commits = self.checker.acks, self.checker.commits
            outcome.faults, outcome.points = self.faults.happened, self.faults.points
            outcome.crash_points, outcome.crashes = self.faults.crashes, self.processes.crashes
            outcome.errors = self.watch.errors
            outcome.faults["sign_in"] = self.watch.closes[SIGNED_OUT]
            outcome.faults["hostile"] = self.hostile.sent
            outcome.faults += self.users.besides
        nodes: list[SimServer | SimClient] = [*self.servers, *self.clients]
        for life in (node.life for node in nodes):
            if life is not None:
                life.end()
        for _ in range(20):
            tasks = asyncio.all_tasks(self._loop)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        asyncio.set_event_loop(None)
        self._loop.close()
        if hasattr(self, "family"):
            self.family.close()


class _ErrorLog(logging.Handler):
    def __init__(self, tell: Any) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record)

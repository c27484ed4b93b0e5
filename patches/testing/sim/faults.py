"""When and where things go wrong: a script of faults from the seed, and the named crash points."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from patches.testing.sim.checker import Checker, Log
from patches.testing.sim.config import FAULTS, Config
from patches.testing.sim.loop import Life
from patches.testing.sim.net import Latency, Link, Pipe, SimNet
from patches.testing.sim.nodes import SimClient
from patches.testing.sim.rights import HOSTILE, Rights
from patches.testing.sim.servers import SimServer
from patches.testing.sim.trace import Trace

#: The chance that a process ends at a named crash point.
_POINT_CHANCE: Final = 0.02
#: The same at those that are seldom passed.
_RARE_CHANCE: Final = 0.3
Points: TypeAlias = Mapping[str, tuple[str, str]]

#: Per method of the server's stores: the crash points before and after its effect.
SERVER_POINTS: Final[Points] = {
    "save_changes": ("server: before_commit", "server: after_commit_before_ack"),
    "save_rows": ("server: before_commit", "server: after_commit_before_ack"),
    "create_version": ("server: before_version", "server: during_version"),
    "delete_doc": ("server: before_delete", "server: after_delete"),
}
CLIENT_POINTS: Final[Points] = {
    "save_pending_edits": ("client: after_apply_before_store", "client: after_store_before_send"),
    "change": ("client: before_lww_change", "client: after_lww_change"),
    "apply_server_changes": ("client: after_ack_before_store", "client: during_server_apply"),
    "quarantine_pending_change": ("client: before_quarantine", "client: during_quarantine"),
    "install_doc": ("client: before_reload", "client: during_reload"),
}
SEND_POINTS: Final = {
    b'"commitChanges"': "client: after_send_before_ack",
    b'"changesCommitted"': "server: mid_broadcast",
    b'"result":{"changes"': "server: after_ack_before_broadcast",
}
_RARE: Final = frozenset(
    name
    for method in ("create_version", "delete_doc", "quarantine_pending_change", "install_doc")
    for name in (*SERVER_POINTS.get(method, ()), *CLIENT_POINTS.get(method, ()))
)
#: Every named crash point.
ALL_POINTS: Final = sorted(
    {
        *(
            name
            for points in (SERVER_POINTS, CLIENT_POINTS)
            for pair in points.values()
            for name in pair
        ),
        *SEND_POINTS.values(),
    }
)


#: Classes that are no events: they hold all the time, or are what users do.
_UNTIMED: Final = frozenset(
    {"latency", "crash_points", "servers", "sign_in", "hostile", "presence", "undo", "absence"}
    | {"busy", "coarse_clock", "refusing", "small_limits", "shared_file", "rebirth"}
    | {"close_edits", "wide"}
)
#: Classes of which there is more: one of them seldom meets what it is there for.
_OFTEN: Final = {"rights": 4, "revoke": 2}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of the script."""

    number: int
    at_s: float
    kind: str
    target: int  # a client's number, by remainder
    weight: float  # 0 to 1: how long, how much


def script(config: Config, moments: Sequence[float]) -> list[Fault]:
    """All timed faults, in order of time. Each class has a source of its own.

    `moments` are the times of the actions. Most time passes between them, in pauses; in a run of
    the class `busy` faults strike when users are at work.
    """
    faults: list[Fault] = []
    until_s = (moments[-1] if moments else 1.0) + 1
    for place, kind in enumerate(FAULTS):
        if kind not in config.faults or kind in _UNTIMED:
            continue
        random = config.stream(f"faults:{kind}")
        rate = config.fault_rate * _OFTEN.get(kind, 1)
        for count in range(max(1, round(config.actions * rate / 100))):
            at_s, target, weight = random.uniform(1, until_s), random.randrange(64), random.random()
            if moments and ("busy" in config.faults or kind == "rights"):
                busy = moments[int(len(moments) * (at_s - 1) / until_s)]
                at_s = busy + 0.4 * weight
            number = place * 10_000 + count
            if number not in config.without_faults:
                faults.append(Fault(number, at_s, kind, target, weight))
    return sorted(faults, key=lambda fault: (fault.at_s, fault.number))


class Faults:
    """Makes faults happen. `crash(node_name, weight, gracefully)` ends a process for a while."""

    def __init__(
        self,
        config: Config,
        net: SimNet,
        trace: Trace,
        rights: Rights,
        crash: Callable[[str, float, bool], None],
        checker: Checker,
    ) -> None:
        self._config, self._net, self._trace = config, net, trace
        self._rights, self._crash, self._checker = rights, crash, checker
        self._random = config.stream("points")
        self.points_on: bool = False
        self._is_over = False
        self.points: Counter[str] = Counter()  # how often each was passed
        self.crashes: Counter[str] = Counter()  # how often each was where a process ended
        self.happened: Counter[str] = Counter()
        if "latency" in config.faults:
            net.latency = Latency(median_s=0.08, sigma=1.6)
            self.happened["latency"] += 1
        net.on_send = self._before_send

    def begin(self, config: Config) -> None:
        """The crash points are live from now on."""
        self.points_on = "crash_points" in config.faults
        for kind in ("busy", "coarse_clock", "small_limits", "shared_file"):
            self.happened[kind] += kind in config.faults
        if "servers" in config.faults:
            self.happened["servers"] += len(config.server_names)

    async def pass_point(self, life: Life, name: str) -> None:
        """A process passes a crash point; with some luck it gets by."""
        self.points[name] += 1
        chance = _RARE_CHANCE if name in _RARE else _POINT_CHANCE
        if not self.points_on or not life.alive or self._random.random() >= chance:
            return
        self.crashes[name] += 1
        self.happened["crash_points"] += 1
        self._trace.add(life, "crash point", name)
        self._crash(life.name, self._random.random(), False)
        await asyncio.get_running_loop().create_future()  # cancelled with the process

    def strike(self, fault: Fault, clients: list[SimClient], servers: list[SimServer]) -> None:
        """Make a timed fault happen."""
        node = clients[fault.target % len(clients)].node
        server = servers[fault.target // 8 % len(servers)]
        links = self._net.links_of(node.name)
        loop = asyncio.get_running_loop()
        self._trace.add(node.name, "fault", f"{fault.kind} {fault.weight:.3f}")
        self.happened[fault.kind] += 1
        match fault.kind:
            case "cut":
                for link in links:
                    link.cut()
            case "half_open":
                for link in links:
                    self._net.half_open(link, up=fault.weight < 0.5)
            case "refuse":
                self._net.refusing[node.name] = None
                for link in links:
                    link.cut()
                loop.call_later(120 * fault.weight, self._net.refusing.pop, node.name, None)
            case "slow_reader":
                self._net.slow_down(node.name, 20 + 300 * fault.weight, for_s=120.0)
            case "client_crash":
                self._crash(node.name, fault.weight, False)
            case "server_crash":
                self._crash(server.name, fault.weight, False)
            case "deploy":
                self._crash(server.name, fault.weight, True)
            case "disk_error" | "disk_slow":
                disk = (server.node if fault.target % 3 == 0 else node).disk
                _hurt(disk, fault, loop.time())
            case "clock":
                clock = (server.node if fault.target % 4 == 0 else node).clock
                span_ms = 86_400_000 if fault.target % 5 == 0 else 60_000
                clock.offset_ms += int((fault.weight - 0.5) * 2 * span_ms)
            case "rights":
                self._take_rights(fault, node.name, servers)
            case "bad_row" | "bad_client_row":
                ids = self._config.doc_ids
                disk = server.node.disk if fault.kind == "bad_row" else node.disk
                disk.bad_docs[ids[fault.target // 4 % len(ids)]] = loop.time() + 90 * fault.weight
            case "freeze":
                client = clients[fault.target % len(clients)]
                client.freeze()
                loop.call_later(1 + 300 * fault.weight * fault.weight, client.thaw)
            case "revoke":
                ids = self._config.doc_ids
                for each in servers:
                    if each.core is not None:
                        doc_id = ids[fault.target // 4 % len(ids)]
                        each.core.revoke(principal=node.name, doc_id=doc_id)
            case "set_back":
                copy, logs = server.node.disk.copy(), self._checker.copied()
                wait_s = 2 + 200 * fault.weight * fault.weight
                loop.call_later(wait_s, self._set_back, servers, copy, logs)
            case "power_loss":
                for each in servers:
                    self._crash(each.name, fault.weight, False)
                if all(each.core is None for each in servers):  # one may be stopping in good order
                    self._checker.power_lost(*servers[0].node.disk.lose_power())
            case other:
                raise AssertionError(other)

    def _set_back(self, servers: list[SimServer], copy: Any, logs: Mapping[str, Log]) -> None:
        """The servers end, and start again on an older copy of their disk."""
        if not self._is_over:
            for each in servers:
                self._crash(each.name, 0.1, False)
            if all(each.core is None for each in servers):
                servers[0].node.disk.set_back(copy)
                self._checker.set_back(logs)

    def end(self) -> None:
        """Nothing goes wrong any more."""
        self.points_on = False
        self._is_over = True

    def _take_rights(self, fault: Fault, who: str, servers: list[SimServer]) -> None:
        """Somebody loses rights for a while; the servers are told, or not."""
        loop, ids = asyncio.get_running_loop(), self._config.doc_ids
        lost = ids if fault.target % 4 == 0 else [ids[fault.target // 4 % len(ids)]]
        for doc_id in lost:
            self._rights.take(who, doc_id, reading=fault.weight < 0.8)
            if fault.target % 2:
                for server in servers:
                    if server.core is not None:
                        server.core.revoke(principal=who, doc_id=doc_id)
                self._rights.told(who, doc_id)
            lasts_s = 10 + 1_200 * fault.weight * fault.weight
            loop.call_later(lasts_s, self._rights.give, who, doc_id)

    async def _before_send(self, link: Link, pipe: Pipe, frame: bytes) -> None:
        head = frame[:120]
        for mark, name in SEND_POINTS.items():
            on_server = name.startswith("server")
            if mark in head and on_server == (pipe is link.down):
                life = link.server_life if on_server else link.client
                if life is not None and life.name != HOSTILE:
                    await self.pass_point(life, name)


def _hurt(disk: Any, fault: Fault, now: float) -> None:
    if fault.kind == "disk_slow":
        disk.slow_until = now + 60 * fault.weight
    elif fault.target % 2:
        disk.full_until = now + 30 * fault.weight
    else:
        disk.error_rate = 0.3 * fault.weight
        asyncio.get_running_loop().call_later(20.0, setattr, disk, "error_rate", 0.0)

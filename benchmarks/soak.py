"""Many clients in one process edit a few documents over real websockets that are cut all the time.

    python -m benchmarks.soak                     # 50 clients, 20 documents, 60 seconds
    python -m benchmarks.soak --seconds 600 --seed 7 --lww 20

Half of the documents are OT, half LWW, unless `--lww` says otherwise. Every client has some of them
open and edits at random; sockets are cut, clients go offline for a while, are closed and opened
again from their files. In the end every copy must equal the server's, hold every edit that nobody
may have overwritten, and none of them twice. The exit status is 1 when anything is wrong.

Memory is measured on the way: what the process has of the system, and the blocks that Python has
given out. The blocks show whether anything is kept that should not be; once the bounded caches are
full (the ends of logs, the tails that clients keep), they stay as many. The system's figure
also holds what the allocator keeps for each thread (`MALLOC_ARENA_MAX=2` makes it keep less).

With `--moves`, parts of OT documents are moved and copied too. The rules by which these are merged
are the wire's, and have holes: now and then a change comes out that applies nowhere. Every replica
leaves such a change out and says so. They are counted, and all else must hold.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from benchmarks.random_edits import Account, Author
from patches import Document, Patches, PatchesSync
from patches.errors import ApplyChangesError, CommittedPoisonSkippedError, NetworkError
from patches_server import allow_all, create_app

#: How long everybody has to get equal in the end.
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What to run."""

    clients: int = 50
    docs: int = 20
    lww: int = 10  # so many of the documents
    docs_per_client: int = 5
    seconds: float = 60.0
    edits_per_s: float = 300.0  # of all clients together, if they can
    cuts_per_s: float = 10.0
    seed: int = 1
    moves: bool = False


@dataclass(slots=True, kw_only=True)
class Figures:
    """What came of it."""

    edits: int = 0
    cuts: int = 0
    restarts: int = 0
    left_out: int = 0  # changes that every replica has left out
    seconds: float = 0.0
    settle_s: float = 0.0
    memory_mib: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Sockets:
    """One client's sockets, whose TCP connections can be broken from outside."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(socket_factory=self._make)
        self.session = aiohttp.ClientSession(connector=connector)
        self._newest: socket.socket | None = None

    def _make(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol = address[:3]
        self._newest = socket.socket(family, kind, protocol)
        self._newest.setblocking(False)
        return self._newest

    def cut(self) -> None:
        """Break the newest, with whatever is under way."""
        if self._newest is not None:
            with suppress(OSError):  # it is closed, or not connected yet
                self._newest.shutdown(socket.SHUT_RDWR)


class Client:
    """One client with its documents; those with a file can be closed and opened again."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._chance = random.Random(f"{world.setting.seed} {number}")
        self._author = Author(number, self._chance, world.accounts, moves=world.setting.moves)
        self._store = world.folder / f"client{number}.db" if number % 5 == 0 else None
        self._stack = AsyncExitStack()
        self._sockets: Sockets | None = None
        self._doc_ids = self._chance.sample(
            sorted(world.accounts), min(world.setting.docs_per_client, world.setting.docs)
        )
        self.docs: list[Document] = []
        self.name = self._author.name

    async def start(self) -> None:
        self._sockets = Sockets()
        await self._stack.enter_async_context(self._sockets.session)
        patches = await self._stack.enter_async_context(Patches(store=self._store))
        self.sync = PatchesSync(
            patches, self._world.url, websocket={"session": self._sockets.session}
        )
        self.sync.on_error(self._failed)
        patches.on_error(self._failed)
        patches.on_change_quarantined(
            lambda doc_id, entry: self._world.problem(f"{self.name}: quarantine in {doc_id}")
        )
        self._stack.push_async_callback(self.sync.disconnect)
        await self.sync.connect(background=True)
        self.docs = [
            await patches.open_doc(doc_id, algorithm=doc_id.partition("/")[0])
            for doc_id in self._doc_ids
        ]

    async def stop(self) -> None:
        await self._stack.aclose()

    async def edit_until(self, end: float) -> None:
        """Edit at random times; now and then start again, or go offline for a while."""
        loop = asyncio.get_running_loop()
        pause_s = self._world.setting.clients / self._world.setting.edits_per_s
        while (due := loop.time() + self._chance.expovariate(1 / pause_s)) < end:
            await asyncio.sleep(due - loop.time())
            if (late_s := loop.time() - due) > 0.02:
                # The process is at its limit, server and all: more edits would only wait in queues.
                await asyncio.sleep(late_s * 5)
            doc = self._chance.choice(self.docs)
            if doc.has_pending and self._chance.random() < 0.8:
                continue  # mostly look on until the last edits are confirmed: queues stay short
            self._author.edit(doc)
            self._world.figures.edits += 1
            if self._chance.random() < 0.003:
                await self._be_offline(end)
            elif self._store is not None and self._chance.random() < 0.01:
                await self.stop()
                await self.start()
                self._world.figures.restarts += 1

    @property
    def unsettled(self) -> dict[str, str]:
        """The documents that are not in sync, and why."""
        return {
            doc_id: f"{doc.status} at {doc.committed_rev}, pending: {doc.has_pending}"
            for doc_id, doc in self.sync.synced.items()
            if doc.has_pending or doc.status != "synced"
        }

    def cut(self) -> None:
        """Break the connection."""
        if self._sockets is not None:
            self._sockets.cut()

    async def _be_offline(self, end: float) -> None:
        self.sync.set_online(False)
        for _ in range(self._chance.randrange(8)):
            self._author.edit(self._chance.choice(self.docs))
            self._world.figures.edits += 1
            await asyncio.sleep(self._chance.random() / 2)
        self.sync.set_online(True)

    def _failed(self, error: Exception, context: object) -> None:
        if self._world.setting.moves and isinstance(
            error, ApplyChangesError | CommittedPoisonSkippedError
        ):
            self._world.left_out.add(error.change_id)
        elif not isinstance(error, NetworkError):
            self._world.problem(f"{self.name}: {type(error).__name__}: {error} ({context})")


class World:
    """The server, the clients, and what should come of it all."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.folder = folder
        self.figures = Figures()
        self.url = ""
        names = ["lww"] * setting.lww + ["ot"] * (setting.docs - setting.lww)
        self.accounts = {f"{name}/{number}": Account() for number, name in enumerate(names)}
        self.clients: list[Client] = []
        self.left_out: set[str] = set()

    async def run(self) -> Figures:
        """Let everybody edit, then compare."""
        loop = asyncio.get_running_loop()
        async with self._server() as self.url:
            self.clients = [Client(self, number) for number in range(self.setting.clients)]
            try:
                for client in self.clients:
                    await client.start()
                started = loop.time()
                end = started + self.setting.seconds
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._cut_until(end))
                    tasks.create_task(self._measure_until(started, end))
                    for client in self.clients:
                        tasks.create_task(client.edit_until(end))
                self.figures.seconds = loop.time() - started
                await self._compare()
                self.figures.settle_s = loop.time() - started - self.figures.seconds
                self._measure_memory()
            finally:
                for client in self.clients:
                    await client.stop()
        self.figures.left_out = len(self.left_out)
        return self.figures

    def problem(self, text: str) -> None:
        """Note what is wrong, once."""
        if text not in self.figures.problems:
            self.figures.problems.append(text)

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[str]:
        app = create_app(f"sqlite:///{self.folder / 'server.db'}", auth=allow_all, drain_s=1)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
        finally:
            await runner.cleanup()

    async def _cut_until(self, end: float) -> None:
        chance = random.Random(f"{self.setting.seed} cuts")
        loop = asyncio.get_running_loop()
        while (wait := chance.expovariate(self.setting.cuts_per_s)) + loop.time() < end:
            await asyncio.sleep(wait)
            chance.choice(self.clients).cut()
            self.figures.cuts += 1

    async def _measure_until(self, started: float, end: float) -> None:
        loop = asyncio.get_running_loop()
        step = (end - started) / 12
        for number in range(12):
            await asyncio.sleep(max(0.0, started + step * (number + 1) - loop.time()))
            self._measure_memory()
            progress(
                f"{loop.time() - started:6.1f} s  {self.figures.edits:7,} edits  "
                f"{self.figures.cuts:5,} cuts  {self.figures.memory_mib[-1]:6.1f} MiB in "
                f"{self.figures.blocks[-1]:9,} blocks"
            )

    def _measure_memory(self) -> None:
        self.figures.memory_mib.append(resident_mib())
        self.figures.blocks.append(sys.getallocatedblocks())

    async def _compare(self) -> None:
        """Wait until all copies are equal, as long as that is reasonable; note what is not."""
        end = asyncio.get_running_loop().time() + PATIENCE_S
        for client in self.clients:
            try:
                async with asyncio.timeout_at(end):
                    await client.sync.settled()
            except Exception as error:  # boundary: whatever it is, it is reported as a failure
                self.problem(f"{client.name} does not settle: {error!r}, {client.unsettled}")
        newcomer = Client(self, self.setting.clients)
        newcomer._doc_ids = sorted(self.accounts)
        await newcomer.start()
        try:
            await newcomer.sync.settled(PATIENCE_S)
            for server_doc in newcomer.docs:
                for fault in self.accounts[server_doc.id].faults(server_doc.state):
                    self.problem(f"{server_doc.id}: {fault}")
                for client in self.clients:
                    for doc in client.docs:
                        if doc.id == server_doc.id:
                            await self._compare_copy(client, doc, server_doc)
        finally:
            await newcomer.stop()

    async def _compare_copy(self, client: Client, doc: Document, server_doc: Document) -> None:
        try:
            async with asyncio.timeout(10):
                while doc.committed_rev < server_doc.committed_rev:
                    await doc.next_update()
        except TimeoutError:
            self.problem(f"{client.name} stays behind in {doc.id}")
        if doc.state != server_doc.state:
            differ = [
                key
                for key in {**doc.state, **server_doc.state}
                if doc.state.get(key) != server_doc.state.get(key)
            ]
            self.problem(f"{client.name} differs from the server in {doc.id}: {differ}")


def resident_mib() -> float:
    """Memory of this process, after a collection."""
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0  # not a system that tells
    return pages * 4096 / 2**20


def progress(line: str) -> None:
    """Say how far it is, at once."""
    print(line, flush=True)


def report(setting: Setting, figures: Figures) -> None:
    """Print the figures and what is wrong."""
    memory, blocks = figures.memory_mib, figures.blocks
    print(
        f"{setting.clients} clients, {setting.docs} documents ({setting.lww} LWW), seed "
        f"{setting.seed}: {figures.edits:,} edits in {figures.seconds:.0f} s "
        f"({figures.edits / max(figures.seconds, 0.1):,.0f}/s), {figures.cuts:,} cuts, "
        f"{figures.restarts} restarts; {figures.left_out} changes left out; "
        f"equal after {figures.settle_s:.1f} s more; "
        f"memory {memory[len(memory) // 3]:.0f} MiB in {blocks[len(blocks) // 3]:,} blocks at a "
        f"third, {memory[-1]:.0f} MiB in {blocks[-1]:,} at the end"
    )
    for problem in figures.problems:
        print(f"  PROBLEM {problem}")
    print("all copies are equal, nothing is lost, nothing is doubled" if not figures.problems
          else f"{len(figures.problems)} problems")  # fmt: skip


def parsed(arguments: Sequence[str] | None) -> tuple[Setting, bool]:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in asdict(Setting()).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            parser.add_argument(option, action="store_true", help="see above")
        else:
            parser.add_argument(option, type=type(value), default=value, help=f"default: {value}")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, last")
    options = vars(parser.parse_args(arguments))
    as_json = options.pop("json")
    return Setting(**options), as_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit status."""
    setting, as_json = parsed(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(World(setting, Path(folder)).run())
    report(setting, figures)
    if as_json:
        print(json.dumps(asdict(figures)))
    return 1 if figures.problems else 0


if __name__ == "__main__":
    sys.exit(main())

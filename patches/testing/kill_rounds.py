"""Rounds of kill -9: a real server process on SQLite dies under the load of real clients.

In a round, clients edit documents without pause; the server gets SIGKILL at a random instant,
sometimes after the connections were cut, so that answers are lost, and sometimes a second time
while the clients come back; it starts again on the same port; the clients go on, then rest. After
that nothing may be missing and nothing doubled:

- in the file, right after the kill: every change that was acknowledged, revisions without a hole,
  every checksum, SQLite's own check;
- at the end of the round: every edit of every client exactly once, in all clients and on the
  server. A client sends an acknowledged change never again, so one that was lost would show here.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from patches.client.patches import Patches
from patches.documents.document import Document
from patches.model import codec
from patches.model.change import Change
from patches.net.connection import CommitAnswer, Options, WebSocketConnection
from patches.stores.sqlite.database import Durability
from patches.sync.patches_sync import PatchesSync
from patches.testing.server_process import ServerProcess
from patches_server.algorithms import CHECKUPS
from patches_server.stores.sqlite.doctor import problems_of

#: Seconds that clients may take to send everything and to see everything of the others.
PATIENCE_S: Final = 120.0
_ALGORITHMS: Final = ("ot", "ot", "ot", "lww", "lww")
_SECOND_KILL: Final = 0.3  # how often
_LOST_ANSWERS: Final = 0.5


class BrokenPromiseError(AssertionError):
    """A promise was broken; the message says which."""


@dataclass(slots=True)
class Figures:
    """What the rounds have come to so far."""

    rounds: int = 0
    kills: int = 0
    edits: int = 0
    acked: int = 0
    unanswered: int = 0  # commits that were cut off by a kill
    doubtful: int = 0  # changes that were stored by then, and whose clients could not know

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds, {self.kills} kills, {self.edits} edits, "
            f"{self.acked} changes acknowledged, {self.unanswered} commits cut off, "
            f"{self.doubtful} changes stored and not acknowledged"
        )


@dataclass(slots=True)
class Ledger:
    """What clients have done and been told."""

    figures: Figures
    acked: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    edits: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))


class WatchedConnection(WebSocketConnection):
    """Writes down each change whose commit was answered."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        super().__init__(url, request_timeout_s=10.0)
        self._ledger = ledger

    async def commit_changes(
        self, doc_id: str, changes: Sequence[Change], options: Options = None
    ) -> CommitAnswer:
        sent = [change.id for change in changes]
        self._ledger.figures.unanswered += 1
        answer = await super().commit_changes(doc_id, changes, options)
        self._ledger.figures.unanswered -= 1
        self._ledger.figures.acked += len(sent)
        self._ledger.acked[doc_id].update(sent)
        return answer


@dataclass(slots=True)
class Member:
    """One client."""

    name: str
    patches: Patches
    sync: PatchesSync
    docs: dict[str, Document] = field(default_factory=dict)
    serial: int = 0


class KillRounds:
    """A server, its file and its clients. Enter it, then `await round()` as often as you like."""

    def __init__(
        self,
        folder: Path,
        *,
        clients: int = 20,
        seed: int = 0,
        durability: Durability = "full",
        load_s: float = 1.0,
    ) -> None:
        self._load_s = load_s  # the longest time before a kill
        self.figures: Figures = Figures()
        self._path = folder / "server.db"
        self._log = folder / "server.log"
        self._count = clients
        self._random = random.Random(seed)
        self._servers = self._make_servers(durability)
        self._ledger = Ledger(self.figures)
        self._members: list[Member] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> KillRounds:
        for server in self._servers:
            await self._stack.enter_async_context(server)
        for number in range(self._count):
            patches = await self._stack.enter_async_context(Patches())
            url = self._servers[number % len(self._servers)].url
            connection = WatchedConnection(url, self._ledger)
            sync = await self._stack.enter_async_context(PatchesSync(patches, connection))
            self._members.append(Member(f"c{number}", patches, sync))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def round(self) -> None:
        """One round, on documents of its own. Raises `BrokenPromiseError`."""
        number = self.figures.rounds
        doc_ids = [f"{kind}/{number}-{i}" for i, kind in enumerate(_ALGORITHMS)]
        self._ledger.acked.clear()
        self._ledger.edits.clear()
        for member in self._members:
            for doc_id in doc_ids:
                algorithm = doc_id.partition("/")[0]
                member.docs[doc_id] = await member.patches.open_doc(doc_id, algorithm=algorithm)
        async with self._load():
            await asyncio.sleep(self._random.uniform(0.05, self._load_s))
            await self._kill_and_restart()
            if self._random.random() < _SECOND_KILL:
                await asyncio.sleep(self._random.uniform(0.0, 0.4))
                await self._kill_and_restart()
            await asyncio.sleep(0.2)
        await self._check_clients(doc_ids)
        for member in self._members:
            member.docs.clear()
            await member.patches.untrack_docs(doc_ids)
        self.figures.rounds += 1

    def acked(self) -> dict[str, frozenset[str]]:
        """The ids of the changes of this round that were acknowledged, by document."""
        return {doc_id: frozenset(ids) for doc_id, ids in self._ledger.acked.items()}

    def _make_servers(self, durability: Durability) -> list[ServerProcess]:
        """The servers, which are not started; each client is with one of them."""
        options = ("--durability", durability)
        return [ServerProcess(f"sqlite:///{self._path}", options=options, log=self._log)]

    async def _check_store(self) -> int:
        """What is stored right after a kill; see `check_file`."""
        return await asyncio.to_thread(check_file, self._path, self.acked())

    @asynccontextmanager
    async def _load(self) -> AsyncIterator[None]:
        """All clients edit, until it is left."""
        resting = asyncio.Event()
        broken: BrokenPromiseError | None = None
        async with asyncio.TaskGroup() as tasks:
            for member in self._members:
                tasks.create_task(self._edit(member, resting), name=f"edits of {member.name}")
            try:
                yield
            except BrokenPromiseError as exc:  # alone, not in a group
                broken = exc
            finally:
                resting.set()
        if broken is not None:
            raise broken

    async def _edit(self, member: Member, resting: asyncio.Event) -> None:
        while not resting.is_set():
            doc_id, doc = self._random.choice(list(member.docs.items()))
            member.serial += 1
            mark = f"{member.name}-{member.serial}"
            self._ledger.edits[doc_id].add(mark)
            doc.apply(_ops(doc_id, mark, self._random))
            self.figures.edits += 1
            await asyncio.sleep(self._random.uniform(0.0, 0.25))

    async def _kill_and_restart(self) -> None:
        if self._random.random() < _LOST_ANSWERS:
            for member in self._members[:: self._random.choice((1, 2))]:
                member.sync.set_online(False)  # what the server answers now is lost
            await asyncio.sleep(self._random.uniform(0.0, 0.03))
        server = self._random.choice(self._servers)
        await server.kill()
        self.figures.kills += 1
        self.figures.doubtful += await self._check_store()
        await server.start()
        for member in self._members:  # not to wait for longer and longer between attempts
            member.sync.set_online(False)
            member.sync.set_online(True)

    async def _check_clients(self, doc_ids: Iterable[str]) -> None:
        await self._settle()
        async with Patches() as patches, PatchesSync(patches, self._servers[-1].url) as sync:
            for doc_id in doc_ids:
                algorithm = doc_id.partition("/")[0]
                fresh = await patches.open_doc(doc_id, algorithm=algorithm)
                await sync.settled(PATIENCE_S)
                _check_edits(doc_id, fresh.state, self._ledger.edits[doc_id])
                await self._wait_until_all_show(doc_id, _canonical(fresh.state))

    async def _settle(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(member.sync.settled() for member in self._members))
        except TimeoutError:
            stuck = [
                f"{member.name} {member.sync.state} {doc_id} {shown}"
                for member in self._members
                for doc_id, shown in member.sync.synced.items()
                if shown.has_pending or shown.status != "synced"
            ]
            raise BrokenPromiseError(f"clients do not settle: {stuck[:5]}") from None

    async def _wait_until_all_show(self, doc_id: str, expected: bytes) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                for member in self._members:
                    async for state in member.docs[doc_id]:
                        if _canonical(state) == expected:
                            break
        except TimeoutError:
            different = [
                member.name
                for member in self._members
                if _canonical(member.docs[doc_id].state) != expected
            ]
            raise BrokenPromiseError(f"{doc_id}: {different} show something else") from None


def check_file(path: Path, acked: dict[str, frozenset[str]]) -> int:
    """The file is whole and holds all that was acknowledged. Raises `BrokenPromiseError`.

    Returns how many changes it holds of the same documents that were not acknowledged.
    """
    more = 0
    with closing(sqlite3.connect(path)) as conn:
        found = [str(problem) for problem in problems_of(conn, CHECKUPS)]
        if found:
            raise BrokenPromiseError(f"the file is damaged: {found[:5]}")
        for doc_id, ids in acked.items():
            stored = _stored_ids(conn, doc_id)
            more += len(stored - ids)
            missing = ids - stored
            if missing:
                raise BrokenPromiseError(
                    f"{doc_id}: acknowledged and not stored: {sorted(missing)[:5]}"
                )
    return more


def _stored_ids(conn: sqlite3.Connection, doc_id: str) -> set[str]:
    if doc_id.startswith("lww/"):
        sql = (
            "SELECT CAST(change_id AS TEXT) FROM lww_change_ids "
            "WHERE doc = (SELECT doc FROM lww_docs WHERE doc_id = ?)"
        )
    else:
        sql = "SELECT change_id FROM ot_changes WHERE doc_id = ?"
    return {row[0] for row in conn.execute(sql, (doc_id,))}


def _ops(doc_id: str, mark: str, source: random.Random) -> list[dict[str, Any]]:
    count = {"op": "@inc", "path": "/count", "value": 1}
    if doc_id.startswith("lww/"):
        return [{"op": "replace", "path": f"/marks/{mark}", "value": mark}, count]
    place = source.choice("0-")
    return [
        {"op": "add", "path": "/marks", "value": []},  # a soft write: whoever is first makes it
        {"op": "add", "path": f"/marks/{place}", "value": mark},
        count,
    ]


def _check_edits(doc_id: str, state: Any, expected: set[str]) -> None:
    if not expected:
        return
    marks, count = state["marks"], state["count"]
    marks = list(marks.values()) if isinstance(marks, dict) else marks
    if sorted(marks) != sorted(expected) or count != len(expected):
        missing, foreign = expected.difference(marks), set(marks) - expected
        raise BrokenPromiseError(
            f"{doc_id}: {len(expected)} edits, {len(marks)} marks, count {count}; "
            f"missing {sorted(missing)[:5]}, unknown {sorted(foreign)[:5]}"
        )


def _canonical(state: Any) -> bytes:
    return codec.encode(_sorted(state))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value

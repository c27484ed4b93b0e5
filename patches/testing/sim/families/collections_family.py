"""`CollectionsFamily`: what users, the application and other programs do to collections."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final

from patches.algorithms.collections import CollectionsAlgorithm, CollectionsDoc, Query, Write
from patches.documents.document import Document
from patches.errors import DocumentClosedError, PatchesError
from patches.rows.condition_syntax import F
from patches.runtime import Runtime
from patches.testing.sim.families.board import (
    COUNTER,
    FORBIDDEN,
    SHELVES,
    TOO_MUCH,
    Card,
    Line,
    Note,
    Task,
    board,
    declare_rules,
)
from patches.testing.sim.families.board_checks import BoardChecks, Made
from patches.testing.sim.families.engine import BoardLog, ForeignProgram, SimEngine
from patches.testing.sim.families.family import DocumentFamily, Scene
from patches.testing.sim.loop import Life
from patches.testing.sim.nodes import SimClient
from patches.testing.sim.workload import Action
from patches_server.collections import CollectionsServer, collections
from patches_server.documents.services import ServedAlgorithm

#: Keys that everybody uses, so that writes meet.
_KEYS: Final = tuple(f"k{number}" for number in range(12))
_CARDS: Final = tuple(f"c{number}" for number in range(16))
#: How often the server looks for what other programs wrote.
_POLL_S: Final = 45.0


class CollectionsFamily(DocumentFamily):
    """Documents of `board`, kept in SQLite files of a folder of the run."""

    name: ClassVar[str] = "collections"
    edits: ClassVar[Mapping[str, int]] = {
        "insert": 10, "vote": 14, "expect": 4, "hide": 6, "remove": 5, "note": 10, "count": 9,
        "clear": 2, "together": 5, "card": 12, "forbidden": 3, "window": 5, "shelf": 4, "more": 3,
        "unload": 2, "discard": 2, "retry": 1, "app_write": 8, "app_push": 3, "app_stream": 4,
        "app_touch": 1, "app_compact": 2, "app_history": 1, "foreign": 10,
    }  # fmt: skip

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._folder = Path(tempfile.mkdtemp(prefix="patches-sim-"))
        self._logs: dict[str, BoardLog] = {}
        self._engines: dict[Life, SimEngine] = {}
        self._server: CollectionsServer | None = None
        self._queries: dict[tuple[str, int, str], dict[str, Query]] = {}
        self._marks = 0
        self.program: ForeignProgram = ForeignProgram(self._folder)
        self.checks: BoardChecks = BoardChecks(scene, self._logs, self.program, self.queries_of)

    # ---- processes -------------------------------------------------------------------------------

    def client_algorithms(self, name: str, runtime: Runtime) -> list[Any]:
        return [CollectionsAlgorithm(board, runtime=runtime)]

    def served(self, life: Life, runtime: Runtime) -> list[ServedAlgorithm]:
        disk = self.scene.servers[0].node.disk
        engine = self._engines[life] = SimEngine(self._folder, disk, life, runtime, self._logs)
        server = CollectionsServer(board, engine=engine, poll_s=_POLL_S, runtime=runtime)
        declare_rules(server)
        self._server = server
        return [collections(server)]

    def server_ended(self, life: Life) -> None:
        engine = self._engines.pop(life, None)
        if engine is not None:
            engine.abandon()

    async def begin(self) -> None:
        server, life = self._server, self.scene.servers[0].life
        assert server is not None
        assert life is not None

        def fill(sql: Any) -> None:
            sql("INSERT INTO counters (id, value) VALUES (?, 0)", COUNTER)
            for number, key in enumerate(_CARDS[:10]):
                sql("INSERT INTO cards VALUES (?, ?, ?)", key, SHELVES[number % 3], number)

        for doc_id in self.doc_ids:
            await life.spawn(server.write(doc_id, fill), name="seed")

    def close(self) -> None:
        for engine in self._engines.values():
            engine.abandon()
        shutil.rmtree(self._folder, ignore_errors=True)

    def look(self) -> None:
        self.checks.look()

    def restless(self) -> str:
        return self.checks.restless()

    async def check(self) -> None:
        await self.checks.check()

    # ---- users -----------------------------------------------------------------------------------

    async def opened(self, client: SimClient, doc: Document) -> None:
        """Each of its users looks at a window and at a shelf."""
        assert isinstance(doc, CollectionsDoc)
        assert client.life is not None
        self.checks.watch(client, doc)
        queries = self._queries[client.name, client.node.lives, doc.id] = {}
        cards = doc.collection(Card)
        queries["window"] = cards.order_by("votes", desc=True).limit(4)
        for query in queries.values():
            client.life.spawn(_loaded(query), name="load")

    def queries_of(self, client: SimClient, doc_id: str) -> dict[str, Query]:
        """The queries that are open now, by name."""
        return self._queries.get((client.name, client.node.lives, doc_id), {})

    def given_up(self, client: str, doc_id: str) -> None:
        self.checks.given_up(client, doc_id)

    async def act(self, client: SimClient, action: Action) -> None:
        random = action.random()
        if action.kind.startswith("app_") or action.kind == "foreign":
            self._act_outside(action, random)
            return
        doc = client.doc(action.doc_id)
        if not isinstance(doc, CollectionsDoc) or not doc.is_loaded or doc.is_closed:
            return
        match action.kind:
            case "window" | "shelf" | "more" | "unload":
                await self._look_at(client, doc, action.kind, random)
            case "discard" | "retry":
                self._decide(client, doc, action.kind, random)
            case kind:
                made = self._write(client, doc, kind, random)
                if made is not None:
                    self.checks.made(made)
                    await doc.flush()
                    made.stored = True

    def _write(
        self, client: SimClient, doc: CollectionsDoc, kind: str, random: Random
    ) -> Made | None:
        tasks, cards = doc.collection(Task), doc.collection(Card)
        key, votes = random.choice(_KEYS), random.randrange(10)
        self._marks += 1
        mark, amount = f"m{self._marks}", 0
        write: Write
        if kind == "insert":
            owner = client.name if random.random() < 0.8 else "somebody"
            private = random.random() < 0.4
            new = {"owner": owner, "title": f" {mark} ", "votes": votes, "private": private}
            write = tasks.insert(**({"id": key} if random.random() < 0.7 else {}), **new)
        elif kind == "forbidden":
            write = tasks.insert(id=mark, owner=client.name, title=FORBIDDEN)
        elif kind == "note":
            write = doc.collection(Note).insert(id=mark, mark=mark)
        elif kind == "count":
            amount = random.randint(1, TOO_MUCH)
            kind = "too_much" if amount == TOO_MUCH else kind
            write = doc.call("count", amount=amount)
        elif kind == "clear":
            write = doc.call("clear", below=random.randrange(3))
        elif kind == "together":
            key = mark if key in tasks else key  # another's private one may have it
            with doc.transaction() as write:
                doc.collection(Note).insert(id=mark, mark=mark)
                tasks.insert(id=key, owner=client.name, title=mark, votes=votes)
        elif kind == "card":
            write = self._write_card(cards, random)
        else:
            if not len(tasks):
                return None
            key = random.choice(sorted(tasks))
            row: Any = tasks[key]
            if kind == "remove":
                write = tasks.delete(key)
            elif kind == "hide":
                write = tasks.update(key, private=not row["private"])
            elif kind == "expect":
                write = tasks.update(key, votes=row["votes"] + 1, expect={"votes": row["votes"]})
            else:
                write = tasks.update(key, votes=row["votes"] + votes + 1)
        return Made(doc.id, client.name, kind, write, mark, amount)

    @staticmethod
    def _write_card(cards: Any, random: Random) -> Write:
        key, votes = random.choice(_CARDS), random.randrange(30)
        write: Write
        if key not in cards and random.random() < 0.7:
            write = cards.insert(id=key, shelf=random.choice(SHELVES), votes=votes)
        elif random.random() < 0.2:
            write = cards.delete(key)
        elif random.random() < 0.3:
            write = cards.update(key, shelf=random.choice(SHELVES))
        else:
            write = cards.update(key, votes=votes)
        return write

    async def _look_at(
        self, client: SimClient, doc: CollectionsDoc, kind: str, random: Random
    ) -> None:
        """Open, widen or close what is loaded of the cards."""
        queries, cards = self.queries_of(client, doc.id), doc.collection(Card)
        if kind == "more":
            if "window" in queries:
                await queries["window"].more(random.randint(1, 3))
            return
        name = kind if kind != "unload" else random.choice(("window", "shelf"))
        if name in queries:
            await queries.pop(name).close()
        if kind == "window":
            queries[name] = cards.order_by("votes", desc=True).limit(random.randint(2, 6))
        elif kind == "shelf":
            queries[name] = cards.where(F.shelf == random.choice(SHELVES))
        if name in queries:
            await _loaded(queries[name])

    def _decide(self, client: SimClient, doc: CollectionsDoc, kind: str, random: Random) -> None:
        """What a user says about a write that was not confirmed."""
        waiting = [write for write in doc.writes if write.status == "unconfirmed"]
        if not waiting:
            return
        write = random.choice(waiting)
        if kind == "retry":
            write.retry()
        else:
            self.checks.discarded(write.id)
            write.discard()

    # ---- the application, and other programs -----------------------------------------------------

    def _act_outside(self, action: Action, random: Random) -> None:
        if action.kind == "foreign":
            self.program.write(action.doc_id, _statements(random))
            return
        life, server = self.scene.servers[0].life, self._server
        if server is None or life is None or self.scene.servers[0].core is None:
            return
        work = self._of_the_application(server, action, random)
        life.spawn(_quietly(work), name=action.kind)

    async def _of_the_application(
        self, server: CollectionsServer, action: Action, random: Random
    ) -> None:
        doc_id, statements = action.doc_id, _statements(random)
        match action.kind:
            case "app_write":

                def run(sql: Any) -> None:
                    for statement, params in statements:
                        sql(statement, *params)

                await server.write(doc_id, run)
            case "app_push":
                await server.push(doc_id, Line, content="pushed")
            case "app_touch":
                await server.touch(doc_id, random.choice(list(board.tables)))
            case "app_compact":
                await server.compact(doc_id)
            case "app_history":
                await server.new_history(doc_id)
            case "app_stream":
                await _stream(server, doc_id, random)


async def _stream(server: CollectionsServer, doc_id: str, random: Random) -> None:
    """A line that is written word by word; sometimes the writer fails."""
    async with server.stream(doc_id, Line) as line:
        for number in range(random.randint(2, 12)):
            await asyncio.sleep(random.choice((0.01, 0.2, 3.0)))
            await line.update(content=f"{line.content} {number}")
        if random.random() < 0.3:
            raise PatchesError("the writer of a line gives up")


async def _quietly(work: Any) -> None:
    try:
        await work
    except PatchesError:
        return


async def _loaded(query: Query) -> None:
    """Load a query; if the server or the disk fails, its user tries again."""
    while True:
        try:
            await query.load()
            return
        except DocumentClosedError:
            return
        except PatchesError:
            await asyncio.sleep(5.0)


def _statements(random: Random) -> list[tuple[str, tuple[Any, ...]]]:
    """Some SQL, as the application or another program writes it. Notes and counters are left."""
    key, card, votes = random.choice(_KEYS), random.choice(_CARDS), random.randrange(20)
    shelf, private = random.choice(SHELVES), random.randrange(2)
    choices: list[tuple[str, tuple[Any, ...]]] = [
        ("INSERT OR IGNORE INTO cards VALUES (?, ?, ?)", (card, shelf, votes)),
        ("UPDATE cards SET votes = ? WHERE id = ?", (votes, card)),
        ("UPDATE cards SET votes = votes + 1 WHERE shelf = ?", (shelf,)),
        ("UPDATE cards SET shelf = ? WHERE id = ?", (shelf, card)),
        ("DELETE FROM cards WHERE id = ?", (card,)),
        ("UPDATE OR IGNORE cards SET id = ? WHERE id = ?", (random.choice(_CARDS), card)),
        ("UPDATE tasks SET votes = votes + 1", ()),
        ("UPDATE tasks SET private = ? WHERE id = ?", (private, key)),
        ("INSERT OR REPLACE INTO tasks VALUES (?, 'somebody', 'x', ?, ?)", (key, votes, private)),
        ("DELETE FROM tasks WHERE id = ?", (key,)),
        ("DELETE FROM lines", ()),
    ]
    return random.sample(choices, random.choice((1, 1, 2, 4)))

"""`ReplayFamily`: users of the simulation run actions, and some rows are theirs alone.

A1: what a client has stored is what its user may see of the history at the revision it names, at
any time. A2: no rule that is written in the actions is ever shown broken. A3: an action that was
stored is committed, or set aside. A4: at rest all show what the history comes to, and, where all
that happened is known to whoever runs the actions, that is what running them in the order of their
clocks gives. A5: what a client has made keeps the order in which it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from patches.algorithms.replay import ReplayAlgorithm, ReplayDoc
from patches.algorithms.replay.changes import call_of, clock_of, key_of
from patches.algorithms.replay.running import Invocation
from patches.algorithms.replay.timeline import Entry, Timeline
from patches.documents.document import Document
from patches.model.json_values import Json
from patches.rows.plain_rows import PlainRows
from patches.rows.row_ops import State, parse_row_ops
from patches.rows.working_copy import WorkingCopy
from patches.runtime import Runtime
from patches.testing.sim.disk import docs_of
from patches.testing.sim.families.course import (
    RuleError,
    audiences_of,
    broken_rule,
    course,
    visible_to,
)
from patches.testing.sim.families.family import DocumentFamily, Scene
from patches.testing.sim.loop import Life
from patches.testing.sim.nodes import SimClient
from patches.testing.sim.workload import Action
from patches_server.documents.context import CallContext
from patches_server.documents.services import ServedAlgorithm
from patches_server.replay.algorithm import replay
from patches_server.replay.server import ReplayServer
from patches_server.replay.store import Logged

#: How many changes a server keeps, in the runs in which it folds them.
_FEW: Final = 25


@dataclass(slots=True, eq=False)
class Made:
    """An action of a user, which was stored in the end."""

    client: str
    change_id: str
    stored: bool = False
    given_up: bool = False


@dataclass(slots=True)
class _History:
    """All that was committed to a document, and the rows at each revision."""

    log: list[Logged] = field(default_factory=list)
    states: list[State] = field(default_factory=lambda: [{}])
    rows: PlainRows = field(default_factory=lambda: PlainRows({}))
    made: list[Made] = field(default_factory=list)
    is_folded: bool = False

    @property
    def rev(self) -> int:
        return len(self.log)


class ReplayFamily(DocumentFamily):
    """Documents of `course`. Who runs the actions, and whether rows are private, the seed says."""

    name: ClassVar[str] = "replay"
    edits: ClassVar[Mapping[str, int]] = {
        "book": 16, "cancel": 8, "note": 6, "earn": 10, "spend": 10, "remember": 5, "boast": 5,
        "close": 4, "nothing": 2, "several": 5, "app_run": 3, "app_compact": 2,
    }  # fmt: skip

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        random = scene.config.stream("replay")
        self.is_server_run: bool = random.random() < 0.5
        self._is_private = random.random() < 0.5
        self._folds = random.random() < 0.3
        self._histories = {doc_id: _History() for doc_id in self.doc_ids}
        self._server: ReplayServer | None = None
        self._seen: dict[tuple[str, str], tuple[int, int]] = {}

    # ---- processes -------------------------------------------------------------------------------

    def client_algorithms(self, name: str, runtime: Runtime) -> list[Any]:
        return [ReplayAlgorithm(course(), author=name, runtime=runtime)]

    def served(self, life: Life, runtime: Runtime) -> list[ServedAlgorithm]:
        algorithm = replay(
            course() if self.is_server_run else None,
            audiences=_audiences if self._is_private else None,
            max_entries=_FEW,
            max_action_s=60.0,
        )
        return [ServedAlgorithm(algorithm.name, self._remembering(algorithm), algorithm.checkup)]

    def _remembering(self, algorithm: ServedAlgorithm) -> Any:
        def serve(*given: Any) -> Any:
            services = algorithm.serve(*given)
            assert isinstance(services.documents, ReplayServer)
            self._server = services.documents
            return services

        return serve

    # ---- users -----------------------------------------------------------------------------------

    async def opened(self, client: SimClient, doc: Document) -> None:
        def shown(state: Json) -> None:
            problem = broken_rule(state)
            if problem is not None:
                self.scene.fail("A2", f"{client.name}, {doc.id} shows that {problem}")

        doc.subscribe(shown)

    async def act(self, client: SimClient, action: Action) -> None:
        random = action.random()
        if action.kind.startswith("app_"):
            self._act_on_the_server(action)
            return
        doc = client.doc(action.doc_id)
        if not isinstance(doc, ReplayDoc) or not doc.is_loaded or doc.is_closed:
            return
        history, count = self._histories[doc.id], random.randint(2, 6)
        kinds = random.choices(("book", "cancel", "earn", "spend"), k=count)
        made: list[Made] = []
        for kind in kinds if action.kind == "several" else (action.kind,):
            args: dict[str, Json] = {}
            if kind == "book":
                args["place"] = random.choice("abcdef")
            elif kind == "note":
                args["text"] = random.choice(("x", "y", None))
            elif kind == "remember":
                args["text"] = f"r{action.number}"
            elif kind in ("earn", "spend"):
                args["amount"] = random.randint(1, 5)
            try:
                doc.run(f"{kind}@1", **args)
            except RuleError:
                continue
            made.append(Made(client.name, doc.pending[-1].id))
        history.made += made
        await doc.flush()
        for each in made:
            each.stored = True

    def _act_on_the_server(self, action: Action) -> None:
        server, life = self._server, self.scene.servers[0].life
        if server is None or life is None or not life.alive:
            return
        if action.kind == "app_compact" and self._folds:
            self._histories[action.doc_id].is_folded = True
            life.spawn(_quietly(server.compact(action.doc_id)), name="compact")
        elif action.kind == "app_run" and self.is_server_run:
            amount = action.random().randint(1, 3)
            run = server.run(action.doc_id, "earn@1", author="the app", amount=amount)
            life.spawn(_quietly(run), name="app")

    def given_up(self, client: str, doc_id: str) -> None:
        for made in self._histories[doc_id].made if doc_id in self._histories else ():
            if made.client == client:
                made.given_up = True

    # ---- checks ----------------------------------------------------------------------------------

    def look(self) -> None:
        self._learn()
        for client in self.scene.clients:
            for doc_id, stored in docs_of(client.node.disk.backend, "replay").items():
                head = stored.head
                if head is None or doc_id not in self._histories:
                    continue
                mark = (head.version, head.committed_rev)
                if self._seen.get((client.name, doc_id)) != mark:
                    self._seen[client.name, doc_id] = mark
                    self._check_stored(client, doc_id, mark[1], stored.rows)

    def _learn(self) -> None:
        """What was committed since."""
        for doc_id, stored in docs_of(self.scene.servers[0].node.disk.backend, "replay").items():
            history = self._histories[doc_id]
            for entry in stored.log[max(history.rev - stored.floor, 0) :]:
                history.log.append(entry)
                history.rows.apply(parse_row_ops(entry.change.ops))
                history.states.append(history.rows.state)
                if entry.change.rev != history.rev:
                    self.scene.fail("A1", f"{doc_id}: {entry.change.rev} after {history.rev - 1}")

    def _check_stored(self, client: SimClient, doc_id: str, rev: int, rows: State) -> None:
        history = self._histories[doc_id]
        if rev > history.rev:
            self.scene.fail("A1", f"{client.name}, {doc_id}: at {rev} of {history.rev}")
            return
        found, expected = self._seen_of(client, rows), self._seen_of(client, history.states[rev])
        if found != expected:
            self.scene.fail("A1", f"{client.name}, {doc_id}: stored at {rev}: {found}, {expected}")

    def _seen_of(self, client: SimClient, state: Json) -> Json:
        if self._is_private:
            return visible_to(client.name, state)
        return {name: dict(rows) for name, rows in state.items() if rows}

    def restless(self) -> str:
        self._learn()
        for doc_id, history in self._histories.items():
            for client in self.scene.clients:
                doc = client.doc(doc_id)
                shown = None if client.sync is None else client.sync.synced.get(doc_id)
                if not isinstance(doc, ReplayDoc) or shown is None:
                    return f"{client.name} has not opened {doc_id}"
                if doc.has_pending or shown.has_pending or doc.unsaved:
                    return f"{client.name} has unsent work of {doc_id}: {shown}"
                if not doc.committed_rev == shown.committed_rev == history.rev:
                    return f"{client.name}, {doc_id} at {doc.committed_rev} of {history.rev}"
        return ""

    async def check(self) -> None:
        self._learn()
        for doc_id, history in self._histories.items():
            state = history.states[-1]
            for client in self.scene.clients:
                doc = client.doc(doc_id)
                assert doc is not None
                found, expected = self._seen_of(client, doc.state), self._seen_of(client, state)
                if found != expected:
                    self.scene.fail("A4", f"{client.name}, {doc_id}: {found}, not {expected}")
            await self._check_made(doc_id, history)
            if not history.is_folded and (self.is_server_run or not self._is_loose(doc_id)):
                ordered = _in_clock_order(history.log)
                if _filled(ordered) != _filled(state):
                    self.scene.fail("A4", f"{doc_id}: {state}, in clock order {ordered}")

    def _is_loose(self, doc_id: str) -> bool:
        """Whether some of those who run the actions do not know all that happened."""
        given_up = any(made.given_up for made in self._histories[doc_id].made)
        return self._is_private or given_up or self._began_late(doc_id)

    def _began_late(self, doc_id: str) -> bool:
        for client in self.scene.clients:
            stored = docs_of(client.node.disk.backend, "replay").get(doc_id)
            run = None if stored is None else stored.client_run
            changes = sum(len(unit.changes) for unit in run.units) if run is not None else 0
            if changes != self._histories[doc_id].rev:
                return True
        return False

    async def _check_made(self, doc_id: str, history: _History) -> None:
        keys = {entry.change.id: key_of(entry.change) for entry in history.log}
        aside: set[tuple[str, str]] = set()
        for client in self.scene.clients:
            assert client.patches is not None
            for entry in await client.patches.list_quarantined_changes(doc_id):
                aside.add((client.name, entry.change_id))
        last: dict[str, Any] = {}
        for made in history.made:
            key = keys.get(made.change_id)
            is_known = key is not None or (made.client, made.change_id) in aside
            if made.stored and not made.given_up and not is_known:
                self.scene.fail("A3", f"{doc_id}: {made.client}'s {made.change_id} is lost")
            if key is not None and not made.given_up:
                if made.client in last and key < last[made.client]:
                    self.scene.fail("A5", f"{doc_id}: {made.client}'s {made.change_id} came before")
                last[made.client] = key


async def _quietly(work: Any) -> None:
    try:
        await work
    except Exception:  # the disk, or the end of the process
        pass


def _audiences(context: CallContext) -> set[str]:
    return audiences_of(getattr(context.principal, "id", ""))


def _filled(state: Json) -> Json:
    return {name: dict(rows) for name, rows in state.items() if rows}


def _in_clock_order(log: list[Logged]) -> State:
    """What running all actions in the order of their clocks on an empty database gives."""
    actions = course()
    timeline = Timeline(WorkingCopy(actions.schema))
    entries = []
    for logged in log:
        change = logged.change
        call, clock = call_of(change), clock_of(change)
        if call is None or clock is None:
            continue
        author = change.metadata.get("author")
        invocation = Invocation(
            change_id=change.id,
            action=actions.action_of(call[0]),
            args=call[1],
            now=change.created_at,
            author=author if isinstance(author, str) else None,
            rights=None if logged.rights is None else frozenset(logged.rights),
        )
        entries.append(Entry(id=change.id, key=clock.key(change.id), invocation=invocation))
    timeline.place_all(entries)
    state = timeline.copy.state
    timeline.copy.close()
    return state

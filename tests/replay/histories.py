"""Random histories: three clients with everything that a network and a process do to them.

Clients and server are the real ones; what is between them is a list of calls that a test may lose,
double or delay. After each history all must be equal, and equal to running every action in the
order of its clock on an empty database. No notification may show a rule broken.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from patches.algorithms.base import LocalEdit
from patches.algorithms.replay import ReplayAlgorithm, ReplayDoc
from patches.algorithms.replay.changes import call_of, clock_of
from patches.algorithms.replay.clock import Key
from patches.algorithms.replay.running import Invocation
from patches.algorithms.replay.stores.memory import ReplayMemoryStore
from patches.algorithms.replay.timeline import Entry, Timeline
from patches.errors import ChangeRefusedError, MissingChangesError, StatusError
from patches.model.change import Change, Snapshot
from patches.model.json_values import Json
from patches.options import DocOptions
from patches.rows.working_copy import WorkingCopy
from patches.runtime import Runtime
from patches.testing.sim.families.course import RuleError, audiences_of, broken_rule, course
from patches_server.documents.context import CallContext, call_context
from patches_server.replay.server import ReplayServer
from patches_server.stores.memory.backend import MemoryBackend

DOC = "courses/1"
NAMES = ("ann", "bob", "eve")
RELOAD = 409
_STEPS = 60


@dataclass
class Device:
    """One client: its store, its open document, and what is on the way to it."""

    history: History
    name: str
    store: ReplayMemoryStore = field(default_factory=ReplayMemoryStore)
    inbox: list[Sequence[Change]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    clock_error: int = 0

    async def start(self) -> None:
        history = self.history
        self.algorithm = ReplayAlgorithm(
            history.actions, self.store, author=self.name, runtime=history.runtime_of(self)
        )
        await self.algorithm.track_docs([DOC])
        doc = self.algorithm.create_doc(DOC, await self.algorithm.load_doc(DOC))
        self.doc: ReplayDoc = doc
        doc.subscribe(self.watch)

    def watch(self, state: Json) -> None:
        if problem := broken_rule(state):
            self.broken.append(problem)

    async def act(self, name: str, args: dict[str, Json]) -> None:
        try:
            self.doc.run(f"{name}@1", **args)
        except RuleError:
            pass
        else:
            if self.history.random.random() < 0.7:
                await self.save()

    async def save(self) -> None:
        edits = [LocalEdit(ops, {}) for ops in self.doc.unsaved]
        if edits:
            await self.algorithm.handle_doc_changes(DOC, edits, self.doc)

    async def restart(self) -> None:
        """What was not saved is gone."""
        self.doc.mark_closed()
        self.inbox.clear()
        await self.start()

    def is_at_rest(self, rev: int) -> bool:
        """Nothing is left to send, and nothing to receive."""
        doc = self.doc
        return doc.committed_rev == rev and not doc.has_pending and not doc.unsaved

    async def push(self, *, lose: bool = False) -> None:
        await self.save()
        batch = await self.algorithm.next_batch(DOC, self.doc, DocOptions(max_payload_bytes=4_000))
        if not batch:
            return
        wire = [Change.from_wire(change.to_wire()) for change in batch]
        with self.history.as_user(self.name):
            try:
                result = await self.history.server.commit_changes(DOC, wire)
            except ChangeRefusedError as error:
                assert error.change_id is not None  # noqa: PT017 -- for the types
                if not await self.algorithm.mend_refused_change(
                    DOC, error.change_id, error, self.doc
                ):
                    await self.algorithm.eject_pending_change(
                        DOC, error.change_id, str(error), self.doc
                    )
                return
            except StatusError as error:
                if error.code != RELOAD:
                    raise
                await self.reload()
                return
        if not lose:
            await self.algorithm.receive_answer(DOC, batch, over_the_wire(result.changes), self.doc)

    async def reload(self) -> None:
        with self.history.as_user(self.name):
            snapshot = await self.history.server.get_doc(DOC)
        snapshot = Snapshot(
            state=snapshot.state, rev=snapshot.rev, changes=[], metadata=snapshot.metadata
        )
        await self.algorithm.install_snapshot(DOC, snapshot, self.doc)

    async def pull(self) -> None:
        rev = await self.algorithm.get_committed_rev(DOC)
        with self.history.as_user(self.name):
            changes = await self.history.server.get_changes_since(DOC, rev)
        await self.algorithm.apply_server_changes(DOC, over_the_wire(changes), self.doc)

    async def receive(self) -> None:
        """What was broadcast, as the network gives it."""
        random_ = self.history.random
        if not self.inbox:
            return
        place = random_.randrange(len(self.inbox)) if random_.random() < 0.2 else 0
        changes = self.inbox[place]
        if random_.random() > 0.15:
            del self.inbox[place]
        if random_.random() < 0.1:
            return  # lost
        try:
            await self.algorithm.apply_server_changes(DOC, changes, self.doc)
        except MissingChangesError:
            await self.pull()


def over_the_wire(changes: Sequence[Change]) -> list[Change]:
    return [Change.from_wire(change.to_wire()) for change in changes]


class History:
    """One random history. `runner`: "server" or "client". `private`: rows of one user alone."""

    def __init__(self, seed: int, runner: str, *, private: bool = False) -> None:
        self.random = random.Random(f"{seed}:{runner}:{private}")
        self.runner, self.private = runner, private
        self.actions = course()
        self.ms = 1_800_000_000_000
        self.server = ReplayServer(
            MemoryBackend(),
            self.actions if runner == "server" else None,
            audiences=self._audiences if private else None,
            runtime=Runtime(wall_ms=lambda: self.ms, random=random.Random(seed)),
        )
        self.server.on_changes_committed(self._broadcast)
        self.devices = [Device(self, name) for name in NAMES]

    def runtime_of(self, device: Device) -> Runtime:
        source = random.Random(self.random.random())
        return Runtime(wall_ms=lambda: self.ms + device.clock_error, random=source)

    def as_user(self, name: str) -> Any:
        return call_context(CallContext(client_id=name, connection_id=name, principal=name))

    def _audiences(self, context: CallContext) -> set[str]:
        return audiences_of(str(context.principal))

    async def _broadcast(
        self, doc_id: str, changes: Sequence[Change], _options: object, origin: str | None
    ) -> None:
        for device in self.devices:
            if device.name != origin:
                context = CallContext(principal=device.name)
                seen = await self.server.view(doc_id, changes, context)
                device.inbox.append(over_the_wire(seen))

    def action(self) -> tuple[str, dict[str, Json]]:
        """What somebody does next."""
        random_ = self.random
        kinds = (
            ["book"] * 5 + ["cancel"] * 2 + ["note", "earn", "earn", "spend", "spend", "nothing"]
        )
        if self.private:
            kinds += ["remember", "close", "boast"]
        kind = random_.choice(kinds)
        match kind:
            case "book":
                return kind, {"place": random_.choice("abcdef")}
            case "note":
                return kind, {"text": random_.choice(["x", "y", None])}
            case "earn" | "spend":
                return kind, {"amount": random_.randint(1, 5)}
            case "remember":
                return kind, {"text": f"{random_.random():.6f}"}
        return kind, {}

    async def run(self) -> None:
        """Live through it, come to rest, and check everything."""
        random_ = self.random
        for device in self.devices:
            device.clock_error = random_.choice([0, 0, -30_000, 400, 120_000])
            await device.start()
        offline = set(random_.sample(NAMES, random_.choice([0, 1, 1, 2])))
        for step in range(_STEPS):
            self.ms += random_.choice([0, 1, 1, 50, 5_000])
            if step == _STEPS * 2 // 3:
                offline.clear()
            device = random_.choice(self.devices)
            what = random_.random()
            if what < 0.45:
                await device.act(*self.action())
            elif what < 0.5:
                await device.restart()
            elif device.name in offline:
                continue
            elif what < 0.7:
                await device.push(lose=random_.random() < 0.15)
            elif what < 0.8:
                await device.pull()
            else:
                await device.receive()
        await self._rest()
        await self._check()

    async def _rest(self) -> None:
        for _ in range(40):
            for device in self.devices:
                device.inbox.clear()
                await device.push()
                await device.pull()
            rev = await self.server.store.get_current_rev(DOC)
            if all(device.is_at_rest(rev) for device in self.devices):
                return
        raise AssertionError("it does not come to rest")

    async def _check(self) -> None:
        rev = await self.server.store.get_current_rev(DOC)
        for device in self.devices:
            assert device.broken == [], (device.name, device.broken)
            assert device.doc.committed_rev == rev, device.name
            with self.as_user(device.name):
                seen = (await self.server.get_doc(DOC)).state
            assert filled(device.doc.state) == filled(seen), device.name
            reopened = self.algorithm_over(device)
            again = reopened.create_doc(DOC, await reopened.load_doc(DOC))
            assert filled(again.state) == filled(seen), f"{device.name}, opened again"
        if self.runner == "server" or not self.private:
            expected = await self.in_clock_order()
            assert filled(await self.server.state(DOC)) == filled(expected)

    def algorithm_over(self, device: Device) -> ReplayAlgorithm:
        return ReplayAlgorithm(
            self.actions, device.store, author=device.name, runtime=self.runtime_of(device)
        )

    async def in_clock_order(self) -> Json:
        """What running every action in the order of its clock on an empty database gives."""
        log = (await self.server.store.load(DOC, now=self.ms)).log
        found: list[tuple[Key, Entry]] = []
        for logged in log:
            call, clock = call_of(logged.change), clock_of(logged.change)
            if call is None or clock is None:
                continue
            action = self.actions.action_of(call[0])
            key = clock.key(logged.change.id)
            invocation = Invocation(
                change_id=logged.change.id,
                action=action,
                args=call[1],
                now=logged.change.created_at,
                author=logged.change.metadata.get("author"),
                rights=None if logged.rights is None else frozenset(logged.rights),
            )
            found.append((key, Entry(id=logged.change.id, key=key, invocation=invocation)))
        timeline = Timeline(WorkingCopy(self.actions.schema))
        for _, entry in sorted(found, key=lambda each: each[0]):
            timeline.place(entry)
        return timeline.copy.state


def filled(state: Json) -> Json:
    return {name: dict(rows) for name, rows in state.items() if rows}

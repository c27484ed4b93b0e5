"""The recorded sync traces of `docs/internals/lww.md`: clients, a lossy network and one server.

Each trace runs twice: without an open document, as it was recorded, and with one on each client
that must show the same state at every step.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from patches.algorithms.lww import LWWDoc, merge_server_with_local
from patches.algorithms.lww.receive import accepted_changes
from patches.algorithms.lww.state import build_state
from patches.algorithms.lww.stores.memory import LWWMemoryStore
from patches.algorithms.lww.units import bare, bare_change
from patches.errors import MissingChangesError
from patches.model.change import Change
from patches.model.json_values import Json, Op, json_equal
from patches.runtime import Runtime
from patches_server.lww import LWWServer
from patches_server.lww.stores.memory import LWWMemoryServerStore
from tests.support.conformance import Case, ConformanceTally, conformance_dir
from tests.support.lww_stepwise import StepwiseLWW

HERE: Final = Path(__file__).parent
DOC: Final = "doc"
RAISES: Final = "<original raises>"


class EndsEarlyError(Exception):
    """A step from which on ours differs, by one of the rules in the README."""


class Client:
    def __init__(self, runtime: Runtime, *, opened: bool) -> None:
        self.store = LWWMemoryStore(runtime=runtime)
        self.algorithm = StepwiseLWW(self.store, runtime=runtime)
        self.doc: LWWDoc | None = self.algorithm.create_doc(DOC) if opened else None
        self.confirmed: set[str] = set()  # ids that `confirm_sent` was called with last

    async def unsent(self) -> list[Op]:
        stored = await self.algorithm.load_doc(DOC)
        return [op for change in stored.changes for op in change.ops] if stored else []

    async def edit(self, ops: list[Op]) -> None:
        await self.algorithm.handle_doc_change(DOC, ops, self.doc, {})

    async def observed(self) -> dict[str, Json]:
        stored = await self.algorithm.load_doc(DOC)
        if stored is None:
            return {"committedRev": 0, "committed": {}, "state": {}, "sending": None, "pending": []}
        ops = [op for change in stored.changes for op in change.ops]
        pieces, pending = await self.store.read(
            DOC,
            lambda tables: (
                [bare_change(piece) for piece in tables.sending()],
                [bare(op) for op in tables.pending.ops()],
            ),
        )
        return {
            "committedRev": stored.rev,
            "committed": stored.state,
            "state": build_state(stored.state, ops),
            "sending": plain(pieces[0], sort=True) if pieces else None,
            "pending": by_path(pending),
        }


class World:
    """One trace: a server, its broadcasts and the clients."""

    def __init__(self, clients: int, *, opened: bool) -> None:
        self.now = 0
        runtime = Runtime(wall_ms=lambda: self.now, random=random.Random(1))
        self.server = LWWServer(LWWMemoryServerStore(), runtime=runtime)
        self.broadcasts: list[Change] = []
        self.server.on_changes_committed(
            lambda doc_id, changes, options, origin: self.broadcasts.extend(changes)
        )
        self.clients = [Client(runtime, opened=opened) for _ in range(clients)]

    async def run(self, step: Mapping[str, Any]) -> None:
        self.now = step["now"]
        client = self.clients[step["client"]]
        match step["do"]:
            case "edit":
                await client.edit(step["ops"])
            case "flush":
                await self.flush(client, step)
            case "deliver":
                await self.deliver(client, self.broadcasts[step["broadcast"]], step)
            case "catchup":
                since = await client.algorithm.get_committed_rev(DOC)
                same("since", since, step["since"])
                changes = await self.server.get_changes_since(DOC, since)
                same("changes", [answered(change) for change in changes], step["changes"])
                await self.deliver(client, changes, step)
        await self.compare(client, step["after"])

    async def flush(self, client: Client, step: Mapping[str, Any]) -> None:
        sent = await client.algorithm.get_pending_to_send(DOC)
        same("request", plain(sent[0], sort=True) if sent else None, step.get("request"))
        lost = step.get("lost")
        if not sent or lost == "request":
            return
        known = len(self.broadcasts)
        before = (await self.server.get_doc(DOC)).head
        result = await self.server.commit_changes(DOC, sent)
        if step.get("broadcast") is None and step["server"]["rev"] > before:
            raise EndsEarlyError("a revision without a broadcast")
        same("response", answered(result.changes[0]), step["response"])
        told = [answered(change) | {"index": known} for change in self.broadcasts[known:]]
        same("broadcast", told[0] if told else None, step.get("broadcast"))
        if lost == "response":
            return
        corrections = await client.algorithm.confirm_sent(DOC, sent, client.doc)
        client.confirmed = {change.id for change in sent}
        same("corrections", by_path(corrections), step["corrections"])
        if lost != "apply":
            await self.deliver(client, result.changes, step)

    async def deliver(
        self, client: Client, changes: Change | Sequence[Change], step: Mapping[str, Any]
    ) -> None:
        changes = [changes] if isinstance(changes, Change) else changes
        try:
            cursor = await client.algorithm.get_committed_rev(DOC)
            accepted = accepted_changes(changes, cursor, client.confirmed)
            await client.algorithm.apply_server_changes(DOC, changes, client.doc)
        except MissingChangesError as error:
            got = {
                "name": "MissingChangesError",
                "expectedRev": error.expected_rev,
                "gotRev": error.got_rev,
                "sinceRev": error.since_rev,
            }
            recorded = step["error"]
            assert recorded is not None
            assert all(recorded.get(key, value) == value for key, value in got.items())
            return
        assert "error" not in step, f"recorded an error: {step.get('error')}"
        # Recorded is what 0.28.1 returns: what was taken, as it shows beside unsent writes.
        shown = merge_server_with_local(accepted, await client.unsent())
        same("applied", [answered(change) for change in shown], step["applied"])

    async def compare(self, client: Client, after: Mapping[str, Any]) -> None:
        observed = await client.observed()
        for key, recorded in after.items():
            if recorded != RAISES:
                same(key, observed[key], recorded)
        if client.doc is not None:
            same("open document", client.doc.state, observed["state"])
            same("its revision", client.doc.committed_rev, observed["committedRev"])


def plain(change: Change, *, sort: bool = False) -> dict[str, Json]:
    ops = by_path(change.ops) if sort else change.ops
    return {"baseRev": change.base_rev, "rev": change.rev, "ops": ops}


def answered(change: Change) -> dict[str, Json]:
    return plain(change) | {"committedAt": change.committed_at}


def by_path(ops: Sequence[Op]) -> list[Op]:
    return sorted(ops, key=lambda op: str(op["path"]))


def normal(value: Json) -> Json:
    """Ops of one `(rev, ts)` may be compared as sets."""
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, dict) and isinstance(value.get("ops"), list):
        ops = sorted(
            value["ops"],
            key=lambda op: (op.get("rev") or 0, op.get("ts") or 0, json.dumps(op, sort_keys=True)),
        )
        return {**value, "ops": ops}
    return value


def same(what: str, got: Json, recorded: Json) -> None:
    assert json_equal(normal(got), normal(recorded)), f"{what}: got {got}, recorded {recorded}"


async def run_trace(trace: Case, *, opened: bool) -> bool:
    """Whether it ran to its end."""
    world = World(trace["clients"], opened=opened)
    for number, step in enumerate(trace["steps"]):
        try:
            await world.run(step)
        except EndsEarlyError:
            return False
        except Exception as error:
            raise AssertionError(f"{trace['name']}, step {number}: {error!r}") from error
    for client in world.clients:
        observed = await client.observed()
        if trace.get("converged"):
            same("final", observed["committed"], trace["final"])
    return True


@pytest.mark.parametrize("opened", [False, True], ids=["stored", "open documents"])
async def test_the_recorded_sync_traces(opened: bool, conformance: ConformanceTally) -> None:
    path = conformance_dir("lww", default=HERE) / "sync-traces.json"
    traces = json.loads(path.read_text(encoding="utf-8"))["traces"]
    ended, failures = 0, []
    for trace in traces:
        try:
            ended += not await run_trace(trace, opened=opened)
        except AssertionError as error:
            failures.append(str(error))
    if not opened:
        conformance.record("lww-sync", len(traces), f"{ended} ended early", failures=len(failures))
    assert not failures, "\n".join(failures[:10])
